"""The training loss, as a sum and a weight, so that a mean is taken once over the whole batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from irec_jax.batches.batch import Batch
from irec_jax.model.params import Params, Structure, merge
from irec_jax.model.t5 import shift_right


class Penalties(NamedTuple):
    """What is added to the cross-entropy.

    Attributes:
        z_loss: Weight of the squared log-normalizer of each token (T5X).
        label_smoothing: Share of the target's probability that goes to all tokens alike.
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
    """Cross-entropy of the target tokens under the full vocabulary.

    Args:
        structure: The model without its weights.
        params: The weights, float32.
        batch: Packed examples; every token of a target counts once, end-of-sequence included.
        dropout_key: Key of this step's dropout; None for no dropout.
        penalties: What the loss adds.

    Returns:
        The summed loss in nats and the number of real target tokens, both float32. Their ratio
        is the mean loss; sums and weights of parts of a batch may be added before dividing.
    """
    model = merge(structure, params)
    inputs, input_segments = jnp.asarray(batch.inputs), jnp.asarray(batch.input_segments)
    targets, target_segments = jnp.asarray(batch.targets), jnp.asarray(batch.target_segments)
    encoded = model.encode(inputs, input_segments, dropout_key=dropout_key)
    hidden = model.decode(
        shift_right(targets, target_segments),
        target_segments,
        encoded,
        input_segments,
        dropout_key=dropout_key,
    )
    return cross_entropy(model.logits(hidden), targets, target_segments > 0, penalties)


def cross_entropy(
    logits: Float[Array, "batch target vocabulary"],
    targets: Int[Array, "batch target"],
    real: Bool[Array, "batch target"],
    penalties: Penalties = NO_PENALTIES,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Sum of `-log softmax(logits)[target]` over real positions, and their number.

    The target's logit is taken from the logits, not from their log-softmax: then only one array as
    large as the logits is made on the way back (docs/decisions/0050-form-of-the-cross-entropy.md).

    With label smoothing s the target has probability 1 - s, and s is spread evenly over all
    tokens, itself included (Szegedy et al. 2016); z-loss is added to that.
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
