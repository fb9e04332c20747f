"""The writer that turns prompts and answers into token ids and back."""

import functools
import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int

from irec_jax.errors import InputError
from irec_jax.files import replaced_folder
from irec_jax.tokens.config import TokensConfig
from irec_jax.tokens.item_index import (
    ItemSequences,
    TokenLists,
    build_sequences,
    numbered_names,
)
from irec_jax.tokens.text import TextCodec, open_codec, train_codec

Ids = Sequence[int] | Int[np.ndarray, " length"]

INDEX_ARRAYS, INDEX_SETTINGS = "index.npz", "index.json"


class TokenWriter:
    """Codec and item sequences together; they encode and decode prompts and answers."""

    def __init__(self, codec: TextCodec, index: ItemSequences) -> None:
        self.codec = codec.with_words(index.special_words)
        self.index = index

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without end-of-sequence; an item's name gives its tokens."""
        return self.codec.encode(text)

    def length(self, text: str) -> int:
        """The number of ids of `encode(text)`."""
        return self.codec.length(text)

    def decode(self, ids: Ids) -> str:
        """The text of `ids`; an item's tokens become its name.

        Padding, `EOS`, item tokens that are not the whole sequence of an item, and ids of the
        vocabulary's padding are left out.
        """
        tokens = [int(token) for token in ids]
        parts, text, position = [], [], 0
        while position < len(tokens):
            if tokens[position] < self.index.text_vocabulary:
                text.append(tokens[position])
                position += 1
                continue
            parts.append(self.codec.decode(text))
            text = []
            item, length = self._item_at(tokens, position)
            if item is not None:
                parts.append(self.index.names[item])
            position += length
        parts.append(self.codec.decode(text))
        return " ".join(part for part in parts if part)

    def _item_at(self, tokens: Sequence[int], position: int) -> tuple[int | None, int]:
        """The item whose sequence begins at `position`, and its length; (None, 1) without one."""
        for length in self._lengths:
            item = self._items.get(tuple(tokens[position : position + length]))
            if item is not None:
                return item, length
        return None, 1

    @functools.cached_property
    def _items(self) -> dict[tuple[int, ...], int]:
        return {sequence: item for item, sequence in enumerate(self.index.sequences())}

    @functools.cached_property
    def _lengths(self) -> list[int]:
        return sorted({len(sequence) for sequence in self._items})

    def save(self, folder: Path) -> None:
        """Writes all that `load` needs into `folder`, which is replaced as a whole."""
        index = self.index
        numbered = index.names == numbered_names(index.num_items)
        settings = {
            "text_vocabulary": index.text_vocabulary,
            "vocabulary": index.vocabulary,
            "cut_titles": index.cut_titles,
            "items": index.num_items,
            "names": None if numbered else list(index.names),
        }
        with replaced_folder(folder) as temporary:
            self.codec.save(temporary)
            np.savez(
                temporary / INDEX_ARRAYS,
                offsets=index.offsets,
                tokens=index.tokens,
                **_title_arrays(index.token_titles),
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
            # From memory: numpy leaves a file open that is not an archive.
            with np.load(io.BytesIO((folder / INDEX_ARRAYS).read_bytes())) as arrays:
                titles = [arrays[name] for name in _TITLE_ARRAYS if name in arrays]
                offsets, tokens = arrays["offsets"], arrays["tokens"]
            index = ItemSequences(
                names=tuple(settings["names"] or numbered_names(settings["items"])),
                offsets=offsets,
                tokens=tokens,
                token_titles=(titles[0], titles[1]) if titles else None,
                text_vocabulary=settings["text_vocabulary"],
                vocabulary=settings["vocabulary"],
                cut_titles=settings["cut_titles"],
            )
        except FileNotFoundError as error:
            raise InputError(
                f"{Path(error.filename).name} is missing",
                where=str(folder),
                hint="Copy the run's whole tokens folder, or tune again.",
            ) from error
        except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
            raise InputError(
                f"the item index is damaged ({error})",
                where=str(folder),
                hint="Copy the run's whole tokens folder again, or tune again.",
            ) from error
        return cls(codec, index)


_TITLE_ARRAYS = ("title_offsets", "title_tokens")


def _title_arrays(titles: TokenLists | None) -> dict[str, Any]:
    return {} if titles is None else dict(zip(_TITLE_ARRAYS, titles, strict=True))


def make_writer(
    catalog: pl.DataFrame, texts: Iterable[str], config: TokensConfig, seed: int = 0
) -> TokenWriter:
    """Opens or trains the tokenizer and writes the catalog with it.

    Args:
        catalog: The items.
        texts: The texts that a trained tokenizer learns from: titles, queries, templates.
        config: The tokenizer and the item index.
        seed: Seed of the tokenizer's training.

    Raises:
        InputError: As `open_codec`, `train_codec` and `build_sequences`.
    """
    if config.tokenizer == "trained":
        codec = train_codec(texts, config.vocabulary, seed)
    else:
        codec = open_codec(config.tokenizer)
    return TokenWriter(codec, build_sequences(catalog, codec, config.item_index()))
