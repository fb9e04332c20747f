"""Item indexes: how the items of a catalog are written as tokens."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl
from jaxtyping import Int

from irec_jax.errors import InputError
from irec_jax.tokens.names import clean_titles, distinct_names
from irec_jax.tokens.text import EOS, UNKNOWN, TextCodec
from irec_jax.tokens.trie import build_trie

VOCABULARY_MULTIPLE = 128  # rows of the embedding; splits over any mesh and fills TPU lanes

TokenLists = tuple[Int[np.ndarray, " lists_plus_one"], Int[np.ndarray, " list_total"]]
"""Lists of tokens as (offsets, tokens); list `i` is `tokens[offsets[i]:offsets[i + 1]]`."""


@dataclasses.dataclass(frozen=True, eq=False)
class ItemSequences:
    """The legal token sequence of every item; no sequence begins with another.

    Attributes:
        names: How each item is written in a prompt or an answer; encoding a name gives the
            item's sequence (its `EOS` excepted).
        offsets: `[items + 1]` int64; item `i` is `tokens[offsets[i]:offsets[i + 1]]`.
        tokens: `[total]` int32. A sequence consists of ids of text, or of item tokens, which are
            ids from `text_vocabulary` on; it may end with `EOS`.
        text_vocabulary: Ids of text.
        vocabulary: All ids, padded up to a multiple of 128.
        token_titles: For each item token the pieces of a title, at least one; its embedding can
            start as their mean. None where item tokens have no titles.
        cut_titles: Titles that were longer than `max_item_tokens`.
    """

    names: tuple[str, ...]
    offsets: Int[np.ndarray, " items_plus_one"]
    tokens: Int[np.ndarray, " total"]
    text_vocabulary: int
    vocabulary: int
    token_titles: TokenLists | None = None
    cut_titles: int = 0

    def __post_init__(self) -> None:
        """Refuses arrays that do not belong together.

        Raises:
            ValueError: The number of names and of sequences, or their ends, differ.
        """
        if len(self.offsets) != len(self.names) + 1 or self.offsets[-1] != len(self.tokens):
            raise ValueError("names and sequences differ in number")
        if self.token_titles is not None and self.token_titles[0][-1] != len(self.token_titles[1]):
            raise ValueError("titles and their ends differ in number")

    @classmethod
    def build(
        cls,
        names: Sequence[str],
        sequences: Sequence[Sequence[int]],
        codec: TextCodec,
        *,
        token_titles: TokenLists | None = None,
        cut_titles: int = 0,
    ) -> "ItemSequences":
        """Lays out the names and the token sequences of all items, in the catalog's order."""
        offsets, tokens = flat(sequences)
        largest = max(codec.size, int(tokens.max(initial=0)) + 1)
        return cls(
            names=tuple(names),
            offsets=offsets,
            tokens=tokens,
            text_vocabulary=codec.size,
            vocabulary=padded_vocabulary(largest),
            token_titles=token_titles,
            cut_titles=cut_titles,
        )

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.names)

    @property
    def has_item_tokens(self) -> bool:
        """Whether items have tokens of their own, so that only items of the index can be named."""
        return bool(len(self.tokens)) and int(self.tokens.max()) >= self.text_vocabulary

    @property
    def special_words(self) -> dict[str, list[int]]:
        """The tokens of each item name that is not encoded as text, without `EOS`."""
        if not self.has_item_tokens:
            return {}
        return {
            name: list(sequence)
            for name, sequence in zip(self.names, self.sequences(), strict=True)
            if sequence[0] >= self.text_vocabulary
        }

    def sequence(self, item: int) -> list[int]:
        """The legal sequence of an item."""
        return self.tokens[self.offsets[item] : self.offsets[item + 1]].tolist()

    def sequences(self) -> list[tuple[int, ...]]:
        """The sequences of all items, without `EOS`."""
        tokens = self.tokens.tolist()
        return [
            tuple(tokens[start : end - 1] if tokens[end - 1] == EOS else tokens[start:end])
            for start, end in itertools.pairwise(self.offsets.tolist())
        ]


