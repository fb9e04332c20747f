"""Folders of several files, families, and weights that are read by slices onto a mesh."""

import dataclasses
import json
import re

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from irec_jax.errors import InputError
from irec_jax.model import pretrained
from irec_jax.model.config import T5Config
from irec_jax.model.hf_names import CONFIG, from_hf_config, to_hf_config
from irec_jax.model.params import abstract, count
from irec_jax.model.pretrained import INDEX, WEIGHTS, load_hf, open_hf, save_hf
from irec_jax.training.sharding import MeshConfig, make_mesh, state_shardings

from .conftest import FORMS, open_peer, random_params

# Every axis that a mesh of eight cuts can be cut in eight.
EVEN = T5Config(
    vocabulary=128,
    width=64,
    head_dim=16,
    heads=4,
    mlp_dim=96,
    encoder_layers=2,
    decoder_layers=3,
    unroll_layers=False,
    family="umt5",
)
MESHES = {"2x2x2": MeshConfig(data=2, fsdp=2, tensor=2), "8x1x1": MeshConfig(data=1, fsdp=8)}


class CountingFile:
    """A safetensors file that writes down how large the slices were that it was asked for."""

    asked: list[tuple[str, int]]

    def __init__(self, path, framework):
        self._file = safe_open(path, framework)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)

    def keys(self):
        return self._file.keys()

    def get_slice(self, name):
        return CountingSlice(name, self._file.get_slice(name))

    def get_tensor(self, name):
        raise AssertionError(f"the whole of {name} was read")


class CountingSlice:
    def __init__(self, name, stored):
        self._name, self._stored = name, stored
        self.get_shape, self.get_dtype = stored.get_shape, stored.get_dtype

    def __getitem__(self, index):
        part = self._stored[index]
        CountingFile.asked.append((self._name, part.size))
        return part


@pytest.fixture
def asked(monkeypatch):
    CountingFile.asked = []
    monkeypatch.setattr(pretrained, "safe_open", CountingFile)
    return CountingFile.asked


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
def test_weights_on_a_mesh_are_those_on_one_device_and_never_whole(mesh, dtype, tmp_path, asked):
    save_hf(tmp_path / "t5", EVEN, random_params(EVEN), file_bytes=60_000)
    for path in (tmp_path / "t5").glob("*.safetensors"):
        save_file({name: array.astype(dtype) for name, array in load_file(path).items()}, path)
    _, whole = load_hf(tmp_path / "t5")
    asked.clear()
    shardings = state_shardings(make_mesh(MESHES[mesh]), abstract(EVEN))
    config, params = load_hf(tmp_path / "t5", shardings)
    assert config == EVEN
    jax.tree.map(np.testing.assert_array_equal, params, whole)
    assert jax.tree.map(lambda leaf: leaf.sharding, params) == shardings

    per_name = {}
    for name, size in asked:
        per_name.setdefault(name, []).append(size)
    # Each number is read once, in pieces no larger than what one device holds of a layer.
    assert sum(map(sum, per_name.values())) == count(whole)
    parts = MESHES[mesh].fsdp * MESHES[mesh].tensor
    cut = [name for name in per_name if ".weight" in name and "norm" not in name]
    for name in [name for name in cut if "bias" not in name]:
        assert max(per_name[name]) * parts == sum(per_name[name]), name


def test_large_arrays_are_read_a_piece_at_a_time(tmp_path, asked, monkeypatch):
    params = random_params(EVEN)
    save_hf(tmp_path / "t5", EVEN, params)
    monkeypatch.setattr(pretrained, "READ_BYTES", 4_096)
    with open_hf(tmp_path / "t5") as (_, stored):
        assert not asked  # nothing is read before it is asked for
        part = stored["head"][slice(8, 40), slice(3, 100)]
        query = stored["encoder"]["layers"]["attention"]["query"]
        layer = query[slice(1, 2), slice(0, 64), slice(16, 32)]
        nothing = stored["head"][slice(8, 8), slice(3, 100)]
    np.testing.assert_array_equal(part, params["head"][8:40, 3:100])
    expected = params["encoder"]["layers"]["attention"]["query"][1:2, :, 16:32]
    np.testing.assert_array_equal(layer, expected)
    assert nothing.shape == (0, 97)
    assert max(size for _, size in asked) <= 1_024


@pytest.mark.parametrize("form", FORMS)
def test_an_export_in_several_files_is_bit_equal_and_none_is_too_large(form, tmp_path):
    config, params = FORMS[form], random_params(FORMS[form])
    save_hf(tmp_path / "t5", config, params, file_bytes=20_000)
    files = sorted((tmp_path / "t5").glob("*.safetensors"))
    assert len(files) > 2
    assert files[0].name == f"model-00001-of-{len(files):05}.safetensors"
    index = json.loads((tmp_path / "t5" / INDEX).read_text())
    assert index["metadata"]["total_size"] == 4 * count(params)
    for file in files:
        arrays = load_file(file)
        assert sum(array.nbytes for array in arrays.values()) <= 20_000
        assert {index["weight_map"][name] for name in arrays} == {file.name}
    loaded, again = load_hf(tmp_path / "t5")
    assert loaded == config
    jax.tree.map(np.testing.assert_array_equal, again, params)


