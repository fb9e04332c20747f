"""Counter-based randomness: a number's draw depends on nothing but the seed and the number.

SplitMix64 (Steele, Lea and Flood, 2014). A generator object per record would cost more than the
record, and NumPy does not promise that its streams stay the same from one version to the next.
"""

import numpy as np
from jaxtyping import Int, UInt64

_MASK = 0xFFFFFFFFFFFFFFFF
_GAMMA = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


def scramble(word: int) -> int:
    """Maps a number to 64 random-looking bits; one to one on 64-bit words."""
    word = (word + _GAMMA) & _MASK
    word = ((word ^ (word >> 30)) * _FIRST) & _MASK
    word = ((word ^ (word >> 27)) * _SECOND) & _MASK
    return word ^ (word >> 31)


def derive_key(seed: int, *stream: int) -> int:
    """Makes a 64-bit key out of a seed and the numbers that name a stream of it.

    The key of a longer name follows from that of its beginning, so that what many share is worked
    out once: `derive_key(seed, a, b) == scramble(derive_key(seed, a) + b)`.
    """
    key = scramble(seed)
    for number in stream:
        key = scramble(key + number)
    return key


def permutation(key: int, length: int) -> Int[np.ndarray, " length"]:
    """Returns a random order of `range(length)` (int64) that is the same everywhere, for ever.

    Every number gets `scramble(key + number)` and the numbers are sorted by it. Scrambling is one
    to one, so no two are equal and the order does not hang on the kind of sort.
    """
    words = np.arange(length, dtype=np.uint64) + np.uint64(key & _MASK)
    return np.argsort(_scramble_array(words))


def _scramble_array(words: UInt64[np.ndarray, " length"]) -> UInt64[np.ndarray, " length"]:
    words = words + np.uint64(_GAMMA)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(_FIRST)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(_SECOND)
    return words ^ (words >> np.uint64(31))
