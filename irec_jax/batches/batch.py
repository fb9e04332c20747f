"""The input of the model: packed examples."""

import numpy as np
from flax import nnx
from jaxtyping import Array, Int


@nnx.dataclass
class Batch(nnx.Pytree):
    """Packed examples; segment numbers separate the examples of a row.

    Segment 0 is padding; segments 1, 2, ... of a row's inputs and targets belong together. The
    tokens of an example are contiguous, so the distance of two of them is the distance of their
    columns. Targets end with end-of-sequence; the decoder's inputs are made from them by
    `irec_jax.model.seq2seq.shift_right`.
    """

    inputs: Int[Array | np.ndarray, "batch source"] = nnx.data()
    input_segments: Int[Array | np.ndarray, "batch source"] = nnx.data()
    targets: Int[Array | np.ndarray, "batch target"] = nnx.data()
    target_segments: Int[Array | np.ndarray, "batch target"] = nnx.data()
