"""Packing, padding, decoding, dropout and dtypes of the model itself."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irec_jax.errors import InputError
from irec_jax.model.config import T5Config
from irec_jax.model.params import abstract, count, initialize, merge, structure
from irec_jax.model.seq2seq import START, shift_right
from irec_jax.training.sharding import MeshConfig, make_mesh

from .conftest import FORMS, random_params

LENGTHS = [(9, 3), (4, 5), (6, 1), (11, 4)]  # source and target tokens of four examples


@pytest.fixture
def config(request):
    """One form is enough for most: test_parity.py compares all of them with transformers."""
    return FORMS[getattr(request, "param", "v1.1")]


# Where it matters whether layers share their positions.
each_form = pytest.mark.parametrize("config", ["v1.1", "umt5"], indirect=True)


@pytest.fixture
def params(config):
    return random_params(config)


@pytest.fixture
def examples():
    rng = np.random.default_rng(5)
    return [
        (rng.integers(2, 96, source), rng.integers(2, 96, target)) for source, target in LENGTHS
    ]


def packed(rows, source_length, target_length):
    """Rows of examples as inputs, segments, targets, target segments."""
    batch = [
        np.zeros((len(rows), length), np.int32)
        for length in (source_length, source_length, target_length, target_length)
    ]
    for row, members in enumerate(rows):
        at = [0, 0]
        for segment, example in enumerate(members, start=1):
            for side, tokens in enumerate(example):
                here = slice(at[side], at[side] + len(tokens))
                batch[2 * side][row, here] = tokens
                batch[2 * side + 1][row, here] = segment
                at[side] += len(tokens)
    return [jnp.asarray(array) for array in batch]


def token_losses(config, params, batch, key=None):
    inputs, segments, targets, target_segments = batch
    model = merge(structure(config), params)
    encoded = model.encode(inputs, segments, dropout_key=key)
    decoder_inputs = shift_right(targets, target_segments)
    hidden = model.decode(decoder_inputs, target_segments, encoded, segments, dropout_key=key)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(model.logits(hidden)), targets[..., None], -1)
    return -jnp.where(target_segments > 0, chosen[..., 0], 0.0)


losses_of = jax.jit(token_losses, static_argnums=0)


def test_packed_and_unpacked_batches_have_the_same_losses_and_gradients(config, params, examples):
    alone = packed([[example] for example in examples], 12, 6)
    together = packed([examples[:2], examples[2:]], 18, 9)

    def loss(params, batch):
        return token_losses(config, params, batch).sum()

    one, gradient = jax.jit(jax.value_and_grad(loss))(params, alone)
    other, same_gradient = jax.jit(jax.value_and_grad(loss))(params, together)
    np.testing.assert_allclose(one, other, rtol=1e-5)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
    for left, right in zip(jax.tree.leaves(gradient), jax.tree.leaves(same_gradient), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5 * scale, rtol=1e-3)


def test_an_example_does_not_attend_to_other_examples_or_later_tokens(examples):
    config = T5Config(**{**SMALL_SIZES, "encoder_layers": 1, "decoder_layers": 1})
    params = random_params(config)
    batch = packed([examples[:2]], 18, 9)
    before = losses_of(config, params, batch)
    inputs, segments, targets, target_segments = batch
    changed = inputs.at[0, 0].set(95), segments, targets.at[0, 2].set(95), target_segments
    after = losses_of(config, params, changed)
    second = target_segments[0] == 2
    np.testing.assert_array_equal(before[0, second], after[0, second])
    assert not np.allclose(before[0, :3], after[0, :3])
    # Only the last target of the first example changed: what came before it knew nothing of it.
    later = losses_of(config, params, (inputs, segments, changed[2], target_segments))
    np.testing.assert_array_equal(before[0, :2], later[0, :2])


SMALL_SIZES = {"vocabulary": 96, "width": 32, "head_dim": 8, "heads": 4, "mlp_dim": 48}


def test_rows_that_share_a_source_equal_rows_with_their_own(examples):
    config = T5Config(**SMALL_SIZES, encoder_layers=1, decoder_layers=2)
    params = random_params(config)
    inputs, segments, targets, target_segments = packed([[e] for e in examples], 12, 6)
    model = merge(structure(config), params)
    encoded = model.encode(inputs[:2], segments[:2])
    decoder_inputs = shift_right(targets, target_segments)
    shared = model.decode(decoder_inputs, target_segments, encoded, segments[:2])
    own = model.decode(
        decoder_inputs,
        target_segments,
        jnp.repeat(encoded, 2, axis=0),
        jnp.repeat(segments[:2], 2, axis=0),
    )
    real = np.asarray(target_segments) > 0
    np.testing.assert_allclose(shared[real], own[real], rtol=1e-5, atol=1e-5)


@each_form
def test_steps_with_beams_equal_teacher_forcing(config, params):
    """Three beams of two requests, changing places midway, against whole rows."""
    rng = np.random.default_rng(2)
    inputs = jnp.asarray(rng.integers(2, 96, (2, 10)), jnp.int32)
    segments = jnp.asarray([[1] * 10, [1] * 6 + [0] * 4], jnp.int32)
    first = jnp.asarray(rng.integers(2, 96, (2, 3, 2)), jnp.int32)
    parents = jnp.asarray([[2, 0, 0], [1, 1, 2]], jnp.int32)
    last = jnp.asarray(rng.integers(2, 96, (2, 3)), jnp.int32)

    def run(params):
        model = merge(structure(config), params)
        encoded = model.encode(inputs, segments)
        cache = model.start_cache(encoded, segments, 6)
        _, cache = model.step(jnp.full(2, START), cache)
        cache = model.gather_cache(cache, jnp.zeros((2, 3), jnp.int32))
        for column in range(2):
            _, cache = model.step(first[..., column].reshape(-1), cache)
        stepped, cache = model.step(last.reshape(-1), model.gather_cache(cache, parents))
        prefix = jnp.take_along_axis(first, parents[..., None], axis=1)
        start = jnp.full((2, 3, 1), START)
        rows = jnp.concatenate([start, prefix, last[..., None]], axis=2).reshape(6, 4)
        hidden = model.decode(rows, jnp.ones_like(rows), encoded, segments)
        return stepped, model.logits(hidden)[:, -1], cache.position

    stepped, forced, position = jax.jit(run)(params)
    np.testing.assert_allclose(stepped, forced, rtol=1e-4, atol=1e-4)
    assert position == 4


def test_each_device_remembers_its_own_requests_alone(config, params):
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    sources = jnp.ones((8, 5), jnp.int32)
    parents = jnp.zeros((8, 3), jnp.int32)

    @jax.jit
    def begin(params):
        model = merge(structure(config), params)
        cache = model.start_cache(model.encode(sources, sources), sources, 4, beams=2)
        return cache, model.gather_cache(cache, parents)

    with jax.set_mesh(mesh):
        before, after = begin(params)
    for cache in (before, after):
        for array in (cache.keys, cache.values, cache.source_keys, cache.source_values):
            own = array.sharding.shard_shape(array.shape)
            assert (own[1], array.shape[1]) == (2, 8)


@each_form
def test_unrolled_layers_give_the_same(config, params, examples):
    batch = packed([examples[:2], examples[2:]], 18, 9)
    key = jax.random.key(1)
    rolled = losses_of(config, params, batch, key)
    unrolled = losses_of(dataclasses.replace(config, unroll_layers=True), params, batch, key)
    np.testing.assert_allclose(rolled, unrolled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", ["umt5"], indirect=True)
def test_remembering_less_gives_the_same_gradients(config, params, examples):
    batch = packed([examples[:2]], 18, 9)

    def gradients(config):
        return jax.jit(jax.grad(lambda params: token_losses(config, params, batch).sum()))(params)

    less = gradients(dataclasses.replace(config, remat="full"))
    jax.tree.map(
        lambda left, right: np.testing.assert_allclose(
            left, right, rtol=1e-4, atol=1e-5 * float(jnp.abs(left).max())
        ),
        gradients(config),
        less,
    )


def test_dropout_depends_on_the_key_alone_and_changes_every_layer(config, params, examples):
    batch = packed([examples[:2], examples[2:]], 18, 9)
    plain = losses_of(config, params, batch)
    one, again, other = (losses_of(config, params, batch, jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    real = np.asarray(batch[3]) > 0
    assert not np.any(np.isclose(one[real], other[real]))
    assert not np.any(np.isclose(one[real], plain[real]))


def test_bfloat16_is_close_and_logits_are_float32(config, examples):
    params = initialize(config, jax.random.key(0))
    batch = packed([examples[:2], examples[2:]], 18, 9)
    half = dataclasses.replace(config, compute="bfloat16")
    exact, close = losses_of(config, params, batch), losses_of(half, params, batch)
    assert close.dtype == jnp.float32
    np.testing.assert_allclose(exact, close, atol=0.15)
    model = merge(structure(half), params)
    assert model.encode(batch[0], batch[1]).dtype == jnp.bfloat16


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_equal_gradients_of_1000_tokens_add_up_in_bfloat16(side):
    half = dataclasses.replace(FORMS["v1.1"], compute="bfloat16")
    params, row = random_params(half), jnp.array([[7, 11, 13]])
    direction = jax.random.normal(jax.random.key(1), (half.width,))

    def gradient(rows: int) -> np.ndarray:
        tokens = jnp.tile(row, (rows, 1))
        segments = jnp.ones_like(tokens)

        def loss(embedding: jax.Array) -> jax.Array:
            model = merge(structure(half), {**params, "embedding": embedding})
            if side == "encoder":
                hidden = model.encode(tokens, segments)
            else:
                source = jnp.ones((*tokens.shape, half.width), jnp.bfloat16)
                hidden = model.decode(tokens, segments, source, segments)
            return jnp.sum(hidden.astype(jnp.float32) @ direction)

        return np.asarray(jax.jit(jax.grad(loss))(params["embedding"]))

    one, many = gradient(1), gradient(1_000)
    assert np.abs(one[np.asarray(row)]).min(axis=-1).all()
    np.testing.assert_allclose(many, 1_000 * one, rtol=0.01, atol=0.01 * np.abs(many).max())


def test_shift_right_restarts_at_every_segment():
    targets = jnp.asarray([[5, 6, 1, 7, 1, 0, 0]])
    segments = jnp.asarray([[1, 1, 1, 2, 2, 0, 0]])
    np.testing.assert_array_equal(shift_right(targets, segments), [[0, 5, 6, 0, 7, 0, 0]])


@pytest.mark.parametrize("form", ["v1.0", "v1.1"])
def test_the_first_weights_have_the_deviations_of_t5(form):
    config = FORMS[form]
    config = dataclasses.replace(config, width=64, vocabulary=512)
    params = initialize(config, jax.random.key(0))
    attention = params["decoder"]["layers"]["across"]
    inner = config.heads * config.head_dim
    expected = [
        (params["embedding"], 1.0),
        (attention["query"], (64 * config.head_dim) ** -0.5),
        (attention["key"], 64**-0.5),
        (attention["output"], inner**-0.5),
        (params["encoder"]["layers"]["feed_forward"]["down"], config.mlp_dim**-0.5),
    ]
    if not config.tied_head:
        expected.append((params["head"], 64**-0.5))
    for array, deviation in expected:
        assert float(jnp.std(array)) == pytest.approx(deviation, rel=0.05)
    first, second = params["encoder"]["layers"]["attention"]["key"][:2]
    assert not np.allclose(first, second)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, abstract(config))


# transformers' counts of google/flan-t5-* (untied heads).
@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (T5Config.small(), 76.961),
        (T5Config.flan("base"), 247.578),
        (T5Config.flan("large"), 783.150),
        (T5Config.flan("xl"), 2849.757),
        (T5Config.flan("xxl"), 11135.333),
    ],
)
def test_the_published_sizes_have_their_number_of_weights(config, millions):
    assert count(abstract(config)) / 1e6 == pytest.approx(millions, abs=0.001)


def test_a_structure_is_hashable_and_the_same_for_equal_configs():
    assert structure(T5Config.tiny()) is structure(dataclasses.replace(T5Config.tiny()))
    assert hash(structure(T5Config.tiny())) != hash(structure(T5Config.small()))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("width", 0),
        ("heads", -1),
        ("dropout", 1.0),
        ("activation", "gelo"),
        ("family", "mt6"),
        ("compute", "float16"),
    ],
)
def test_impossible_values_are_refused_by_name(key, value):
    # Past the checks of types, which only tests have.
    config = object.__new__(T5Config)
    for field in dataclasses.fields(T5Config):
        object.__setattr__(config, field.name, value if field.name == key else field.default)
    with pytest.raises(InputError, match=rf"model\.{key}"):
        config.__post_init__()
