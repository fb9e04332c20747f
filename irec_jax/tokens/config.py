"""Settings of the tokenizer, the item index and the packed rows."""

import dataclasses
import enum
from typing import Annotated

import tyro

from irec_jax.bounds import LENGTH, Range, check_settings
from irec_jax.errors import InputError, shown
from irec_jax.settings import ImportedSettings, load_settings
from irec_jax.tokens.item_index import AtomicIndex, ItemIndex, TitleIndex


class IndexKind(enum.StrEnum):
    """Names of the item indexes of this package."""

    TITLE = "title"
    ATOMIC = "atomic"


_INDEX_NAMES = tuple(kind.value for kind in IndexKind)

# On the command line an index is chosen by its name; one of the user's own is set in a file.
_INDEX_ARGUMENT = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar=f"{{{','.join(_INDEX_NAMES)}}}",
    instance_from_str=lambda words: IndexKind(words[0]),
    is_instance=lambda value: isinstance(value, IndexKind | ItemIndex | ImportedSettings),
    str_from_instance=lambda value: [
        value.value if isinstance(value, IndexKind) else type(value).__name__
    ],
    choices=_INDEX_NAMES,
)


@dataclasses.dataclass(frozen=True)
class TokensConfig:
    """How text and items become tokens.

    Attributes:
        tokenizer: `trained` to train one on the log's text, or the path of a `tokenizer.json`,
            a sentencepiece model, or a folder that holds one of them.
        vocabulary: Pieces when trained on the log's text; fewer if the text has fewer.
        index: How an item is written: `title`, `atomic`, or in a config file an `ItemIndex` of
            the user's own.
        max_item_tokens: Longest title, end-of-sequence included; longer titles are cut.
        source_length: Columns of a packed encoder row.
        target_length: Columns of a packed decoder row.
    """

    tokenizer: str = "trained"
    vocabulary: int = 2_048
    index: Annotated[IndexKind | ItemIndex | ImportedSettings, _INDEX_ARGUMENT] = IndexKind.ATOMIC
    max_item_tokens: int = 16
    source_length: int = 64
    target_length: int = 24

    def __post_init__(self) -> None:
        """Refuses sizes with which nothing could be written.

        Raises:
            InputError: A size is too small, or an item would not fit a decoder row.
        """
        check_settings(
            self,
            "tokens.",
            vocabulary=Range(512, 10**6),
            max_item_tokens=Range(8, 1_024),
            source_length=Range(16, 2**16, "Set it to the longest prompt, for example 128."),
            target_length=LENGTH,
        )
        if not self.tokenizer:
            raise InputError(
                "the path is empty",
                where="tokens.tokenizer",
                hint="Set it to 'trained', or to a tokenizer.json or sentencepiece model.",
            )
        if not isinstance(self.index, IndexKind | ItemIndex | ImportedSettings):
            raise InputError(
                f"{shown(self.index)} is not an item index",
                where="tokens.index",
                hint="Give its class the members of irec_jax.tokens.item_index.ItemIndex.",
            )
        longest = self.max_item_tokens
        if isinstance(self.index, ItemIndex):
            longest = max(longest, self.index.max_tokens + 1)
        if self.target_length < longest:
            raise InputError(
                f"{self.target_length} cannot hold an item of {longest} tokens",
                where="tokens.target_length",
                hint="Raise it to the tokens of the longest item, or lower tokens.max_item_tokens.",
            )

    def item_index(self) -> ItemIndex:
        """The item index, whose class is imported where it is the user's own.

        Raises:
            InputError: The class cannot be imported.
        """
        if self.index is IndexKind.TITLE:
            return TitleIndex(self.max_item_tokens)
        if self.index is IndexKind.ATOMIC:
            return AtomicIndex()
        return load_settings(self.index)
