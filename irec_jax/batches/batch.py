"""The one shape of data that the device sees."""

import numpy as np
from flax import nnx
from jaxtyping import Array, Int


@nnx.dataclass
class Batch(nnx.Pytree):
    """Packed examples; several may share a row, told apart by segment numbers.

    Segment 0 is padding; segments 1, 2, ... of a row's inputs and targets belong together. An
    example lies in one piece, so the distance of two of its tokens is the distance of their
    columns. Targets are what the decoder should say, end-of-sequence included; the decoder's
    input is made from them by `irec_jax.model.seq2seq.shift_right`.
    """

    inputs: Int[Array | np.ndarray, "batch source"] = nnx.data()
    input_segments: Int[Array | np.ndarray, "batch source"] = nnx.data()
    targets: Int[Array | np.ndarray, "batch target"] = nnx.data()
    target_segments: Int[Array | np.ndarray, "batch target"] = nnx.data()
