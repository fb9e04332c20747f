"""How items are written as tokens, and the writer that turns prompts and answers into ids."""

import dataclasses
import functools
import io
import itertools
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int

from irec_jax.errors import InputError
from irec_jax.files import replaced_folder
from irec_jax.text_cleaning import clean
from irec_jax.tokens.names import UNTITLED, distinct_names
from irec_jax.tokens.text import (
    EOS,
    PAD,
    UNKNOWN,
    IndexKind,
    TextCodec,
    TokensConfig,
    open_codec,
    train_codec,
)

VOCABULARY_MULTIPLE = 128  # rows of the embedding; splits over any mesh and fills TPU lanes

Ids = Sequence[int] | Int[np.ndarray, " length"]

INDEX_ARRAYS, INDEX_SETTINGS = "index.npz", "index.json"


@dataclasses.dataclass(frozen=True, eq=False)
class ItemIndex:
    """The legal token sequence of every item; no sequence begins with another.

    Attributes:
        kind: Title: the pieces of the item's name, then `EOS`. Atomic: one token of its own.
        names: How each item is written in a prompt or an answer; encoding a name gives the
            item's sequence (its `EOS` excepted).
        offsets: `[items + 1]` int64; item `i` is `tokens[offsets[i]:offsets[i + 1]]`.
        tokens: `[total]` int32.
        title_tokens: `(offsets, tokens)` as above: the pieces of each item's whole title,
            at least one; an atomic embedding starts as their mean.
        text_vocabulary: Ids of text; those of atomic items follow.
        vocabulary: All ids, padded up to a multiple of 128.
        cut_titles: Titles that were longer than `max_item_tokens`.
    """

    kind: IndexKind
    names: tuple[str, ...]
    offsets: Int[np.ndarray, " items_plus_one"]
    tokens: Int[np.ndarray, " total"]
    title_tokens: tuple[Int[np.ndarray, " items_plus_one"], Int[np.ndarray, " title_total"]]
    text_vocabulary: int
    vocabulary: int
    cut_titles: int = 0

    def __post_init__(self) -> None:
        """Refuses arrays that do not belong together.

        Raises:
            ValueError: The number of names, of sequences and of titles, or their ends, differ.
        """
        for offsets, tokens in ((self.offsets, self.tokens), self.title_tokens):
            if len(offsets) != len(self.names) + 1 or offsets[-1] != len(tokens):
                raise ValueError("names and sequences differ in number")

    @property
    def num_items(self) -> int:
        """How many items there are."""
        return len(self.names)

    @property
    def special_words(self) -> dict[str, list[int]]:
        """Words that are one token each: the names of atomic items."""
        if self.kind is IndexKind.TITLE:
            return {}
        return dict(zip(self.names, ([token] for token in self.tokens.tolist()), strict=True))

    def sequence(self, item: int) -> list[int]:
        """The legal sequence of an item."""
        return self.tokens[self.offsets[item] : self.offsets[item + 1]].tolist()


