"""Initial weights: item rows from titles, new rows of a larger vocabulary."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from irec_jax.errors import InputError
from irec_jax.model.config import T5Config
from irec_jax.model.params import abstract, initialize
from irec_jax.model.pretrained import load_hf, save_hf
from irec_jax.training import init_weights, item_rows
from irec_jax.training.init_weights import extend_vocabulary, from_pretrained, from_scratch
from irec_jax.training.item_rows import ItemTitles, init_item_rows
from irec_jax.training.sharding import MeshConfig, make_mesh, state_shardings

# Items 0 to 3 are the tokens 24 to 27; item 2 has no title.
TITLES = ItemTitles(
    first=24, offsets=np.array([0, 2, 5, 5, 6]), tokens=np.array([3, 4, 5, 5, 6, 7], np.int32)
)
PIECES = {24: [3, 4], 25: [5, 5, 6], 27: [7]}


def token_rows(params):
    return {"embedding": np.asarray(params["embedding"]), "head": np.asarray(params["head"]).T}


def test_item_rows_are_centered_title_means_with_the_spread_of_text_rows(params):
    before, after = token_rows(params), token_rows(init_item_rows(params, TITLES))
    for name, rows in after.items():
        text = before[name][:24]
        spread = np.sqrt(np.mean(np.sum((text - text.mean(axis=0)) ** 2, axis=1)))
        means = {token: before[name][pieces].mean(axis=0) for token, pieces in PIECES.items()}
        shared = np.mean(list(means.values()), axis=0)
        for token, mean in means.items():
            centered, offset = mean - shared, rows[token] - text.mean(axis=0)
            np.testing.assert_allclose(np.linalg.norm(offset), spread, rtol=1e-5)
            np.testing.assert_allclose(
                offset / spread, centered / np.linalg.norm(centered), rtol=1e-4, atol=1e-6
            )
        untouched = [token for token in range(32) if token not in PIECES]
        np.testing.assert_array_equal(rows[untouched], before[name][untouched])


def test_a_share_below_one_separates_items_with_the_same_title(params):
    offsets, tokens = np.array([0, 1, 2, 3]), np.array([3, 3, 5], np.int32)
    whole = token_rows(init_item_rows(params, ItemTitles(24, offsets, tokens)))["embedding"]
    half = ItemTitles(24, offsets, tokens, share=0.5)
    rows = token_rows(init_item_rows(params, half))["embedding"]
    before = np.asarray(params["embedding"])
    center = before[:24].mean(axis=0)
    mixed = center + np.sqrt(0.5) * (whole[24] - center + before[24] - center)
    np.testing.assert_allclose(rows[24], mixed, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(whole[24], whole[25])
    assert not np.allclose(rows[24], rows[25])


def test_titles_that_are_all_equal_change_nothing(params):
    same = ItemTitles(24, np.array([0, 1, 2]), np.array([3, 3], np.int32))
    for name, rows in token_rows(init_item_rows(params, same)).items():
        np.testing.assert_array_equal(rows, token_rows(params)[name])


def test_a_tied_head_is_not_added(params):
    tied = {name: value for name, value in params.items() if name != "head"}
    assert "head" not in init_item_rows(tied, TITLES)
    assert "head" not in extend_vocabulary(tied, 40, 0)


def test_new_rows_have_the_scale_of_the_old_and_depend_on_the_seed(params):
    longer = token_rows(extend_vocabulary(params, 4096, seed=1))
    for name, rows in token_rows(params).items():
        np.testing.assert_array_equal(longer[name][:32], rows)
        np.testing.assert_allclose(longer[name][32:].std(), np.sqrt(np.mean(rows**2)), rtol=0.02)
    again, other = (token_rows(extend_vocabulary(params, 4096, seed=seed)) for seed in (1, 2))
    np.testing.assert_array_equal(again["head"], longer["head"])
    assert not np.array_equal(other["head"], longer["head"])


def test_a_pretrained_folder_initializes_a_larger_vocabulary(tmp_path, tiny, params):
    save_hf(tmp_path / "t5", tiny, params)
    larger = dataclasses.replace(tiny, vocabulary=64, dropout=0.0)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    started = from_pretrained(tmp_path / "t5", larger, 0)(device)
    assert started["embedding"].shape == (64, 16)
    np.testing.assert_array_equal(started["embedding"][:32], params["embedding"])
    np.testing.assert_array_equal(started["head"][:, :32], params["head"])
    jax.tree.map(np.testing.assert_array_equal, started["encoder"], params["encoder"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 4}, "the weights have heads 2, the config has 4"),
        ({"vocabulary": 16}, "the weights have 32 tokens, the config 16"),
    ],
)
def test_a_folder_of_another_model_is_refused(tmp_path, tiny, params, change, message):
    save_hf(tmp_path / "t5", tiny, params)
    with pytest.raises(InputError, match=message):
        from_pretrained(tmp_path / "t5", dataclasses.replace(tiny, **change), 0)(None)


def test_titles_change_only_the_item_rows_of_random_weights(tiny, params):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    started = from_scratch(tiny, 0, TITLES)(device)
    expected = init_item_rows(params, TITLES)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(started), expected)


MESHES = {
    "one": None,
    "2x2x2": MeshConfig(data=2, fsdp=2, tensor=2),
    "8x1x1": MeshConfig(data=1, fsdp=8),
    "tensor": MeshConfig(data=1, tensor=8),
}
LARGER = T5Config(
    vocabulary=512,
    width=32,
    head_dim=8,
    heads=8,
    mlp_dim=64,
    encoder_layers=2,
    decoder_layers=2,
    family="umt5",
)
WORDS = ItemTitles(
    first=300,
    offsets=np.array([0, 3, 3, 5, 9, 11]),
    tokens=np.arange(3, 25, 2, np.int32),
    share=0.7,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of 128 tokens, in several files."""
    small = dataclasses.replace(LARGER, vocabulary=128)
    folder = tmp_path_factory.mktemp("weights") / "umt5"
    save_hf(folder, small, initialize(small, jax.random.key(3)), file_bytes=50_000)
    return folder


