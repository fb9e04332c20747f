"""Settings of a T5 model and the published sizes."""

import dataclasses
from typing import Any, Literal

import numpy as np
from flax import nnx
from jaxtyping import Int

from irec_jax.bounds import BELOW_ONE, Range, check_settings
from irec_jax.errors import InputError, nearest, shown
from irec_jax.model.lora import NO_LORA, LoraConfig
from irec_jax.model.seq2seq import Seq2Seq, ShardingRules
from irec_jax.model.t5_sharding import RULES

FLAN_SIZES = {
    "small": (512, 6, 1_024, 8),
    "base": (768, 12, 2_048, 12),
    "large": (1_024, 16, 2_816, 24),
    "xl": (2_048, 32, 5_120, 24),
    "xxl": (4_096, 64, 10_240, 24),
}
"""Width, heads, feed-forward dimension and layers of each side."""

Activation = Literal["gated_gelu", "gated_relu", "gelu", "relu"]


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Settings that decide the parameters and the computation of a T5 model.

    The default sizes suit training from random weights on a log of thousands of users, and
    processors train them in minutes. `tiny`, `small` and `flan` have other sizes.

    The other defaults are those of T5 v1.1 (gated GELU, untied head). T5 1.0 has
    `activation="relu"` and `tied_head=True`; Flan-T5 is v1.1 with other weights. mT5 is v1.1 with
    a vocabulary of 250,112 (Xue et al. 2021), umT5 (Chung et al. 2023) also has a separate
    position bias in every layer.

    Attributes:
        vocabulary: Rows of the embedding: token ids of text and items, padded up.
        family: `t5` for T5, v1.1 and Flan-T5, `mt5` or `umt5`; decides the position bias and the
            model type of an export.
        width: Model dimension (d_model).
        head_dim: Dimension of one attention head (d_kv).
        heads: Attention heads.
        mlp_dim: Feed-forward dimension (d_ff).
        encoder_layers: Layers of the encoder.
        decoder_layers: Layers of the decoder.
        activation: Of the feed-forward block, gated or not; `gelu` is the tanh approximation that
            T5 v1.1 uses.
        tied_head: Whether the output head is the embedding (then scaled by width ** -0.5).
        dropout: Dropout rate while training.
        compute: Dtype of activations; parameters are float32.
        unroll_layers: Whether the scan over layers is unrolled: the same numbers, faster steps,
            longer compilation.
        remat: What the backward pass recomputes: `none`; `dots`, all but the products with
            weights; `full`, everything within a layer.
    """

    vocabulary: int = 32_128
    family: Literal["t5", "mt5", "umt5"] = "t5"
    width: int = 64
    head_dim: int = 16
    heads: int = 4
    mlp_dim: int = 128
    encoder_layers: int = 2
    decoder_layers: int = 1
    activation: Activation = "gated_gelu"
    tied_head: bool = False
    dropout: float = 0.1
    compute: Literal["float32", "bfloat16"] = "float32"
    unroll_layers: bool = True
    remat: Literal["none", "dots", "full"] = "none"

    def __post_init__(self) -> None:
        """Refuses impossible values, naming the key."""
        check_settings(
            self,
            "model.",
            vocabulary=Range(1, 2**24),
            width=Range(1, 2**16),
            head_dim=Range(1, 2**12),
            heads=Range(1, 2**12),
            mlp_dim=Range(1, 2**20),
            encoder_layers=Range(1, 1_024),
            decoder_layers=Range(1, 1_024),
            dropout=BELOW_ONE,
        )
        if self.family == "mt5" and self.tied_head:
            raise InputError(
                "mT5 has an untied head",
                where="model.tied_head",
                hint="Set it to False, or model.family to 't5'.",
            )

    @classmethod
    def tiny(cls, **changes: Any) -> "T5Config":
        """Returns a model of four layers a side and width 128, for larger logs on processors.

        Args:
            **changes: Other fields, such as `dropout=0.2`.

        >>> T5Config.tiny(dropout=0.2).width
        128
        """
        sides = {"encoder_layers": 4, "decoder_layers": 4}
        return cls(**{"width": 128, "head_dim": 32, "mlp_dim": 256, **sides, **changes})

    @classmethod
    def small(cls, **changes: Any) -> "T5Config":
        """Returns the size of T5 v1.1 small (60 million parameters without the embedding).

        Args:
            **changes: Other fields.
        """
        return cls.flan("small", **changes)

    @classmethod
    def flan(cls, size: str, **changes: Any) -> "T5Config":
        """Returns a published size of T5 v1.1 and Flan-T5, for `train.pretrained`.

        Raffel et al. 2020, released configurations.

        Args:
            size: `small`, `base`, `large`, `xl` or `xxl`.
            **changes: Other fields.

        Raises:
            InputError: There is no such size.

        >>> T5Config.flan("xl").width
        2048
        """
        if size not in FLAN_SIZES:
            hint = nearest(str(size), FLAN_SIZES)
            raise InputError(f"there is no Flan-T5 {shown(size)}", where="T5Config.flan", hint=hint)
        width, heads, mlp_dim, layers = FLAN_SIZES[size]
        shape = {"width": width, "heads": heads, "mlp_dim": mlp_dim, "head_dim": 64}
        sides = {"encoder_layers": layers, "decoder_layers": layers}
        return cls(**{**shape, **sides, "unroll_layers": False, **changes})

    @property
    def is_gated(self) -> bool:
        """Whether the feed-forward block is gated."""
        return self.activation.startswith("gated")

    @property
    def shared_positions(self) -> bool:
        """Whether all layers of a side share one position bias; in umT5 each has its own."""
        return self.family != "umt5"

    @property
    def sharding_rules(self) -> ShardingRules:
        """The mesh axes of each parameter, first match wins."""
        return RULES

    # The imports are local because these modules import this one.
    def build(self, rngs: nnx.Rngs) -> Seq2Seq:
        """Makes the model with random parameters."""
        from irec_jax.model.t5 import T5

        return T5(self, rngs)

    def training_flops(
        self,
        source: Int[np.ndarray, "..."],
        target: Int[np.ndarray, "..."],
        lora: LoraConfig = NO_LORA,
    ) -> float:
        """Floating point operations of a training step; see `irec_jax.model.t5_flops`."""
        from irec_jax.model.t5_flops import training_flops

        return training_flops(self, source, target, lora)

    def cache_size(self, length: int) -> int:
        """Numbers in the self-attention cache of one answer of `length` tokens."""
        return 2 * self.decoder_layers * length * self.heads * self.head_dim


DEFAULT_MODEL = T5Config()
