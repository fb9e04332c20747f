"""Initial embedding and head rows of item tokens, from the items' titles.

The row of item i becomes

    c + sqrt(share) * s * d_i / |d_i| + sqrt(1 - share) * (r_i - c)

with

    r_i: its row before, drawn at random
    c:   the mean of the rows of all text tokens
    s:   their spread, sqrt(mean(|t_j - c|^2)) over all text tokens j
    m_i: the mean of the rows of the title's tokens
    d_i: m_i minus the mean of m over all items with a title

An item without a title, or with d_i = 0, keeps r_i. Averages of token rows are the usual start of
new words. They are centered because tokens such as `in` or `for` occur in most titles and would
make all items alike, and rescaled because the mean of n unrelated rows is sqrt(n) times smaller
than they are. Figures: docs/decisions/0054-item-row-initialization.md.
"""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
import scipy.sparse
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Float, Int

from irec_jax.model.params import Params
from irec_jax.model.pretrained import Index, from_slices, slice_key

ROWS_PER_BLOCK, COLUMNS_PER_BLOCK = 16_384, 256
"""Rows and columns that are computed at a time, which bounds the memory."""


@dataclasses.dataclass(frozen=True, eq=False)
class ItemTitles:
    """The titles of items that are one token each.

    Attributes:
        first: The token of item 0; item i has token `first + i`. All smaller ids are text tokens.
        offsets: `[items + 1]`; the title of item i is `tokens[offsets[i]:offsets[i + 1]]`.
        tokens: Token ids of the titles.
        share: The part of a row's variance that comes from the title, 0 to 1. The rest is random
            and separates items whose titles have the same tokens.
    """

    first: int
    offsets: Int[np.ndarray, " items_plus_one"]
    tokens: Int[np.ndarray, " pieces"]
    share: float = 1.0


def init_item_rows(params: Params, titles: ItemTitles) -> Params:
    """Set the rows of item tokens in embedding and head by the formula of this module.

    Args:
        params: The weights; not changed. If they are sharded, each process gathers the rows of
            text tokens on its host, and computes only the item rows of its devices.
        titles: The items' titles.

    Returns:
        The weights with new arrays, with the same shardings, for embedding and head.
    """
    changed = {
        name: _replace_item_rows(params[name], axis, titles) for name, axis in token_tables(params)
    }
    return {**params, **changed}


def _replace_item_rows(
    array: jax.Array | np.ndarray, axis: int, titles: ItemTitles
) -> jax.Array | np.ndarray:
    item_rows = _ItemRows(_text_rows(array, titles.first, axis), titles)
    if isinstance(array, jax.Array):
        return _replace_shards(array, axis, item_rows)
    values = np.array(array)
    item_rows.write(values if axis == 0 else values.T, 0, 0)
    return values


def token_tables(params: Params) -> list[tuple[str, int]]:
    """Return the names of the arrays with a row per token, and the axis of the rows."""
    return [("embedding", 0), *([("head", 1)] if "head" in params else [])]


def _text_rows(
    array: jax.Array | np.ndarray, count: int, axis: int
) -> Float[np.ndarray, "text width"]:
    """Return the first `count` rows on the host of every process, for any sharding."""
    if not isinstance(array, jax.Array):
        return array[:count] if axis == 0 else array[:, :count].T
    sharding = array.sharding
    if isinstance(sharding, NamedSharding):
        sharding = NamedSharding(sharding.mesh, PartitionSpec())
    size = min(count, ROWS_PER_BLOCK)

    def take_block(rows: jax.Array, start: int | jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(rows, start, size, axis)

    take = jax.jit(take_block, out_shardings=sharding)
    text = np.empty((count, array.shape[1 - axis]), np.float32)
    for offset in range(0, count, size):
        start = min(offset, count - size)
        rows = np.asarray(take(array, start).addressable_data(0))
        text[start : start + size] = rows if axis == 0 else rows.T
    return text


def _replace_shards(array: jax.Array, axis: int, item_rows: "_ItemRows") -> jax.Array:
    """Return an array with new item rows; each process computes its own shards."""
    shards = {slice_key(shard.index): shard.data for shard in array.addressable_shards}

    def new_shard(index: Index) -> np.ndarray:
        values = np.array(shards[slice_key(index)])
        row, column = (index[at].start or 0 for at in (axis, 1 - axis))
        item_rows.write(values if axis == 0 else values.T, row, column)
        return values

    return from_slices(array.shape, array.sharding, new_shard)


class _ItemRows:
    """Computes the new rows of items, a block of rows and columns at a time.

    Args:
        text: The rows of all text tokens.
        titles: The items' titles.
    """

    def __init__(self, text: Float[np.ndarray, "text width"], titles: ItemTitles) -> None:
        self._titles = titles
        lengths = np.diff(titles.offsets)
        self._has_title = lengths > 0
        self._count = len(lengths)
        weights = np.repeat(1.0 / np.maximum(lengths, 1), lengths)
        used, column = np.unique(titles.tokens, return_inverse=True)
        self._text = text[used]
        shape = (self._count, len(used))
        # `averaging @ text` is m, `mean_weights @ text` the mean of m.
        self._averaging = scipy.sparse.csr_array((weights, column, titles.offsets), shape)
        token_sums = self._averaging.T @ self._has_title.astype(np.float64)
        self._mean_weights = token_sums / max(np.count_nonzero(self._has_title), 1)
        self._center = text.mean(axis=0, dtype=np.float64)
        self._spread = np.sqrt(
            sum(
                float(np.sum(np.square(text[start : start + ROWS_PER_BLOCK] - self._center)))
                for start in range(0, len(text), ROWS_PER_BLOCK)
            )
            / len(text)
        )
        squares = np.zeros(self._count)
        for items, _, centered in self._centered(0, self._count, 0, self._text.shape[1]):
            squares[items] += np.sum(np.square(centered), axis=1)
        self._norms = np.sqrt(squares)

    def write(self, rows: Float[np.ndarray, "rows columns"], row: int, column: int) -> None:
        """Change the rows of items in a part of the table.

        Args:
            rows: The part, changed in place.
            row: The token of its first row.
            column: The index of its first column.
        """
        to_row = self._titles.first - row  # from an item's number
        start, stop = max(-to_row, 0), min(len(rows) - to_row, self._count)
        title_weight, random_weight = np.sqrt(self._titles.share), np.sqrt(1 - self._titles.share)
        for items, columns, centered in self._centered(start, stop, column, column + rows.shape[1]):
            block = (
                slice(items.start + to_row, items.stop + to_row),
                slice(columns.start - column, columns.stop - column),
            )
            norms, center = self._norms[items, None], self._center[columns]
            from_title = centered * (self._spread / np.maximum(norms, 1e-9))
            new = center + title_weight * from_title + random_weight * (rows[block] - center)
            is_changed = self._has_title[items, None] & (norms > 1e-6)
            rows[block] = np.where(is_changed, new, rows[block])

    def _centered(
        self, start: int, stop: int, first: int, last: int
    ) -> Iterator[tuple[slice, slice, Float[np.ndarray, "items columns"]]]:
        """Yield d_i of items `start` to `stop` and columns `first` to `last`, by blocks."""
        if stop <= start:
            return
        for left in range(first, last, COLUMNS_PER_BLOCK):
            columns = slice(left, min(left + COLUMNS_PER_BLOCK, last))
            text = self._text[:, columns].astype(np.float64)
            mean = self._mean_weights @ text
            for top in range(start, stop, ROWS_PER_BLOCK):
                items = slice(top, min(top + ROWS_PER_BLOCK, stop))
                yield items, columns, self._averaging[items] @ text - mean
