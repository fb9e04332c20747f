"""The training loss as a sum and a weight, for one mean over the whole batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from irec_jax.batches.batch import Batch
from irec_jax.model.params import Params, Structure, merge
from irec_jax.model.seq2seq import shift_right


class Penalties(NamedTuple):
    """Terms that are added to the cross-entropy.

    Attributes:
        z_loss: Weight of the squared log-normalizer of each token (T5X).
        label_smoothing: Share of the target's probability that is spread evenly over all tokens.
    """

    z_loss: float = 0.0
    label_smoothing: float = 0.0


NO_PENALTIES = Penalties()


def token_loss(
    structure: Structure,
    params: Params,
    batch: Batch,
    dropout_key: Key[Array, ""] | None,
    penalties: Penalties = NO_PENALTIES,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute the cross-entropy of the target tokens over the full vocabulary.

    Args:
        structure: The model without its weights.
        params: The weights, float32.
        batch: Packed examples; every token of a target counts once, end-of-sequence included.
        dropout_key: Key of this step's dropout; None for no dropout.
        penalties: The terms that are added.

    Returns:
        The summed loss in nats and the number of real target tokens, both float32. Their ratio
        is the mean loss; sums and weights of parts of a batch may be added before dividing.
    """
    model = merge(structure, params)
    inputs, input_segments = jnp.asarray(batch.inputs), jnp.asarray(batch.input_segments)
    targets, target_segments = jnp.asarray(batch.targets), jnp.asarray(batch.target_segments)
    encoded = model.encode(inputs, input_segments, dropout_key=dropout_key)
    hidden_states = model.decode(
        shift_right(targets, target_segments),
        target_segments,
        encoded,
        input_segments,
        dropout_key=dropout_key,
    )
    return cross_entropy(model.logits(hidden_states), targets, target_segments > 0, penalties)


def cross_entropy(
    logits: Float[Array, "batch target vocabulary"],
    targets: Int[Array, "batch target"],
    real: Bool[Array, "batch target"],
    penalties: Penalties = NO_PENALTIES,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Sum `-log softmax(logits)[target]` over real positions.

    The target's logit is gathered from the logits, not from their log-softmax, so that the
    backward pass makes only one array of the size of the logits
    (docs/decisions/0050-form-of-the-cross-entropy.md). With label smoothing s the target has
    probability 1 - s, and s is spread evenly over all tokens (Szegedy et al. 2016).

    Args:
        logits: Unnormalized log probabilities, float32.
        targets: Token ids.
        real: False at padding.
        penalties: The terms that are added.

    Returns:
        The sum in nats and the number of real positions, both float32.
    """
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    losses = normalizer - picked
    if penalties.label_smoothing:
        spread = normalizer - jnp.mean(logits, axis=-1)
        losses += penalties.label_smoothing * (spread - losses)
    if penalties.z_loss:
        losses += penalties.z_loss * jnp.square(normalizer)
    weight = real.astype(jnp.float32)
    return jnp.sum(losses * weight), jnp.sum(weight)
