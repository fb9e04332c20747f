"""Hugging Face folders: there and back, and what is wrong with a folder."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from irec_jax.errors import InputError
from irec_jax.model.params import merge, structure
from irec_jax.model.pretrained import (
    CONFIG,
    INDEX,
    WEIGHTS,
    from_hf_config,
    load_hf,
    save_hf,
    to_hf_config,
)
from irec_jax.model.seq2seq import shift_right

from .conftest import open_peer, random_params

pytestmark = pytest.mark.fast


@pytest.fixture
def folder(config, tmp_path):
    save_hf(tmp_path / "t5", config, random_params(config))
    return tmp_path / "t5"


def change(folder, edit):
    arrays = load_file(folder / WEIGHTS)
    edit(arrays)
    save_file(arrays, folder / WEIGHTS)


def test_weights_are_bit_equal_after_there_and_back(config, folder):
    loaded, params = load_hf(folder)
    assert loaded == config
    jax.tree.map(np.testing.assert_array_equal, params, random_params(config))


@pytest.mark.parity
def test_an_exported_folder_loads_in_transformers_and_agrees(config, folder):
    torch = pytest.importorskip("torch")
    peer = open_peer(folder)
    assert peer.generation_config.decoder_start_token_id == 0
    rng = np.random.default_rng(0)
    inputs = rng.integers(2, 96, (2, 9)).astype(np.int32)
    targets = rng.integers(2, 96, (2, 5)).astype(np.int32)

    def run(params):
        model = merge(structure(config), params)
        ones, target_ones = np.ones_like(inputs), np.ones_like(targets)
        encoded = model.encode(jax.numpy.asarray(inputs), jax.numpy.asarray(ones))
        segments = jax.numpy.asarray(target_ones)
        shifted = shift_right(jax.numpy.asarray(targets), segments)
        hidden = model.decode(shifted, segments, encoded, jax.numpy.asarray(ones))
        return model.logits(hidden)

    with torch.no_grad():
        theirs = peer(input_ids=torch.tensor(inputs).long(), labels=torch.tensor(targets).long())
    ours = jax.jit(run)(random_params(config))
    np.testing.assert_allclose(ours, theirs.logits.numpy(), rtol=1e-4, atol=1e-4)


def test_sharded_and_half_precision_folders_load(config, folder):
    import ml_dtypes

    arrays = {
        name: array.astype(ml_dtypes.bfloat16)
        for name, array in load_file(folder / WEIGHTS).items()
    }
    names = sorted(arrays)
    places = {}
    for part in range(2):
        file = f"model-{part + 1:05}-of-00002.safetensors"
        save_file({name: arrays[name] for name in names[part::2]}, folder / file)
        places.update(dict.fromkeys(names[part::2], file))
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / WEIGHTS).unlink()
    _, params = load_hf(folder)
    rounded = jax.tree.map(
        lambda leaf: np.asarray(leaf).astype(ml_dtypes.bfloat16).astype(np.float32),
        random_params(config),
    )
    jax.tree.map(np.testing.assert_array_equal, params, rounded)


def test_a_head_that_is_the_embedding_may_be_stored_once():
    from .conftest import FORMS

    settings = to_hf_config(FORMS["v1.1"])
    # As transformers 5 writes it for any T5.
    settings |= {"tie_word_embeddings": True, "scale_decoder_outputs": False}
    assert from_hf_config(settings) == FORMS["v1.1"]


def test_the_published_configs_are_understood():
    """As of google-t5/t5-small, google/t5-v1_1-small and google/flan-t5-small."""
    t5 = {
        **{"model_type": "t5", "d_ff": 2048, "d_kv": 64, "d_model": 512, "num_heads": 8},
        **{"num_layers": 6, "vocab_size": 32128, "relative_attention_num_buckets": 32},
    }
    first = from_hf_config(t5)
    assert (first.tied_head, first.is_gated, first.activation) == (True, False, "relu")
    assert (first.encoder_layers, first.decoder_layers) == (6, 6)
    flan = t5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "d_ff": 1024}
    flan |= {"num_heads": 6, "num_layers": 8, "num_decoder_layers": 8}
    from irec_jax.model.config import T5Config

    assert from_hf_config(flan) == T5Config.small()


BAD_CONFIGS = {
    "model_type": ("bert", "not 't5'"),
    "d_model": (None, "d_model missing"),
    "feed_forward_proj": ("swiglu", "swiglu"),
    "dropout_rate": (3.0, r"model\.dropout"),
    "relative_attention_num_buckets": (8, "published T5 models have 32"),
    "layer_norm_epsilon": (1e-5, "layer_norm_epsilon is 1e-05"),
}


@pytest.mark.parametrize("key", BAD_CONFIGS)
def test_a_config_that_does_not_fit_is_refused(key, folder):
    value, message = BAD_CONFIGS[key]
    settings = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(settings | {key: value}))
    with pytest.raises(InputError, match=message):
        load_hf(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{re.escape(name)}: is missing"):
        load_hf(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_damaged_file_is_named(folder, name):
    (folder / name).write_bytes(b"\xff\xfe half")
    with pytest.raises(InputError, match=re.escape(name)):
        load_hf(folder)


def test_missing_strange_and_misshapen_arrays_are_named(folder):
    name = "decoder.block.1.layer.1.EncDecAttention.k.weight"
    good = load_file(folder / WEIGHTS)
    change(folder, lambda arrays: arrays.pop(name))
    with pytest.raises(InputError, match=rf"{re.escape(name)}' is missing"):
        load_hf(folder)
    change(folder, lambda arrays: arrays.update(good, **{name: good[name][:-1].copy()}))
    with pytest.raises(InputError, match=rf"{re.escape(name)}' has the wrong shape"):
        load_hf(folder)
    change(folder, lambda arrays: arrays.update(good, **{"encoder.extra": good[name]}))
    with pytest.raises(InputError, match=r"encoder\.extra"):
        load_hf(folder)


def test_copies_of_arrays_from_older_versions_are_ignored(config, folder):
    shared = load_file(folder / WEIGHTS)["shared.weight"]
    change(folder, lambda arrays: arrays.update({"encoder.embed_tokens.weight": shared}))
    loaded, _ = load_hf(folder)
    assert loaded == config


def test_a_failed_save_leaves_the_old_folder(config, folder, monkeypatch):
    before = (folder / WEIGHTS).read_bytes()
    monkeypatch.setattr("irec_jax.model.pretrained.save_file", _disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_hf(folder, dataclasses.replace(config, dropout=0.3), random_params(config, 1))
    assert (folder / WEIGHTS).read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def _disk_full(*_args, **_kwargs):
    raise OSError(28, "No space left on device")