@pytest.mark.parity
@pytest.mark.parametrize("form", ["v1.0", "mt5", "umt5"])
def test_transformers_loads_an_export_in_several_files(form, tmp_path):
    pytest.importorskip("torch")
    config, params = FORMS[form], random_params(FORMS[form])
    save_hf(tmp_path / "t5", config, params, file_bytes=20_000)
    peer = open_peer(tmp_path / "t5")
    assert peer.config.model_type == config.family
    assert type(peer).__name__.lower() == f"{config.family}forconditionalgeneration"
    peer.save_pretrained(tmp_path / "again")
    loaded, again = load_hf(tmp_path / "again")
    assert loaded == config
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_the_published_families_are_understood():
    """As of google/mt5-small, google/umt5-base, and what transformers 5 makes of them."""
    small = {
        **{"model_type": "mt5", "d_ff": 1024, "d_kv": 64, "d_model": 512, "num_heads": 6},
        **{"num_layers": 8, "num_decoder_layers": 8, "vocab_size": 250112},
        **{"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    }
    mt5 = T5Config.small(family="mt5", vocabulary=250_112)
    assert from_hf_config(small) == mt5
    assert from_hf_config(small | {"tie_word_embeddings": True}) == mt5
    umt5 = dataclasses.replace(mt5, family="umt5", vocabulary=256_384)
    theirs = small | {"model_type": "umt5", "vocab_size": 256384}
    assert from_hf_config(theirs) == umt5
    theirs |= {"tie_word_embeddings": True, "scale_decoder_outputs": False}
    assert from_hf_config(theirs) == umt5
    for config in (mt5, umt5):
        settings = to_hf_config(config)
        assert settings["model_type"] == config.family
        assert from_hf_config(settings) == config


# transformers' counts; umT5 has 32 x heads more numbers for each layer but the first of a side.
@pytest.mark.parametrize(
    ("config", "numbers"),
    [
        (T5Config.small(family="mt5", vocabulary=250_112), 300_176_768),
        (
            T5Config.flan("large", family="mt5", vocabulary=250_112),
            1_229_581_312,
        ),
        (
            T5Config.small(family="umt5", vocabulary=250_112),
            300_176_768 + 2 * 7 * 32 * 6,
        ),
    ],
)
def test_the_published_sizes_have_their_number_of_weights(config, numbers):
    assert count(abstract(config)) == numbers


def test_every_layer_of_umt5_has_positions_of_its_own():
    shapes = abstract(EVEN)
    assert shapes["encoder"]["bias"].shape == (2, 32, 4)
    assert shapes["decoder"]["bias"].shape == (3, 32, 4)


def test_an_mt5_with_a_tied_head_is_refused():
    with pytest.raises(InputError, match=r"model\.tied_head"):
        dataclasses.replace(EVEN, family="mt5", tied_head=True)


def restored(folder, change):
    arrays = load_file(folder / WEIGHTS)
    change(arrays)
    save_file(arrays, folder / WEIGHTS)
    return load_hf(folder)[1]


@pytest.mark.parametrize("form", ["v1.0", "v1.1"])
@pytest.mark.parametrize("name", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])
def test_an_embedding_under_another_of_its_names_is_found(form, name, tmp_path):
    config, params = FORMS[form], random_params(FORMS[form])
    save_hf(tmp_path / "t5", config, params)

    def rename(arrays):
        arrays[name] = arrays.pop("shared.weight")

    jax.tree.map(np.testing.assert_array_equal, restored(tmp_path / "t5", rename), params)


def test_a_tied_head_that_is_stored_again_must_be_the_embedding(tmp_path):
    config, params = FORMS["v1.0"], random_params(FORMS["v1.0"])
    save_hf(tmp_path / "t5", config, params)

    def repeat(arrays):
        arrays["lm_head.weight"] = arrays["shared.weight"].copy()

    def move(arrays):
        arrays.pop("shared.weight")

    def part(arrays):
        arrays["shared.weight"] = arrays["lm_head.weight"] * 2

    for change in (repeat, move):
        jax.tree.map(np.testing.assert_array_equal, restored(tmp_path / "t5", change), params)
    with pytest.raises(InputError, match="untied head"):
        restored(tmp_path / "t5", part)


@pytest.fixture
def parts(tmp_path):
    save_hf(tmp_path / "t5", EVEN, random_params(EVEN), file_bytes=100_000)
    return tmp_path / "t5"


def refused(folder, message):
    with pytest.raises(InputError, match=message) as error:
        load_hf(folder)
    assert str(error.value).count("Hint:") == 1


def test_a_missing_or_cut_off_part_is_named(parts):
    part = sorted(parts.glob("model-0*"))[1]
    whole = part.read_bytes()
    part.write_bytes(whole[:-8])  # a download that broke off
    refused(parts, f"{re.escape(part.name)}: is damaged")
    part.unlink()
    refused(parts, f"{re.escape(part.name)}: is missing")


def test_a_damaged_index_and_arrays_that_no_file_has_are_named(parts):
    index = json.loads((parts / INDEX).read_text())
    last = sorted(set(index["weight_map"].values()))[-1]
    kept = {name: file for name, file in index["weight_map"].items() if file != last}
    (parts / INDEX).write_text(json.dumps({"weight_map": kept}))
    refused(parts, "the array '.*' is missing")
    for damaged in ({}, {"weight_map": [1]}, {"weight_map": {"shared.weight": 3}}, []):
        (parts / INDEX).write_text(json.dumps(damaged))
        refused(parts, re.escape(INDEX))


def test_quantized_weights_and_torch_files_are_refused_with_a_hint(tmp_path):
    folder = tmp_path / "t5"
    save_hf(folder, EVEN, random_params(EVEN))
    arrays = load_file(folder / WEIGHTS)
    save_file(
        {**arrays, "shared.weight": arrays["shared.weight"].astype(np.int8)}, folder / WEIGHTS
    )
    refused(folder, "is of dtype I8")
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    refused(folder, "save_pretrained")
    (folder / CONFIG).unlink()
    refused(folder, f"{re.escape(CONFIG)}: is missing")
