"""The first weights of a run: random, or a folder of pretrained ones; item rows from titles."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.sparse
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Float, Int

from irec_jax.errors import InputError
from irec_jax.model.config import T5Config
from irec_jax.model.params import Params, initialize
from irec_jax.model.pretrained import (
    Index,
    StoredArray,
    from_slices,
    open_hf,
    place,
    slice_key,
)
from irec_jax.training.distributed import on_host
from irec_jax.training.inputs import InitWeights

WEIGHTS = 0
"""Folded into the seed's key for the first weights; dropout folds another number."""

ROWS_TOGETHER, COLUMNS_TOGETHER = 16_384, 256
"""Rows and columns that are worked on at a time, so that the memory for it does not grow."""

DRAWN_TOGETHER = 256
"""New rows that share a random generator, so that a part of them is drawn without the rest."""

SPARE_SHARE = 0.005
"""Rows behind the tokenizer's ids, of all rows, that a published model may have: T5 keeps 128
for sentinels, umT5 384. Where no token of ours needs them they are left out."""


@dataclasses.dataclass(frozen=True, eq=False)
class ItemTitles:
    """The titles of items that are one token each.

    Attributes:
        first: The token of item 0; item i has token `first + i`. All smaller ids are text.
        offsets: `[items + 1]`; the title of item i is `tokens[offsets[i]:offsets[i + 1]]`.
        tokens: Ids of the titles' pieces.
        share: The part of a row's variance that comes from the title, 0 to 1; the rest stays as
            it was drawn and tells apart items whose titles have the same pieces.
    """

    first: int
    offsets: Int[np.ndarray, " items_plus_one"]
    tokens: Int[np.ndarray, " pieces"]
    share: float = 1.0


def from_scratch(config: T5Config, seed: int, titles: ItemTitles | None = None) -> InitWeights:
    """Random weights, born in their places on the mesh; the same on any mesh."""
    key = jax.random.fold_in(jax.random.key(seed), WEIGHTS)

    def start(shardings: Any) -> Params:
        params = jax.jit(lambda: initialize(config, key), out_shardings=shardings)()
        return params if titles is None else start_items_from_titles(params, titles)

    return start


def from_pretrained(
    folder: Path, config: T5Config, seed: int, titles: ItemTitles | None = None
) -> InitWeights:
    """The weights of a Hugging Face folder, born in their places; the same on any mesh.

    Rows for new tokens are drawn at the usual size.

    Args:
        folder: Holds `config.json` and safetensors.
        config: The model to start, which may have a larger vocabulary and another dropout.
        seed: Decides the rows of new tokens.
        titles: Starts the rows of item tokens from their titles.

    Raises:
        InputError: When the folder cannot be read or holds another model (when called).
    """

    def start(shardings: Any) -> Params:
        with open_hf(folder) as (theirs, stored):
            _check_same(theirs, config, folder)
            params = place(extend_vocabulary(stored, config.vocabulary, seed), shardings)
        return params if titles is None else start_items_from_titles(params, titles)

    return start


def extend_vocabulary(params: Params, vocabulary: int, seed: int) -> Params:
    """Adds rows for new tokens to the embedding and the head, as large as the rows there are.

    Args:
        params: Weights of a smaller vocabulary, or of the same. Those that are still in files
            (`irec_jax.model.pretrained.open_hf`) stay there: new rows are made where slices are
            read.
        vocabulary: Rows wanted.
        seed: Decides the new rows.

    Returns:
        The weights with numpy arrays, or what is read by slices, in place of those two.
    """
    changed = {**params}
    for name, axis in _tables(params):
        array = params[name]
        if isinstance(array, StoredArray):
            changed[name] = LongerTable(array, vocabulary, axis, seed)
        else:
            rows = on_host(array) if isinstance(array, jax.Array) else array
            changed[name] = LongerTable(rows, vocabulary, axis, seed)[slice(None), slice(None)]
    return changed