@runtime_checkable
class ItemIndex(Protocol):
    """Settings that decide how the items of a catalog are written as tokens.

    The user's own index is a frozen dataclass with these members, set as `tokens.index` in a
    config file (docs/extending.md).
    """

    @property
    def max_tokens(self) -> int:
        """Most tokens of an item, `EOS` not counted."""
        ...

    def num_item_tokens(self, items: int) -> int:
        """Number of ids that a catalog of `items` items needs besides those of text."""
        ...

    def build(self, catalog: pl.DataFrame, codec: TextCodec) -> ItemSequences:
        """Writes every item of `catalog` (columns as in `items.parquet`) as tokens."""
        ...


@dataclasses.dataclass(frozen=True)
class TitleIndex:
    """Each item is the pieces of its name, then `EOS`.

    Attributes:
        max_item_tokens: Most tokens of an item, `EOS` included; longer titles are cut.
    """

    max_item_tokens: int

    @property
    def max_tokens(self) -> int:
        """Most tokens of a name."""
        return self.max_item_tokens - 1

    def num_item_tokens(self, items: int) -> int:
        """Names are text."""
        del items
        return 0

    def build(self, catalog: pl.DataFrame, codec: TextCodec) -> ItemSequences:
        """Makes the titles distinct and short enough.

        Raises:
            InputError: Titles cannot be made distinct in the budget.
        """
        made = distinct_names(catalog, codec, self.max_tokens)
        sequences = [(*ids, EOS) for ids in made.sequences]
        return ItemSequences.build(made.names, sequences, codec, cut_titles=made.cut)


@dataclasses.dataclass(frozen=True)
class AtomicIndex:
    """Each item is one token of its own, such as `<item_17>`."""

    @property
    def max_tokens(self) -> int:
        """One."""
        return 1

    def num_item_tokens(self, items: int) -> int:
        """One for each item."""
        return items

    def build(self, catalog: pl.DataFrame, codec: TextCodec) -> ItemSequences:
        """Numbers the items after the ids of text."""
        items = catalog.height
        titles = [codec.encode(title) or [UNKNOWN] for title in clean_titles(catalog)]
        sequences = [[codec.size + item] for item in range(items)]
        names = numbered_names(items)
        return ItemSequences.build(names, sequences, codec, token_titles=flat(titles))


def numbered_names(items: int) -> tuple[str, ...]:
    """Names that are one word each: `<item_0>`, `<item_1>`, ..."""
    return tuple(f"<item_{item}>" for item in range(items))


def padded_vocabulary(size: int) -> int:
    """The number of embedding rows for `size` ids."""
    return -(-size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def flat(lists: Sequence[Sequence[int]]) -> TokenLists:
    """Joins lists of tokens: offsets int64, tokens int32."""
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(tokens) for tokens in lists], out=offsets[1:])
    return offsets, np.array([token for tokens in lists for token in tokens], np.int32)


def build_sequences(catalog: pl.DataFrame, codec: TextCodec, index: ItemIndex) -> ItemSequences:
    """Writes every item of `catalog` with an item index and checks the result.

    Raises:
        InputError: The catalog is empty, the index cannot write it, or what a user's own index
            gives is not a set of legal sequences.
    """
    if not catalog.height:
        raise InputError(
            "the catalog has no items", where="data.log", hint="Give a log with items."
        )
    sequences = index.build(catalog, codec)
    if not isinstance(index, TitleIndex | AtomicIndex):
        _check_sequences(sequences, catalog.height, codec, index)
    return sequences


def _check_sequences(built: ItemSequences, items: int, codec: TextCodec, index: ItemIndex) -> None:
    """Refuses sequences with which items could not be encoded, decoded or found."""
    kind, where = type(index).__name__, "tokens.index"
    if built.num_items != items:
        raise InputError(f"{kind} wrote {built.num_items} of {items} items", where=where)
    try:
        build_trie(built.offsets, built.tokens)
    except ValueError as error:
        raise InputError(f"{kind}: {error}", where=where) from error
    codec = codec.with_words(built.special_words)
    for name, sequence in zip(built.names, built.sequences(), strict=True):
        is_item_token = {token >= built.text_vocabulary for token in sequence}
        if len(is_item_token) > 1 or tuple(codec.encode(name)) != sequence:
            raise InputError(
                f"{kind}: the name {name!r} is not encoded as its sequence {list(sequence)}",
                where=where,
                hint="Use ids of text alone, or ids from codec.size on and a name without spaces.",
            )
        if len(sequence) > index.max_tokens:
            raise InputError(
                f"{kind}: {name!r} has {len(sequence)} tokens, more than max_tokens = "
                f"{index.max_tokens}",
                where=where,
            )
