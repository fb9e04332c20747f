"""Ours against transformers' torch T5 with the same random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irec_jax.model.params import merge, structure
from irec_jax.model.seq2seq import START, shift_right

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture
def examples():
    """Rows of different lengths, padded at the end; the longest reach all position buckets."""
    rng = np.random.default_rng(1)
    inputs, targets = rng.integers(2, 96, (3, 140)), rng.integers(2, 96, (3, 24))
    segments, target_segments = np.ones_like(inputs), np.ones_like(targets)
    for row, (source, target) in enumerate([(140, 24), (13, 5), (4, 1)]):
        inputs[row, source:], segments[row, source:] = 0, 0
        targets[row, target:], target_segments[row, target:] = 0, 0
    return tuple(a.astype(np.int32) for a in (inputs, segments, targets, target_segments))


def forward(config, params, inputs, segments, targets, target_segments):
    model = merge(structure(config), params)
    encoded = model.encode(inputs, segments)
    decoder_inputs = shift_right(targets, target_segments)
    hidden = model.decode(decoder_inputs, target_segments, encoded, segments)
    return encoded, model.logits(hidden)


def start(config, params, inputs, segments, length):
    model = merge(structure(config), params)
    return model.start_cache(model.encode(inputs, segments), segments, length)


def loss_sum(params, config, inputs, segments, targets, target_segments):
    _, logits = forward(config, params, inputs, segments, targets, target_segments)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)
    return -jnp.sum(jnp.where(target_segments > 0, chosen[..., 0], 0.0))


def peer_forward(peer, inputs, segments, targets, target_segments):
    labels = np.where(target_segments > 0, targets, -100).astype(np.int64)
    return peer(
        input_ids=torch.tensor(inputs, dtype=torch.long),
        attention_mask=torch.tensor(segments, dtype=torch.long),
        labels=torch.tensor(labels),
        output_hidden_states=True,
    )


def test_encoder_and_logits_agree(pair, examples):
    _, segments, _, target_segments = examples
    encoded, logits = jax.jit(forward, static_argnums=0)(pair.config, pair.params, *examples)
    with torch.no_grad():
        theirs = peer_forward(pair.peer, *examples)
    real = segments > 0
    np.testing.assert_allclose(
        np.asarray(encoded)[real], theirs.encoder_last_hidden_state.numpy()[real], **TOLERANCE
    )
    real = target_segments > 0
    np.testing.assert_allclose(np.asarray(logits)[real], theirs.logits.numpy()[real], **TOLERANCE)


def test_gradients_of_every_weight_agree(pair, examples):
    from irec_jax.model.hf_names import table
    from irec_jax.model.pretrained import _leaf

    gradients = jax.jit(jax.grad(loss_sum), static_argnums=1)(pair.params, pair.config, *examples)
    logits = peer_forward(pair.peer, *examples).logits
    labels = np.where(examples[3] > 0, examples[2], -100).astype(np.int64)
    torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(labels).flatten(), ignore_index=-100, reduction="sum"
    ).backward()
    theirs = {name: weight.grad.numpy() for name, weight in pair.peer.named_parameters()}
    compared = 0
    for row in table(pair.config):
        ours = np.asarray(_leaf(gradients, row.path))
        for name, gradient in zip(
            row.names(pair.config), ours if "{}" in row.name else ours[None], strict=True
        ):
            expected = theirs[name].T if row.transposed else theirs[name]
            scale = np.abs(expected).max()
            assert scale > 0, name
            np.testing.assert_allclose(
                gradient / scale, expected / scale, rtol=1e-4, atol=1e-4, err_msg=name
            )
            compared += 1
    assert compared == len(theirs)


def test_decoding_step_by_step_agrees_with_transformers(pair, examples):
    """Their cached decoding gives the same logits as ours at each step."""
    inputs, segments, targets, target_segments = examples
    targets = np.where(target_segments > 0, targets, 5)
    fed = np.concatenate([np.full((3, 1), START), targets[:, :-1]], axis=1).astype(np.int32)
    cache = jax.jit(start, static_argnums=(0, 4))(
        pair.config, pair.params, inputs, segments, fed.shape[1]
    )
    step = jax.jit(
        lambda params, tokens, cache: merge(structure(pair.config), params).step(tokens, cache)
    )
    with torch.no_grad():
        mask = torch.tensor(segments, dtype=torch.long)
        encoded = pair.peer.encoder(torch.tensor(inputs, dtype=torch.long), attention_mask=mask)
        theirs = None
        for column in range(fed.shape[1]):
            logits, cache = step(pair.params, fed[:, column], cache)
            theirs = pair.peer(
                encoder_outputs=encoded,
                attention_mask=mask,
                decoder_input_ids=torch.tensor(fed[:, column : column + 1], dtype=torch.long),
                cache=None if theirs is None else theirs.cache,
                use_cache=True,
            )
            np.testing.assert_allclose(logits, theirs.logits[:, 0].numpy(), **TOLERANCE)
