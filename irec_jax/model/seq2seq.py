"""Protocols of encoder-decoder models: the interface that the other packages use.

A family is a settings dataclass (`Seq2SeqConfig`) whose `build` makes a module (`Seq2Seq`). The
only one is T5 (`T5Config`). Why methods of the settings: docs/decisions/0193-model-families.md.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

if TYPE_CHECKING:
    from irec_jax.model.lora import LoraConfig

START = 0
"""First input of the decoder: the padding token, as in every T5."""

Cache = Any
"""State of decoding, a pytree of the family: an argument and a result of each step."""

ShardingRules = tuple[tuple[str, tuple[str, ...]], ...]
"""(Regular expression of paths, mesh axis of each array axis without the layer axis), ..."""


@runtime_checkable
class Seq2Seq(Protocol):
    """An encoder-decoder model with its parameters, used inside one jitted function."""

    def encode(
        self,
        inputs: Int[Array, "batch source"],
        segments: Int[Array, "batch source"],
        *,
        dropout_key: Key[Array, ""] | None = None,
    ) -> Float[Array, "batch source width"]:
        """Hidden states of packed inputs."""
        ...

    def decode(
        self,
        decoder_inputs: Int[Array, "rows target"],
        target_segments: Int[Array, "rows target"],
        encoded: Float[Array, "batch source width"],
        source_segments: Int[Array, "batch source"],
        *,
        dropout_key: Key[Array, ""] | None = None,
    ) -> Float[Array, "rows target width"]:
        """Hidden states of packed decoder inputs; `rows // batch` rows share a source row."""
        ...

    def logits(
        self, hidden_states: Float[Array, "*rows width"]
    ) -> Float[Array, "*rows vocabulary"]:
        """Float32 logits of the next token from the decoder's hidden states."""
        ...

    def start_cache(
        self,
        encoded: Float[Array, "requests source width"],
        source_segments: Int[Array, "requests source"],
        length: int,
        *,
        beams: int = 1,
    ) -> Cache:
        """An empty cache for answers of at most `length` tokens."""
        ...

    def step(
        self, tokens: Int[Array, " rows"], cache: Cache
    ) -> tuple[Float[Array, "rows vocabulary"], Cache]:
        """Float32 logits after one more token of each beam, and the new cache."""
        ...

    def gather_cache(self, cache: Cache, parents: Int[Array, "requests beams"]) -> Cache:
        """The cache after each beam is replaced by a continuation of its parent."""
        ...


@runtime_checkable
class Seq2SeqConfig(Protocol):
    """Settings of a model: a frozen, hashable dataclass.

    The sizes are those of an encoder-decoder transformer; `T5Config` documents them.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding."""
        ...

    @property
    def width(self) -> int:
        """Model dimension."""
        ...

    @property
    def head_dim(self) -> int:
        """Dimension of one attention head."""
        ...

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        ...

    @property
    def mlp_dim(self) -> int:
        """Feed-forward dimension."""
        ...

    @property
    def encoder_layers(self) -> int:
        """Number of encoder layers."""
        ...

    @property
    def decoder_layers(self) -> int:
        """Number of decoder layers."""
        ...

    @property
    def compute(self) -> str:
        """Dtype of activations."""
        ...

    @property
    def remat(self) -> str:
        """Rematerialization: `none`, `dots` or `full`."""
        ...

    @property
    def sharding_rules(self) -> ShardingRules:
        """The mesh axes of each parameter, first match wins."""
        ...

    def build(self, rngs: nnx.Rngs) -> Seq2Seq:
        """Makes the model with random parameters."""
        ...

    def training_flops(
        self, source: Int[np.ndarray, "..."], target: Int[np.ndarray, "..."], lora: "LoraConfig"
    ) -> float:
        """Floating point operations of a training step on examples of these lengths."""
        ...

    def cache_size(self, length: int) -> int:
        """Numbers in the self-attention cache of one answer of `length` tokens."""
        ...


def shift_right(
    targets: Int[Array, "batch target"], segments: Int[Array, "batch target"]
) -> Int[Array, "batch target"]:
    """Makes decoder inputs: each segment's targets one column later, after `START`."""
    start = jnp.full_like(targets[:, :1], START)
    shifted = jnp.concatenate([start, targets[:, :-1]], axis=1)
    before = jnp.concatenate([jnp.zeros_like(segments[:, :1]), segments[:, :-1]], axis=1)
    return jnp.where(segments == before, shifted, START)
