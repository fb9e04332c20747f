"""The shape of a T5 model and the published sizes."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Everything that decides the arrays and the arithmetic of a T5 model.

    The defaults are T5 v1.1 (gated GELU, untied head). T5 1.0 has `activation="relu"`,
    `gated=False` and `tied_head=True`; Flan-T5 is v1.1 with other weights.

    Attributes:
        vocabulary: Rows of the embedding; the token ids that text and items need, padded up.
        width: Model dimension (d_model).
        head_dim: Dimension of one attention head (d_kv).
        heads: Attention heads.
        hidden: Feed-forward dimension (d_ff).
        encoder_layers: Layers of the encoder.
        decoder_layers: Layers of the decoder.
        relative_buckets: Buckets of the relative position bias.
        relative_max_distance: Distance from which all positions share the last bucket.
        activation: `gelu` is the tanh approximation that T5 v1.1 uses.
        gated: Whether the feed-forward block is gated.
        tied_head: Whether the output head is the embedding (then scaled by width ** -0.5).
        dropout: Dropout rate while training.
        norm_epsilon: Added to the mean square in RMS norm.
        compute: Dtype of activations; parameters are float32.
    """

    vocabulary: int = 32_128
    width: int = 512
    head_dim: int = 64
    heads: int = 6
    hidden: int = 1_024
    encoder_layers: int = 8
    decoder_layers: int = 8
    relative_buckets: int = 32
    relative_max_distance: int = 128
    activation: Literal["gelu", "relu"] = "gelu"
    gated: bool = True
    tied_head: bool = False
    dropout: float = 0.1
    norm_epsilon: float = 1e-6
    compute: Literal["float32", "bfloat16"] = "float32"
