"""Counter-based random numbers: a draw is a pure function of the seed, a stream and a counter.

SplitMix64 (Steele, Lea and Flood, 2014). A generator object per record would cost more than the
record, and NumPy does not promise that its streams stay the same from one version to the next.
"""

import enum

import numpy as np
from jaxtyping import Int, UInt64

_MASK = 0xFFFFFFFFFFFFFFFF
_GAMMA = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


class RandomStream(enum.IntEnum):
    """The number of every stream of random draws.

    The numbers are part of the bytes of stored sets. Streams 31 and 32 have two users each, see
    docs/decisions/0190-shared-stream-numbers.md; a new stream takes a free number.
    """

    EXAMPLE_ORDER = 0
    RECORD = 1
    NEGATIVES = 2
    CANDIDATE_ORDER = 3
    EVALUATION_INTENTION = 17
    SAMPLE_PAGE = 29
    METADATA_PREFERENCE = 31
    METADATA_SPECIFIC_QUERY = 32
    METADATA_VAGUE_QUERY = 33
    METADATA_REASON = 34
    TEACHER_USERS = 41
    TEACHER_ANGLE = 42
    MODEL_TEACHER_SAMPLE = 43
    CHAT_SEED = 44
    CHAT_RETRY_DELAY = 45
    UNDERSTANDING = 46
    ABLATION_QUERY = 31
    ABLATION_TEMPLATE = 32


class DrawField(enum.IntEnum):
    """The lowest bit of every choice that is made from one draw.

    Choices that are made from the same draw have different fields.
    """

    # Of the draw of a record and of `RandomStream.EVALUATION_INTENTION`.
    TEMPLATE = 0
    PREFERENCE_VARIANT = 16
    LANGUAGE = 32
    # Of the draws of the metadata teacher.
    SENTENCE_PATTERN = 0
    ECHOED_KIND = 8
    TRAIT = 16
    SECOND_TRAIT = 24
    NEED = 24
    PREFERENCE_PRICE = 24
    ECHOED_BRAND = 32
    OTHER_AREA = 32
    REASON_PRICE = 32
    QUERY_PRICE = 40
    SPREAD = 40


def draw_field(draw: int, field: DrawField) -> int:
    """Returns the bits of a draw from a field upwards; take it modulo the number of options."""
    return draw >> field


def scramble(word: int) -> int:
    """Maps a number to 64 pseudorandom bits, one to one on 64-bit words."""
    word = (word + _GAMMA) & _MASK
    word = ((word ^ (word >> 30)) * _FIRST) & _MASK
    word = ((word ^ (word >> 27)) * _SECOND) & _MASK
    return word ^ (word >> 31)


def derive_key(seed: int, *stream: int) -> int:
    """Returns the 64-bit key of a stream.

    Keys can be extended, so that the common start of many keys is computed once:
    `derive_key(seed, a, b) == scramble(derive_key(seed, a) + b)`.

    Args:
        seed: The seed of the run or set.
        stream: A `RandomStream` and counters within it.
    """
    key = scramble(seed)
    for number in stream:
        key = scramble(key + number)
    return key


def permutation(key: int, length: int) -> Int[np.ndarray, " length"]:
    """Returns a random order of `range(length)` (int64), the same on every platform and version.

    The numbers are sorted by `scramble(key + number)`. Scrambling is one to one, so no two keys
    are equal and the order does not depend on the sorting algorithm.
    """
    words = np.arange(length, dtype=np.uint64) + np.uint64(key & _MASK)
    return np.argsort(_scramble_array(words))


def _scramble_array(words: UInt64[np.ndarray, " length"]) -> UInt64[np.ndarray, " length"]:
    words = words + np.uint64(_GAMMA)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(_FIRST)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(_SECOND)
    return words ^ (words >> np.uint64(31))
