"""Dropout from a counter hash, with equal masks on any mesh.

The mask of an element depends only on the step's key, the position in the network and the
element's indices. Why not `jax.random`: docs/decisions/0041-hash-based-dropout.md.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt32

WORD = np.uint32


@dataclasses.dataclass(frozen=True)
class DropoutRng:
    """Random state and rate of the dropout at one position in the network.

    Attributes:
        words: Two words that differ for each step, layer and position.
        rate: Share of elements that are dropped.
    """

    words: UInt32[Array, " 2"]
    rate: float

    @classmethod
    def start(cls, key: Key[Array, ""] | None, rate: float) -> "DropoutRng | None":
        """Makes the state from a JAX key; None (drops nothing) without a key or a rate."""
        if key is None or rate == 0.0:
            return None
        return cls(jax.random.key_data(key).reshape(-1)[:2].astype(WORD), rate)


def fold_in(dropout_rng: DropoutRng | None, number: int | UInt32[Array, ""]) -> DropoutRng | None:
    """Derives the state of layer or position `number`; None stays None."""
    if dropout_rng is None:
        return None
    step = jnp.asarray(number, WORD) + 1
    first = _mix(dropout_rng.words[0] + step * WORD(0x9E3779B1))
    second = _mix(dropout_rng.words[1] ^ first ^ (step * WORD(0x85EBCA77)))
    return DropoutRng(jnp.stack([first, second]), dropout_rng.rate)


def keep_mask(
    words: UInt32[Array, " 2"], shape: tuple[int, ...], rate: float
) -> Bool[Array, "..."]:
    """Makes a mask of `shape` that is False with probability `rate`.

    Each row (all indices but the last) is hashed once into two words; each element costs a few
    integer operations. The second word enters between the rounds, so that no two rows are
    shifted copies of each other.
    """
    rows = shape[:-1]
    row = jnp.zeros(rows, WORD)
    for axis in range(len(rows)):
        row = row * WORD(rows[axis]) + jax.lax.broadcasted_iota(WORD, rows, axis)
    first = _mix(row * WORD(0x9E3779B1) + words[0])
    second = _mix(first ^ words[1])
    bits = jax.lax.broadcasted_iota(WORD, shape, len(rows)) * WORD(0x9E3779B1)
    bits = bits + first[..., None]
    bits = (bits ^ (bits >> 15)) * WORD(0x2C1B3C6D)
    bits = bits ^ second[..., None]
    bits = (bits ^ (bits >> 13)) * WORD(0x297A2D39)
    return (bits ^ (bits >> 16)) >= WORD(round(rate * 2**32))


def dropout(values: Float[Array, "..."], dropout_rng: DropoutRng | None) -> Float[Array, "..."]:
    """Sets elements to zero with probability `dropout_rng.rate` and scales up the rest."""
    if dropout_rng is None:
        return values
    keep = keep_mask(dropout_rng.words, values.shape, dropout_rng.rate)
    return jnp.where(keep, values * jnp.asarray(1 / (1 - dropout_rng.rate), values.dtype), 0)


def _mix(word: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """The finalizer of MurmurHash3: each input bit flips each output bit half the time."""
    word = (word ^ (word >> 16)) * WORD(0x85EBCA6B)
    word = (word ^ (word >> 13)) * WORD(0xC2B2AE35)
    return word ^ (word >> 16)
