"""What a decoder is asked: one row of tokens a request."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Int


class Prompts(NamedTuple):
    """The encoder's side of some requests.

    Attributes:
        tokens: Token ids, padded at the end.
        segments: 1 where there is a prompt, 0 where padding is.
    """

    tokens: Int[Array | np.ndarray, "requests source"]
    segments: Int[Array | np.ndarray, "requests source"]