def shardings_on(name):
    if MESHES[name] is None:
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return state_shardings(make_mesh(MESHES[name]), abstract(LARGER))


@pytest.fixture(scope="module")
def on_one(folder):
    return jax.device_get(from_pretrained(folder, LARGER, 0, WORDS)(shardings_on("one")))


@pytest.mark.parametrize("mesh", MESHES)
def test_new_tokens_and_titles_are_bit_equal_on_any_mesh(mesh, folder, on_one):
    started = from_pretrained(folder, LARGER, 0, WORDS)(shardings_on(mesh))
    jax.tree.map(np.testing.assert_array_equal, started, on_one)
    if MESHES[mesh] is not None:
        assert jax.tree.map(lambda leaf: leaf.sharding, started) == shardings_on(mesh)


def test_rows_that_are_read_by_slices_equal_those_of_the_whole_array(folder, on_one):
    _, params = load_hf(folder)
    whole = init_item_rows(extend_vocabulary(params, 512, 0), WORDS)
    jax.tree.map(np.testing.assert_array_equal, whole, on_one)
    untitled = extend_vocabulary(params, 512, 0)
    same = [*range(300), 301, *range(305, 512)]
    for name, rows in token_rows(untitled).items():
        np.testing.assert_array_equal(token_rows(whole)[name][same], rows[same])
        assert not np.allclose(token_rows(whole)[name][300], rows[300])


def test_new_rows_of_embedding_and_head_are_unrelated(folder):
    _, params = load_hf(folder)
    rows = token_rows(extend_vocabulary(params, 512, 0))
    correlation = np.corrcoef(rows["embedding"][128:].ravel(), rows["head"][128:].ravel())[0, 1]
    assert abs(correlation) < 0.05


@pytest.mark.parametrize("mesh", ["2x2x2", "8x1x1"])
def test_random_weights_with_titles_do_not_depend_on_the_mesh(mesh):
    titled = from_scratch(LARGER, 0, WORDS)(shardings_on(mesh))
    jax.tree.map(
        np.testing.assert_array_equal, titled, from_scratch(LARGER, 0, WORDS)(shardings_on("one"))
    )
    assert titled["embedding"].sharding == shardings_on(mesh)["embedding"]


def test_the_size_of_blocks_does_not_change_the_rows(folder, on_one, monkeypatch):
    for module in (init_weights, item_rows):
        monkeypatch.setattr(module, "ROWS_PER_BLOCK", 7)
    monkeypatch.setattr(item_rows, "COLUMNS_PER_BLOCK", 5)
    small_blocks = from_pretrained(folder, LARGER, 0, WORDS)(shardings_on("2x2x2"))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), small_blocks, on_one)


def test_a_few_unused_rows_of_a_published_model_are_left_out(tmp_path, tiny):
    published = dataclasses.replace(tiny, vocabulary=32_128)
    params = initialize(published, jax.random.key(0))
    save_hf(tmp_path / "t5", published, params)
    needed = dataclasses.replace(tiny, vocabulary=32_000)  # as many as T5 has pieces
    started = from_pretrained(tmp_path / "t5", needed, 0)(shardings_on("one"))
    np.testing.assert_array_equal(started["embedding"], params["embedding"][:32_000])
    np.testing.assert_array_equal(started["head"], params["head"][:, :32_000])


def test_another_family_is_named(folder):
    ours = dataclasses.replace(LARGER, family="mt5")
    with pytest.raises(InputError, match=r"Set model\.family to 'umt5'"):
        from_pretrained(folder, ours, 0)(shardings_on("one"))