def build_index(catalog: pl.DataFrame, codec: TextCodec, config: TokensConfig) -> ItemIndex:
    """Writes every item of `catalog` (column `title`, optional `released`, `brand`) as tokens.

    Raises:
        InputError: The catalog is empty, or titles cannot be made distinct in the budget.
    """
    if not catalog.height:
        raise InputError("the catalog has no items", where="data.log", hint="give a log with some")
    titles = [clean(title or "") or UNTITLED for title in catalog["title"].to_list()]
    pieces = [codec.encode(title) or [UNKNOWN] for title in titles]
    if config.index is IndexKind.ATOMIC:
        names = _atomic_names(len(titles))
        sequences: list[Sequence[int]] = [[codec.size + item] for item in range(len(titles))]
        largest, cut = codec.size + len(titles), 0
    else:
        made = distinct_names(catalog, codec, config.max_item_tokens - 1)
        names, cut = tuple(made.names), made.cut
        sequences = [(*ids, EOS) for ids in made.sequences]
        largest = codec.size
    offsets, tokens = _flat(sequences)
    return ItemIndex(
        kind=config.index,
        names=names,
        offsets=offsets,
        tokens=tokens,
        title_tokens=_flat(pieces),
        text_vocabulary=codec.size,
        vocabulary=-(-largest // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE,
        cut_titles=cut,
    )


def _atomic_names(items: int) -> tuple[str, ...]:
    return tuple(f"<item_{item}>" for item in range(items))


def _flat(
    sequences: Sequence[Sequence[int]],
) -> tuple[Int[np.ndarray, " items_plus_one"], Int[np.ndarray, " total"]]:
    offsets = np.zeros(len(sequences) + 1, np.int64)
    np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
    flat = [token for sequence in sequences for token in sequence]
    return offsets, np.array(flat, np.int32)


class TokenWriter:
    """Codec and item index together: what prompts and answers are written with."""

    def __init__(self, codec: TextCodec, index: ItemIndex) -> None:
        self.codec = codec.with_words(index.special_words)
        self.index = index

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without end-of-sequence; an atomic name is its item's token."""
        return self.codec.encode(text)

    def length(self, text: str) -> int:
        """How many ids `encode(text)` has."""
        return self.codec.length(text)

    def decode(self, ids: Ids) -> str:
        """The text of `ids`; an item's token becomes its name, padding and EOS nothing.

        Tokens of the vocabulary's padding, which mean nothing, are left out too.
        """
        parts, run = [], []
        for token in [int(token) for token in ids]:
            if token < self.index.text_vocabulary:
                run.append(token)
                continue
            parts += [self.codec.decode(run)]
            run = []
            item = token - self.index.text_vocabulary
            if self.index.kind is IndexKind.ATOMIC and item < self.index.num_items:
                parts.append(self.index.names[item])
        parts.append(self.codec.decode(run))
        return " ".join(part for part in parts if part)

    def item_of(self, ids: Ids) -> int | None:
        """The item whose legal sequence `ids` is, with or without EOS and what follows it."""
        core = [int(token) for token in ids]
        ends = [place for place, token in enumerate(core) if token in (EOS, PAD)]
        return self._items.get(tuple(core[: ends[0]] if ends else core))

    @functools.cached_property
    def _items(self) -> dict[tuple[int, ...], int]:
        end = -1 if self.index.kind is IndexKind.TITLE else None
        flat, offsets = self.index.tokens.tolist(), self.index.offsets.tolist()
        bounds = itertools.pairwise(offsets)
        return {tuple(flat[a:b][:end]): item for item, (a, b) in enumerate(bounds)}

    def save(self, folder: Path) -> None:
        """Writes all that `load` needs into `folder`, which is replaced as a whole."""
        index = self.index
        settings = {
            "kind": index.kind.value,
            "text_vocabulary": index.text_vocabulary,
            "vocabulary": index.vocabulary,
            "cut_titles": index.cut_titles,
            "items": index.num_items,
            "names": list(index.names) if index.kind is IndexKind.TITLE else None,
        }
        with replaced_folder(folder) as temporary:
            self.codec.save(temporary)
            np.savez(
                temporary / INDEX_ARRAYS,
                offsets=index.offsets,
                tokens=index.tokens,
                title_offsets=index.title_tokens[0],
                title_tokens=index.title_tokens[1],
            )
            text = json.dumps(settings, ensure_ascii=False, indent=1)
            (temporary / INDEX_SETTINGS).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "TokenWriter":
        """Reads what `save` wrote; the catalog is not needed.

        Raises:
            InputError: A file is missing or damaged.
        """
        codec = open_codec(folder)
        try:
            settings = json.loads((folder / INDEX_SETTINGS).read_text(encoding="utf-8"))
            # From memory: numpy leaves the file open when it is no archive.
            with np.load(io.BytesIO((folder / INDEX_ARRAYS).read_bytes())) as arrays:
                title_tokens = (arrays["title_offsets"], arrays["title_tokens"])
                offsets, tokens = arrays["offsets"], arrays["tokens"]
            index = ItemIndex(
                kind=IndexKind(settings["kind"]),
                names=tuple(settings["names"] or _atomic_names(settings["items"])),
                offsets=offsets,
                tokens=tokens,
                title_tokens=title_tokens,
                text_vocabulary=settings["text_vocabulary"],
                vocabulary=settings["vocabulary"],
                cut_titles=settings["cut_titles"],
            )
        except FileNotFoundError as error:
            raise InputError(
                f"{Path(error.filename).name} is missing",
                where=str(folder),
                hint="copy the run's whole tokens folder, or tune again",
            ) from error
        except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
            raise InputError(
                f"the item index is damaged ({error})",
                where=str(folder),
                hint="copy the run's whole tokens folder again, or tune again",
            ) from error
        return cls(codec, index)


def make_writer(
    catalog: pl.DataFrame, texts: Iterable[str], config: TokensConfig, seed: int = 0
) -> TokenWriter:
    """Opens or trains the tokenizer and writes the catalog with it.

    Args:
        catalog: The items.
        texts: What a trained tokenizer learns from: titles, queries, templates.
        config: Which tokenizer and index.
        seed: Of the tokenizer's training.

    Raises:
        InputError: As `open_codec`, `train_codec` and `build_index`.
    """
    if config.tokenizer == "trained":
        codec = train_codec(texts, config.vocabulary, seed)
    else:
        codec = open_codec(config.tokenizer)
    return TokenWriter(codec, build_index(catalog, codec, config))
