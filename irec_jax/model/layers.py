"""The blocks of T5. Every parameter can have a leading layer axis (`layer_axes`).

`irec_jax.model.t5.LayerStack` scans over that axis and applies one slice per layer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from irec_jax.model.attention import MASKED, AttentionMask, attend
from irec_jax.model.config import T5Config
from irec_jax.model.dropout import DropoutRng, dropout, fold_in

LayerAxes = tuple[int, ...]

NORM_EPSILON = 1e-6
"""Added to the mean square in RMS norm, in all published models."""


class AttentionContext(NamedTuple):
    """Mask and position bias of self-attention."""

    mask: AttentionMask
    bias: Float[Array, "heads length length"]


class LayerCache(NamedTuple):
    """Keys and values of one decoder layer; see `irec_jax.model.t5.Cache`."""

    keys: Float[Array, "requests beams heads length size"]
    values: Float[Array, "requests beams heads length size"]
    source_keys: Float[Array, "requests heads source size"]
    source_values: Float[Array, "requests heads source size"]


def normal(rngs: nnx.Rngs, shape: tuple[int, ...], deviation: float) -> nnx.Param:
    """Draws a float32 parameter from a normal distribution of mean 0."""
    return nnx.Param(deviation * jax.random.normal(rngs.params(), shape, jnp.float32))


def linear(
    hidden_states: Float[Array, "*rows inward"], *parameters: nnx.Param
) -> Float[Array, "*rows outward"]:
    """Multiplies the input with several matrices in one product; results are concatenated.

    Rows are flattened first: XLA's CPU backend takes three times as long for the gradient of a
    weight when two axes are summed over (docs/decisions/0040-flattened-products.md).
    """
    matrices = [parameter[...].astype(hidden_states.dtype) for parameter in parameters]
    joined = jnp.concatenate(matrices, axis=1) if len(matrices) > 1 else matrices[0]
    flat = hidden_states.reshape(-1, hidden_states.shape[-1]) @ joined
    return flat.reshape(*hidden_states.shape[:-1], -1)


class Norm(nnx.Module):
    """Root-mean-square norm, computed in float32 (Zhang and Sennrich 2019)."""

    def __init__(self, config: T5Config, layer_axes: LayerAxes = ()) -> None:
        self.scale = nnx.Param(jnp.ones((*layer_axes, config.width), jnp.float32))

    def __call__(self, hidden_states: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
        """Scales each row to mean square 1, then by the learned scale."""
        wide = hidden_states.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        normed = wide * jax.lax.rsqrt(mean_square + NORM_EPSILON)
        scale = jax.lax.expand_dims(self.scale[...], range(hidden_states.ndim - 1))
        return (normed * scale).astype(hidden_states.dtype)


class FeedForward(nnx.Module):
    """Two products with a GELU or ReLU between them, gated or not (Shazeer 2020)."""

    def __init__(self, config: T5Config, rngs: nnx.Rngs, layer_axes: LayerAxes = ()) -> None:
        inward = (*layer_axes, config.width, config.mlp_dim)
        self.gate = normal(rngs, inward, config.width**-0.5)
        self.up = normal(rngs, inward, config.width**-0.5) if config.is_gated else None
        outward = (*layer_axes, config.mlp_dim, config.width)
        self.down = normal(rngs, outward, config.mlp_dim**-0.5)
        self.activation = config.activation

    def __call__(
        self, hidden_states: Float[Array, "*rows width"], dropout_rng: DropoutRng | None = None
    ) -> Float[Array, "*rows width"]:
        """Applies the block to each row."""
        # The tanh form of GELU is what T5 v1.1 was trained with ("gelu_new").
        activate = jax.nn.relu if self.activation.endswith("relu") else jax.nn.gelu
        active = activate(linear(hidden_states, self.gate))
        if self.up is not None:
            active = active * linear(hidden_states, self.up)
        return linear(dropout(active, dropout_rng), self.down)


class Attention(nnx.Module):
    """Multi-head attention without scaling: the initialization of the query holds the factor."""

    def __init__(self, config: T5Config, rngs: nnx.Rngs, layer_axes: LayerAxes = ()) -> None:
        self.heads = config.heads
        inner = config.heads * config.head_dim
        inward = (*layer_axes, config.width, inner)
        self.query = normal(rngs, inward, (config.width * config.head_dim) ** -0.5)
        self.key = normal(rngs, inward, config.width**-0.5)
        self.value = normal(rngs, inward, config.width**-0.5)
        self.output = normal(rngs, (*layer_axes, inner, config.width), inner**-0.5)

    def project(
        self, hidden_states: Float[Array, "batch length width"], *parameters: nnx.Param
    ) -> list[Float[Array, "batch heads length size"]]:
        """Multiplies the input with each matrix and splits the results by head."""
        products = [linear(hidden_states, parameter) for parameter in parameters]
        heads = (*hidden_states.shape[:2], self.heads, -1)
        return [product.reshape(heads).swapaxes(1, 2) for product in products]

    def merge_heads(
        self, attended: Float[Array, "batch heads length size"]
    ) -> Float[Array, "batch length width"]:
        """Projects the outputs of all heads to one hidden state."""
        batch, _, length, _ = attended.shape
        return linear(attended.swapaxes(1, 2).reshape(batch, length, -1), self.output)

    def __call__(
        self,
        hidden_states: Float[Array, "batch length width"],
        context: AttentionContext,
        dropout_rng: DropoutRng | None = None,
    ) -> Float[Array, "batch length width"]:
        """Applies self-attention."""
        query, key, value = self.project(hidden_states, self.query, self.key, self.value)
        attended = attend(
            query, key, value, context.mask, bias=context.bias, dropout_rng=dropout_rng
        )
        return self.merge_heads(attended)

    def cross_attention(
        self,
        hidden_states: Float[Array, "rows length width"],
        source: Float[Array, "batch source width"],
        mask: AttentionMask,
        dropout_rng: DropoutRng | None = None,
    ) -> Float[Array, "rows length width"]:
        """Attends to an encoded source; `rows // batch` adjacent rows share one source row."""
        rows, length, width = hidden_states.shape
        (query,) = self.project(hidden_states.reshape(source.shape[0], -1, width), self.query)
        key, value = self.project(source, self.key, self.value)
        attended = attend(query, key, value, mask, dropout_rng=dropout_rng)
        return self.merge_heads(attended).reshape(rows, length, width)

    def step(
        self,
        hidden_states: Float[Array, "requests beams width"],
        cache: LayerCache,
        position: Int[Array, ""],
        bias: Float[Array, "heads length"],
    ) -> tuple[Float[Array, "requests beams width"], LayerCache]:
        """Attends from the token at `position` to itself and all tokens before it."""
        query, key, value = self.project(hidden_states, self.query, self.key, self.value)
        cache = cache._replace(
            keys=_write_column(cache.keys, key, position),
            values=_write_column(cache.values, value, position),
        )
        scores = jnp.einsum(
            "rhnd,rnhld->rnhl", query, cache.keys, preferred_element_type=jnp.float32
        )
        visible = (jnp.arange(bias.shape[-1]) <= position)[None, None, None]
        scores = jnp.where(visible, scores + bias[None, None], MASKED)
        weights = jax.nn.softmax(scores, axis=-1).astype(hidden_states.dtype)
        return self.merge_heads(jnp.einsum("rnhl,rnhld->rhnd", weights, cache.values)), cache

    def step_cross_attention(
        self,
        hidden_states: Float[Array, "requests beams width"],
        cache: LayerCache,
        mask: AttentionMask,
    ) -> Float[Array, "requests beams width"]:
        """Attends to the source; the beams of a request share its keys and values."""
        (query,) = self.project(hidden_states, self.query)
        return self.merge_heads(attend(query, cache.source_keys, cache.source_values, mask))


def _write_column(
    cached: Float[Array, "requests beams heads length size"],
    new: Float[Array, "requests heads beams size"],
    position: Int[Array, ""],
) -> Float[Array, "requests beams heads length size"]:
    column = new.swapaxes(1, 2)[:, :, :, None]
    return jax.lax.dynamic_update_slice_in_dim(cached, column, position, axis=3)


class EncoderLayer(nnx.Module):
    """Pre-norm self-attention and feed-forward blocks with residual connections."""

    def __init__(self, config: T5Config, rngs: nnx.Rngs, layer_axes: LayerAxes = ()) -> None:
        self.attention_norm = Norm(config, layer_axes)
        self.attention = Attention(config, rngs, layer_axes)
        self.feed_forward_norm = Norm(config, layer_axes)
        self.feed_forward = FeedForward(config, rngs, layer_axes)

    def __call__(
        self,
        hidden_states: Float[Array, "batch length width"],
        context: AttentionContext,
        dropout_rng: DropoutRng | None = None,
    ) -> Float[Array, "batch length width"]:
        """Applies the layer."""
        attended = self.attention(
            self.attention_norm(hidden_states), context, fold_in(dropout_rng, 0)
        )
        hidden_states = hidden_states + dropout(attended, fold_in(dropout_rng, 1))
        transformed = self.feed_forward(
            self.feed_forward_norm(hidden_states), fold_in(dropout_rng, 2)
        )
        return hidden_states + dropout(transformed, fold_in(dropout_rng, 3))


class DecoderLayer(nnx.Module):
    """Pre-norm causal self-attention, cross-attention and feed-forward blocks."""

    def __init__(self, config: T5Config, rngs: nnx.Rngs, layer_axes: LayerAxes = ()) -> None:
        self.attention_norm = Norm(config, layer_axes)
        self.attention = Attention(config, rngs, layer_axes)
        self.across_norm = Norm(config, layer_axes)
        self.across = Attention(config, rngs, layer_axes)
        self.feed_forward_norm = Norm(config, layer_axes)
        self.feed_forward = FeedForward(config, rngs, layer_axes)

    def __call__(
        self,
        hidden_states: Float[Array, "rows length width"],
        context: AttentionContext,
        source: Float[Array, "batch source width"],
        source_mask: AttentionMask,
        dropout_rng: DropoutRng | None = None,
    ) -> Float[Array, "rows length width"]:
        """Applies the layer to whole rows."""
        attended = self.attention(
            self.attention_norm(hidden_states), context, fold_in(dropout_rng, 0)
        )
        hidden_states = hidden_states + dropout(attended, fold_in(dropout_rng, 1))
        normed = self.across_norm(hidden_states)
        attended = self.across.cross_attention(normed, source, source_mask, fold_in(dropout_rng, 2))
        hidden_states = hidden_states + dropout(attended, fold_in(dropout_rng, 3))
        transformed = self.feed_forward(
            self.feed_forward_norm(hidden_states), fold_in(dropout_rng, 4)
        )
        return hidden_states + dropout(transformed, fold_in(dropout_rng, 5))

    def step(
        self,
        hidden_states: Float[Array, "requests beams width"],
        cache: LayerCache,
        position: Int[Array, ""],
        bias: Float[Array, "heads length"],
        mask: AttentionMask,
    ) -> tuple[Float[Array, "requests beams width"], LayerCache]:
        """Applies the layer to one more token of each beam."""
        attended, cache = self.attention.step(
            self.attention_norm(hidden_states), cache, position, bias
        )
        hidden_states = hidden_states + attended
        hidden_states = hidden_states + self.across.step_cross_attention(
            self.across_norm(hidden_states), cache, mask
        )
        return hidden_states + self.feed_forward(self.feed_forward_norm(hidden_states)), cache
