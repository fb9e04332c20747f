"""T5: encoder, decoder, logits, and decoding one token at a time with a cache."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from irec_jax.model.activation_sharding import apply_remat, shard_batch_axis
from irec_jax.model.attention import AttentionMask
from irec_jax.model.config import T5Config
from irec_jax.model.dropout import DropoutRng, dropout, fold_in
from irec_jax.model.layers import (
    AttentionContext,
    DecoderLayer,
    EncoderLayer,
    LayerCache,
    Norm,
    normal,
)
from irec_jax.model.positions import BUCKETS, bias_by_distance, bias_matrix


@nnx.dataclass
class Cache(nnx.Pytree):
    """Keys and values of previous steps: an argument and a result of each step.

    The keys and values of the source are stored once per request and shared by its beams.
    """

    keys: Float[Array, "layers requests beams heads length size"] = nnx.data()
    values: Float[Array, "layers requests beams heads length size"] = nnx.data()
    source_keys: Float[Array, "layers requests heads source size"] = nnx.data()
    source_values: Float[Array, "layers requests heads source size"] = nnx.data()
    source_segments: Int[Array, "requests source"] = nnx.data()
    position: Int[Array, ""] = nnx.data()


class LayerStack(nnx.Module):
    """The layers of the encoder or decoder, their position bias and the final norm."""

    def __init__(
        self, layer: type[EncoderLayer] | type[DecoderLayer], config: T5Config, rngs: nnx.Rngs
    ) -> None:
        self.causal = layer is DecoderLayer
        self.count = config.decoder_layers if self.causal else config.encoder_layers
        self.layers = layer(config, rngs, (self.count,))
        self.shared = config.shared_positions
        table = (BUCKETS, config.heads)
        shape = table if self.shared else (self.count, *table)
        self.bias = normal(rngs, shape, config.width**-0.5)
        self.norm = Norm(config)
        self.unroll = config.unroll_layers
        self.remat = config.remat

    def run(
        self,
        hidden_states: Float[Array, "batch length width"],
        segments: Int[Array, "batch length"],
        dropout_rng: DropoutRng | None,
        *source: Float[Array, "rows source width"] | AttentionMask,
    ) -> Float[Array, "batch length width"]:
        """Applies all layers and the final norm.

        Args:
            hidden_states: Embedded tokens.
            segments: Segment numbers, 0 for padding.
            dropout_rng: None drops nothing.
            *source: For the decoder, the encoded source and the mask of the attention to it.
        """
        mask, table = AttentionMask(segments, segments, self.causal), self.bias[...]
        shared = self._bias(table, hidden_states.shape[1]) if self.shared else None
        split, arrays = self.split()

        def layer(
            hidden_states: Float[Array, "batch length width"], slices: tuple
        ) -> tuple[Float[Array, "batch length width"], None]:
            number, arrays, own = slices
            bias = self._bias(own, hidden_states.shape[1]) if shared is None else shared
            block = nnx.merge(split, arrays)
            hidden_states = block(
                hidden_states,
                AttentionContext(mask, bias),
                *source,
                dropout_rng=fold_in(dropout_rng, number),
            )
            return shard_batch_axis(hidden_states), None

        hidden_states = shard_batch_axis(dropout(hidden_states, fold_in(dropout_rng, self.count)))
        numbers = jnp.arange(self.count, dtype=jnp.uint32)
        slices = (numbers, arrays, None if self.shared else table)
        layer = apply_remat(layer, self.remat)
        hidden_states, _ = jax.lax.scan(layer, hidden_states, slices, unroll=self.unroll)
        return dropout(self.norm(hidden_states), fold_in(dropout_rng, self.count + 1))

    def split(self) -> tuple[nnx.GraphDef, dict]:
        """Returns the layers as structure and arrays, to be scanned over."""
        structure, state = nnx.split(self.layers)
        return structure, nnx.to_pure_dict(state)

    def bias_at(
        self, position: Int[Array, ""], length: int
    ) -> Float[Array, "*layers heads length"]:
        """Returns the bias of the query at `position` to each of `length` key columns.

        It has a layer axis where the layers do not share it.
        """
        distances = -np.arange(length)
        by_distance = functools.partial(
            bias_by_distance, distances=distances, bidirectional=not self.causal
        )
        table = self.bias[...]
        all_columns = by_distance(table) if self.shared else jax.vmap(by_distance)(table)
        columns = position - jnp.arange(length)
        return jnp.take(all_columns, columns, axis=-1, mode="clip")

    def _bias(
        self, table: Float[Array, "buckets heads"], length: int
    ) -> Float[Array, "heads length length"]:
        return bias_matrix(table, length, bidirectional=not self.causal)


class T5(nnx.Module):
    """An encoder-decoder of the T5 family (Raffel et al. 2020; Shazeer 2020).

    `irec_jax.model.params.merge` makes it inside a jitted function.
    """

    def __init__(self, config: T5Config, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embedding = normal(rngs, (config.vocabulary, config.width), 1.0)
        self.encoder = LayerStack(EncoderLayer, config, rngs)
        self.decoder = LayerStack(DecoderLayer, config, rngs)
        shape = (config.width, config.vocabulary)
        # As in T5X. With deviation 1, as in Hugging Face, the first logits have deviation
        # width ** 0.5, and it takes hundreds of steps to reach the loss of a uniform guess.
        self.head = None if config.tied_head else normal(rngs, shape, config.width**-0.5)

    def encode(
        self,
        inputs: Int[Array, "batch source"],
        segments: Int[Array, "batch source"],
        *,
        dropout_key: Key[Array, ""] | None = None,
    ) -> Float[Array, "batch source width"]:
        """Computes hidden states of packed inputs, in the compute dtype.

        Args:
            inputs: Token ids.
            segments: Segment numbers, 0 for padding; a token attends only to its segment.
            dropout_key: Key of the dropout masks; None drops nothing.
        """
        dropout_rng = fold_in(DropoutRng.start(dropout_key, self.config.dropout), 0)
        return self.encoder.run(self._embed(inputs), segments, dropout_rng)

    def decode(
        self,
        decoder_inputs: Int[Array, "rows target"],
        target_segments: Int[Array, "rows target"],
        encoded: Float[Array, "batch source width"],
        source_segments: Int[Array, "batch source"],
        *,
        dropout_key: Key[Array, ""] | None = None,
    ) -> Float[Array, "rows target width"]:
        """Computes hidden states of packed decoder inputs, in the compute dtype.

        Several rows can follow one source row, in the order of the source rows; they share its
        keys and values. So a request with many answers is encoded once.

        Args:
            decoder_inputs: Token ids shifted right (`shift_right`).
            target_segments: Segment numbers, 0 for padding.
            encoded: The result of `encode`.
            source_segments: Segment numbers of the source; targets attend to the same number.
            dropout_key: Key of the dropout masks; None drops nothing.
        """
        dropout_rng = fold_in(DropoutRng.start(dropout_key, self.config.dropout), 1)
        queries = target_segments.reshape(encoded.shape[0], -1)
        mask = AttentionMask(queries, source_segments)
        hidden_states = self._embed(decoder_inputs)
        return self.decoder.run(hidden_states, target_segments, dropout_rng, encoded, mask)

    def logits(
        self, hidden_states: Float[Array, "*rows width"]
    ) -> Float[Array, "*rows vocabulary"]:
        """Computes float32 logits of every token from the decoder's hidden states."""
        if self.head is None:
            hidden_states = hidden_states * jnp.asarray(
                self.config.width**-0.5, hidden_states.dtype
            )
            head = self.embedding[...].T
        else:
            head = self.head[...]
        flat = hidden_states.reshape(-1, hidden_states.shape[-1])
        logits = jnp.matmul(
            flat, head.astype(hidden_states.dtype), preferred_element_type=jnp.float32
        )
        return logits.reshape(*hidden_states.shape[:-1], -1)

    def start_cache(
        self,
        encoded: Float[Array, "requests source width"],
        source_segments: Int[Array, "requests source"],
        length: int,
        *,
        beams: int = 1,
    ) -> Cache:
        """Makes an empty cache for answers of at most `length` tokens.

        Args:
            encoded: The result of `encode`; each row holds one request, in segment 1.
            source_segments: 1 for the request, 0 for padding.
            length: Maximum number of steps.
            beams: Beams per request; `gather_cache` can change it.
        """
        split, arrays = self.decoder.split()

        def keys_and_values(_: None, arrays: dict) -> tuple[None, list]:
            attention = nnx.merge(split, arrays).across
            return None, attention.project(encoded, attention.key, attention.value)

        _, projected = jax.lax.scan(keys_and_values, None, arrays)
        source_keys, source_values = map(_shard_requests, projected)
        layers, requests, heads, _, size = source_keys.shape
        empty = jnp.zeros((layers, requests, beams, heads, length, size), encoded.dtype)
        empty = _shard_requests(empty)
        position = jnp.zeros((), jnp.int32)
        return Cache(empty, empty, source_keys, source_values, source_segments, position)

    def step(
        self, tokens: Int[Array, " rows"], cache: Cache
    ) -> tuple[Float[Array, "rows vocabulary"], Cache]:
        """Decodes one more token of each beam.

        Args:
            tokens: The last token of each beam, beams of a request adjacent; `START` at first.
            cache: The cache before; it must have room for one more token.

        Returns:
            Float32 logits of the next token, and the cache after.
        """
        requests, beams, _, length = cache.keys.shape[1:5]
        mask = AttentionMask(jnp.ones((requests, beams), jnp.int32), cache.source_segments)
        bias = self.decoder.bias_at(cache.position, length)
        shared, own = (bias, None) if self.decoder.shared else (None, bias)
        split, arrays = self.decoder.split()

        def layer(
            hidden_states: Float[Array, "requests beams width"], slices: tuple
        ) -> tuple[Float[Array, "requests beams width"], tuple]:
            arrays, layer_cache, own = slices
            bias = own if shared is None else shared
            block = nnx.merge(split, arrays)
            hidden_states, new = block.step(hidden_states, layer_cache, cache.position, bias, mask)
            return hidden_states, (new.keys, new.values)

        hidden_states = self._embed(tokens.reshape(requests, beams))
        layer_caches = LayerCache(cache.keys, cache.values, cache.source_keys, cache.source_values)
        hidden_states, (keys, values) = jax.lax.scan(
            layer, hidden_states, (arrays, layer_caches, own), unroll=self.config.unroll_layers
        )
        logits = self.logits(self.decoder.norm(hidden_states)).reshape(requests * beams, -1)
        after = dataclasses.replace(cache, keys=keys, values=values, position=cache.position + 1)
        return logits, after

    def gather_cache(self, cache: Cache, parents: Int[Array, "requests beams"]) -> Cache:
        """Replaces each beam by a continuation of its parent.

        Args:
            cache: The cache before.
            parents: For each new beam the number of the old beam of the same request that it
                continues; there may be more or fewer new beams than old ones.
        """
        index = parents[None, :, :, None, None, None]
        keys, values = (
            _shard_requests(jnp.take_along_axis(array, index, axis=2))
            for array in (cache.keys, cache.values)
        )
        return dataclasses.replace(cache, keys=keys, values=values)

    def _embed(self, tokens: Int[Array, "*rows"]) -> Float[Array, "*rows width"]:
        # Rows are cast after the lookup, so that their gradients are summed in float32.
        return self.embedding[...][tokens].astype(self.config.compute)


def _shard_requests(array: Float[Array, "layers requests *rest"]) -> Float[Array, "..."]:
    """Shards the cache by requests; see `shard_batch_axis`."""
    return shard_batch_axis(array.swapaxes(0, 1)).swapaxes(0, 1)
