"""Initial weights of a run: random or pretrained, with rows for new tokens."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from irec_jax.errors import InputError
from irec_jax.model.params import Params, initialize
from irec_jax.model.pretrained import Index, StoredArray, open_hf, place
from irec_jax.model.seq2seq import Seq2SeqConfig
from irec_jax.training.distributed import on_host
from irec_jax.training.inputs import InitWeights
from irec_jax.training.item_rows import (
    ROWS_PER_BLOCK,
    ItemTitles,
    init_item_rows,
    token_tables,
)

WEIGHTS = 0
"""Folded into the seed's key for the initial weights; dropout folds another number."""

ROWS_PER_GENERATOR = 256
"""New rows that share a random generator, so that a part of them is drawn without the rest."""

UNUSED_SHARE = 0.005
"""Share of a published model's rows that may be left out because no token needs them: T5 has 128
rows after the tokenizer's ids for sentinels, umT5 384."""


def from_scratch(config: Seq2SeqConfig, seed: int, titles: ItemTitles | None = None) -> InitWeights:
    """Return a function that makes random weights, sharded; the same values on any mesh.

    Args:
        config: The model's config.
        seed: The seed of the weights.
        titles: If given, the rows of item tokens are made from the items' titles.
    """
    key = jax.random.fold_in(jax.random.key(seed), WEIGHTS)

    def init(shardings: Any) -> Params:
        params = jax.jit(lambda: initialize(config, key), out_shardings=shardings)()
        return params if titles is None else init_item_rows(params, titles)

    return init


def from_pretrained(
    folder: Path, config: Seq2SeqConfig, seed: int, titles: ItemTitles | None = None
) -> InitWeights:
    """Return a function that loads the weights of a Hugging Face folder, sharded.

    The values are the same on any mesh. Rows for new tokens are random. The function raises an
    `InputError` if the folder cannot be read or has another model.

    Args:
        folder: A folder with `config.json` and safetensors.
        config: The model's config, which may have a larger vocabulary and another dropout.
        seed: The seed of the rows of new tokens.
        titles: If given, the rows of item tokens are made from the items' titles.
    """

    def init(shardings: Any) -> Params:
        with open_hf(folder) as (stored_config, stored):
            _check_same_model(stored_config, config, folder)
            params = place(extend_vocabulary(stored, config.vocabulary, seed), shardings)
        return params if titles is None else init_item_rows(params, titles)

    return init


def extend_vocabulary(params: Params, vocabulary: int, seed: int) -> Params:
    """Add rows for new tokens to the embedding and the head, of the same size as the others.

    Args:
        params: Weights of at most this vocabulary. Stored arrays
            (`irec_jax.model.pretrained.open_hf`) stay in their files: new rows are made when
            slices are read.
        vocabulary: The number of rows afterwards.
        seed: The seed of the new rows.

    Returns:
        The weights with numpy arrays, or `ExtendedTable` for stored arrays, for those two.
    """
    changed = {**params}
    for name, axis in token_tables(params):
        array = params[name]
        if isinstance(array, StoredArray):
            changed[name] = ExtendedTable(array, vocabulary, axis, seed)
        else:
            rows = on_host(array) if isinstance(array, jax.Array) else array
            changed[name] = ExtendedTable(rows, vocabulary, axis, seed)[slice(None), slice(None)]
    return changed


class ExtendedTable:
    """An embedding or a head with rows for new tokens, read by slices.

    New rows are normal with the root mean square of the stored rows. They depend only on the
    seed, the token and this scale.

    Args:
        rows: The stored rows.
        vocabulary: The number of rows, new ones included.
        axis: The axis of the rows.
        seed: The seed of the new rows.

    Attributes:
        shape: The shape with the new rows.
        ndim: 2.
    """

    ndim = 2

    def __init__(
        self, rows: StoredArray | np.ndarray, vocabulary: int, axis: int, seed: int
    ) -> None:
        self._rows, self._axis, self._seed = rows, axis, seed
        self._old, self._width = rows.shape[axis], rows.shape[1 - axis]
        self.shape = (vocabulary, self._width) if axis == 0 else (self._width, vocabulary)
        self._scale = self._root_mean_square() if vocabulary > self._old else 0.0

    def __getitem__(self, index: Index) -> Float[np.ndarray, "_ _"]:
        """Return the slice at `index`, float32."""
        start, stop, _ = index[self._axis].indices(self.shape[self._axis])
        columns = index[1 - self._axis]
        old = self._rows[self._index(slice(min(start, self._old), min(stop, self._old)), columns)]
        if stop <= self._old:
            return old
        new = self._draw(max(start, self._old), stop)[:, columns]
        return np.concatenate([old, new if self._axis == 0 else new.T], axis=self._axis)

    def _index(self, rows: slice, columns: slice) -> Index:
        return (rows, columns) if self._axis == 0 else (columns, rows)

    def _draw(self, start: int, stop: int) -> Float[np.ndarray, "rows width"]:
        rows = np.empty((stop - start, self._width), np.float32)
        for block in range(start // ROWS_PER_GENERATOR, -(-stop // ROWS_PER_GENERATOR)):
            rng = np.random.default_rng([self._seed, self._axis, block])
            drawn = self._scale * rng.standard_normal((ROWS_PER_GENERATOR, self._width))
            first = block * ROWS_PER_GENERATOR
            begin, end = max(first, start), min(first + ROWS_PER_GENERATOR, stop)
            rows[begin - start : end - start] = drawn[begin - first : end - first]
        return rows

    def _root_mean_square(self) -> float:
        total = 0.0
        for start in range(0, self._old, ROWS_PER_BLOCK):
            part = self._rows[self._index(slice(start, start + ROWS_PER_BLOCK), slice(None))]
            # The same order of the sum for both memory layouts.
            rows = np.ascontiguousarray(part if self._axis == 0 else part.T)
            total += float(np.sum(np.square(rows, dtype=np.float64)))
        return float(np.sqrt(total / (self._old * self._width)))


def _check_same_model(stored: Seq2SeqConfig, config: Seq2SeqConfig, folder: Path) -> None:
    free = ("dropout", "compute", "unroll_layers", "remat", "vocabulary")
    names = [field.name for field in dataclasses.fields(config) if field.name not in free]
    differing = {
        name: (getattr(stored, name), getattr(config, name))
        for name in names
        if getattr(stored, name) != getattr(config, name)
    }
    if differing:
        weights = ", ".join(f"{name} {have!r}" for name, (have, _) in differing.items())
        settings = ", ".join(repr(need) for _, need in differing.values())
        changes = ", ".join(f"model.{name} to {have!r}" for name, (have, _) in differing.items())
        problem = f"the weights have {weights}, the config has {settings}"
        raise InputError(problem, where=str(folder), hint=f"Set {changes}.")
    if stored.vocabulary - config.vocabulary > UNUSED_SHARE * stored.vocabulary:
        problem = f"the weights have {stored.vocabulary} tokens, the config {config.vocabulary}"
        hint = f"Set model.vocabulary to {stored.vocabulary} or more."
        raise InputError(problem, where=str(folder), hint=hint)