class LongerTable:
    """An embedding or a head with rows for new tokens, read by slices.

    A new row depends on the seed and its token alone, but for its size: the root mean square of
    the rows there are.

    Attributes:
        shape: Of the whole, new rows included.
        ndim: 2.
    """

    ndim = 2

    def __init__(
        self, rows: StoredArray | np.ndarray, vocabulary: int, axis: int, seed: int
    ) -> None:
        self._rows, self._axis, self._seed = rows, axis, seed
        self._old, self._width = rows.shape[axis], rows.shape[1 - axis]
        self.shape = (vocabulary, self._width) if axis == 0 else (self._width, vocabulary)
        self._size = self._root_mean_square() if vocabulary > self._old else 0.0

    def __getitem__(self, index: Index) -> Float[np.ndarray, "_ _"]:
        """The part at `index`, float32."""
        start, stop, _ = index[self._axis].indices(self.shape[self._axis])
        columns = index[1 - self._axis]
        there = self._rows[self._at(slice(min(start, self._old), min(stop, self._old)), columns)]
        if stop <= self._old:
            return there
        drawn = self._drawn(max(start, self._old), stop)[:, columns]
        return np.concatenate([there, drawn if self._axis == 0 else drawn.T], axis=self._axis)

    def _at(self, rows: slice, columns: slice) -> Index:
        return (rows, columns) if self._axis == 0 else (columns, rows)

    def _drawn(self, start: int, stop: int) -> Float[np.ndarray, "rows width"]:
        rows = np.empty((stop - start, self._width), np.float32)
        for block in range(start // DRAWN_TOGETHER, -(-stop // DRAWN_TOGETHER)):
            rng = np.random.default_rng([self._seed, self._axis, block])
            drawn = self._size * rng.standard_normal((DRAWN_TOGETHER, self._width))
            first = block * DRAWN_TOGETHER
            begin, end = max(first, start), min(first + DRAWN_TOGETHER, stop)
            rows[begin - start : end - start] = drawn[begin - first : end - first]
        return rows

    def _root_mean_square(self) -> float:
        total = 0.0
        for start in range(0, self._old, ROWS_TOGETHER):
            part = self._rows[self._at(slice(start, start + ROWS_TOGETHER), slice(None))]
            # One order of the sum, however the rows lie in memory.
            rows = np.ascontiguousarray(part if self._axis == 0 else part.T)
            total += float(np.sum(np.square(rows, dtype=np.float64)))
        return float(np.sqrt(total / (self._old * self._width)))


def start_items_from_titles(params: Params, titles: ItemTitles) -> Params:
    """Sets the rows of item tokens, in embedding and head, from the mean of their titles' pieces.

    As new words usually start when a vocabulary is extended, but freed of what all titles share
    and stretched to the spread of the text rows: pieces such as `in` or `for` stand in most
    titles and would make all items alike, and the mean of n unrelated rows is sqrt(n) times
    smaller than they are. Why, with figures: docs/decisions/0054-item-row-initialization.md. An
    item without a title keeps its row.

    Args:
        params: The weights; not changed. Where they are cut over devices, each process brings the
            rows of text to its host, and makes only the item rows that its devices hold.
        titles: Which rows, and what they start from.

    Returns:
        The weights with new arrays, in the same places, for those two.
    """
    changed = {name: _told(params[name], axis, titles) for name, axis in _tables(params)}
    return {**params, **changed}


def _told(array: jax.Array | np.ndarray, axis: int, titles: ItemTitles) -> jax.Array | np.ndarray:
    item_rows = _ItemRows(_text_rows(array, titles.first, axis), titles)
    if isinstance(array, jax.Array):
        return _rewritten(array, axis, item_rows)
    values = np.array(array)
    item_rows.write(values if axis == 0 else values.T, 0, 0)
    return values


def _tables(params: Params) -> list[tuple[str, int]]:
    """The arrays that have a row for each token, and the axis of these rows."""
    return [("embedding", 0), *([("head", 1)] if "head" in params else [])]


def _text_rows(
    array: jax.Array | np.ndarray, count: int, axis: int
) -> Float[np.ndarray, "text width"]:
    """The first rows, on the host of every process, wherever their parts are."""
    if not isinstance(array, jax.Array):
        return array[:count] if axis == 0 else array[:, :count].T
    where = array.sharding
    if isinstance(where, NamedSharding):
        where = NamedSharding(where.mesh, PartitionSpec())
    many = min(count, ROWS_TOGETHER)

    def part(rows: jax.Array, start: int | jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(rows, start, many, axis)

    take = jax.jit(part, out_shardings=where)
    text = np.empty((count, array.shape[1 - axis]), np.float32)
    for start in range(0, count, many):
        here = min(start, count - many)
        rows = np.asarray(take(array, here).addressable_data(0))
        text[here : here + many] = rows if axis == 0 else rows.T
    return text


def _rewritten(array: jax.Array, axis: int, item_rows: "_ItemRows") -> jax.Array:
    """An array with other item rows, each process its own parts."""
    held = {slice_key(shard.index): shard.data for shard in array.addressable_shards}

    def part(index: Index) -> np.ndarray:
        values = np.array(held[slice_key(index)])
        row, column = (index[at].start or 0 for at in (axis, 1 - axis))
        item_rows.write(values if axis == 0 else values.T, row, column)
        return values

    return from_slices(array.shape, array.sharding, part)


class _ItemRows:
    """What the rows of items become, a block of rows and columns at a time."""

    def __init__(self, text: Float[np.ndarray, "text width"], titles: ItemTitles) -> None:
        self._titles = titles
        lengths = np.diff(titles.offsets)
        self._named = lengths > 0
        self._count = len(lengths)
        share = np.repeat(1.0 / np.maximum(lengths, 1), lengths)
        used, number = np.unique(titles.tokens, return_inverse=True)
        self._text = text[used]
        shape = (self._count, len(used))
        self._mean_of = scipy.sparse.csr_array((share, number, titles.offsets), shape)
        pieces = self._mean_of.T @ self._named.astype(np.float64)
        self._pieces = pieces / max(np.count_nonzero(self._named), 1)
        self._center = text.mean(axis=0, dtype=np.float64)
        self._spread = np.sqrt(
            sum(
                float(np.sum(np.square(text[start : start + ROWS_TOGETHER] - self._center)))
                for start in range(0, len(text), ROWS_TOGETHER)
            )
            / len(text)
        )
        squares = np.zeros(self._count)
        for items, _, apart in self._apart(0, self._count, 0, self._text.shape[1]):
            squares[items] += np.sum(np.square(apart), axis=1)
        self._norms = np.sqrt(squares)

    def write(self, rows: Float[np.ndarray, "rows columns"], row: int, column: int) -> None:
        """Changes the rows of items in a part of the table.

        Args:
            rows: The part, changed in place.
            row: The token of its first row.
            column: The column of its first column.
        """
        to_row = self._titles.first - row  # from an item's number
        start, stop = max(-to_row, 0), min(len(rows) - to_row, self._count)
        told_share, kept_share = np.sqrt(self._titles.share), np.sqrt(1 - self._titles.share)
        for items, columns, apart in self._apart(start, stop, column, column + rows.shape[1]):
            place = (
                slice(items.start + to_row, items.stop + to_row),
                slice(columns.start - column, columns.stop - column),
            )
            norms, center = self._norms[items, None], self._center[columns]
            told = apart * (self._spread / np.maximum(norms, 1e-9))
            mixed = center + told_share * told + kept_share * (rows[place] - center)
            # Where all titles say the same they tell nothing, and the drawn row is better.
            tells = self._named[items, None] & (norms > 1e-6)
            rows[place] = np.where(tells, mixed, rows[place])

    def _apart(
        self, start: int, stop: int, first: int, last: int
    ) -> Iterator[tuple[slice, slice, Float[np.ndarray, "items columns"]]]:
        """The means of titles' pieces without what all titles share, by blocks."""
        if stop <= start:
            return
        for left in range(first, last, COLUMNS_TOGETHER):
            columns = slice(left, min(left + COLUMNS_TOGETHER, last))
            text = self._text[:, columns].astype(np.float64)
            shared = self._pieces @ text
            for top in range(start, stop, ROWS_TOGETHER):
                items = slice(top, min(top + ROWS_TOGETHER, stop))
                yield items, columns, self._mean_of[items] @ text - shared


def _check_same(theirs: T5Config, ours: T5Config, folder: Path) -> None:
    free = ("dropout", "compute", "unroll_layers", "remat", "vocabulary")
    for field in dataclasses.fields(T5Config):
        there, here = getattr(theirs, field.name), getattr(ours, field.name)
        if field.name not in free and there != here:
            what = f"the weights have {field.name} {there!r}, the config has {here!r}"
            hint = f"Set model.{field.name} to {there!r}."
            raise InputError(what, where=str(folder), hint=hint)
    if theirs.vocabulary - ours.vocabulary > SPARE_SHARE * theirs.vocabulary:
        what = f"the weights have {theirs.vocabulary} tokens, the config has {ours.vocabulary}"
        hint = f"Set model.vocabulary to {theirs.vocabulary} or more."
        raise InputError(what, where=str(folder), hint=hint)
