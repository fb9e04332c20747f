"""Text to token ids and back, with Hugging Face tokenizers or sentencepiece.

All vocabularies number their special tokens as the T5 family does: `PAD` 0 (also the
decoder's start), `EOS` 1, `UNKNOWN` 2.
"""

import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import sentencepiece
import tokenizers

from irec_jax.errors import InputError

PAD, EOS, UNKNOWN = 0, 1, 2

HUGGING_FACE_FILE = "tokenizer.json"
SENTENCEPIECE_FILE = "spiece.model"

TRAINING_TEXTS = 500_000
CACHED_WORDS = 500_000

# Texts on which tokenizers that join pieces across a space differ from tokenizers that do not.
_SAMPLES = (
    "translate English to German: The house is wonderful.",
    "a  user ; has (2019) bought : L'été & co. #12 ; 'quoted' - \"words\" !",
    "<item_17> ; <item_3> ; 100 % wool , size 44.5 / 10",
    " Ünïcödé 東京 naïve … \u00bd ",
    "Hello hello HELLO don't can't 3.14 1,000,000 e-mail@example.org",
)


class HuggingFacePieces:
    """A `tokenizer.json`."""

    file = HUGGING_FACE_FILE

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # Otherwise "</s>" in a title or a query would end the sequence.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, text: str) -> list[int]:
        """Encodes `text` without special tokens."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        # The pieces of T5 contain "</s>" and "<pad>" a second time, as plain text.
        return [token if token > EOS else UNKNOWN for token in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Decodes `ids` without special tokens."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def special_ids(self) -> dict[str, int | None]:
        """Returns the ids of padding, end of sequence and unknown."""
        return {name: self._tokenizer.token_to_id(name) for name in ("<pad>", "</s>", "<unk>")}

    def save(self, path: Path) -> None:
        """Writes `tokenizer.json`."""
        self._tokenizer.save(str(path))

    def __getstate__(self) -> str:
        return self._tokenizer.to_str()

    def __setstate__(self, state: str) -> None:
        self.__init__(tokenizers.Tokenizer.from_str(state))


class SentencePiecePieces:
    """A sentencepiece model."""

    file = SENTENCEPIECE_FILE

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.size = self._processor.get_piece_size()

    def encode(self, text: str) -> list[int]:
        """Encodes `text` without special tokens."""
        return self._processor.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Decodes `ids` without special tokens."""
        return self._processor.decode([int(token) for token in ids])

    def special_ids(self) -> dict[str, int | None]:
        """Returns the ids of padding, end of sequence and unknown."""
        model = self._processor
        return {"<pad>": model.pad_id(), "</s>": model.eos_id(), "<unk>": model.unk_id()}

    def save(self, path: Path) -> None:
        """Writes the model file."""
        path.write_bytes(self._model)

    def __getstate__(self) -> bytes:
        return self._model

    def __setstate__(self, state: bytes) -> None:
        self.__init__(state)


Pieces = HuggingFacePieces | SentencePiecePieces


class _WordCache(dict[str, list[int]]):
    """Cache of the ids of words; words beyond the limit are encoded but not kept."""

    def __init__(self, pieces: Pieces, special: Mapping[str, list[int]]) -> None:
        super().__init__(special)
        self._pieces = pieces
        self._limit = CACHED_WORDS + len(special)

    def __missing__(self, word: str) -> list[int]:
        # The tokenizers raise on a lone surrogate, which JSON can contain.
        ids = self._pieces.encode(word.encode("utf-8", "replace").decode("utf-8"))
        if len(self) < self._limit:
            self[word] = ids
        return ids


class _WordLengths(dict[str, int]):
    """Cache of the number of ids of words; it keeps the words of the cache of ids."""

    def __init__(self, words: _WordCache) -> None:
        super().__init__()
        self._words = words

    def __missing__(self, word: str) -> int:
        length = len(self._words[word])
        if word in self._words:
            self[word] = length
        return length


class TextCodec:
    """Text to ids and back, with a cache of words.

    In the T5 family no piece crosses a space, so the ids of a text are those of its words in a
    row. The constructor checks that on samples (`by_word`); otherwise whole texts are encoded.

    Args:
        pieces: The tokenizer.
        special: Words with fixed ids, such as the names of atomic items.
    """

    def __init__(self, pieces: Pieces, special: Mapping[str, list[int]] | None = None) -> None:
        self._pieces = pieces
        self._special = dict(special or {})
        self._words = _WordCache(pieces, self._special)
        self._lengths = _WordLengths(self._words)
        self.by_word = all(_same_by_word(pieces, text) for text in _SAMPLES)

    @property
    def size(self) -> int:
        """The number of ids of text, special tokens included, special words not."""
        return self._pieces.size

    def encode(self, text: str) -> list[int]:
        """Encodes `text` without end-of-sequence; the ids are never `PAD` or `EOS`."""
        if not self.by_word:
            return self._encode_runs(text)
        ids: list[int] = []
        words = self._words
        for word in text.split(" "):
            ids += words[word]
        return ids

    def length(self, text: str) -> int:
        """Counts the ids of `encode(text)`."""
        if not self.by_word:
            return len(self.encode(text))
        return sum(map(self._lengths.__getitem__, text.split(" ")))

    def _encode_runs(self, text: str) -> list[int]:
        if not self._special:
            return list(self._words[text])
        ids: list[int] = []
        for is_special, run in itertools.groupby(text.split(" "), self._special.__contains__):
            if is_special:
                ids += [token for word in run for token in self._special[word]]
            else:
                ids += self._words[" ".join(run)]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Decodes `ids` (all below `size`) without padding and end-of-sequence."""
        return self._pieces.decode([token for token in ids if token not in (PAD, EOS)])

    def with_words(self, special: Mapping[str, list[int]]) -> "TextCodec":
        """Makes a codec of the same tokenizer with special words."""
        return TextCodec(self._pieces, special)

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's own file into the existing `folder`."""
        self._pieces.save(folder / self._pieces.file)


def _same_by_word(pieces: Pieces, text: str) -> bool:
    words = [token for word in text.split(" ") for token in pieces.encode(word)]
    return words == pieces.encode(text)


def open_codec(path: str | Path) -> TextCodec:
    """Opens a tokenizer file, or a folder that holds one.

    Args:
        path: `tokenizer.json`, a sentencepiece model, or a folder with `tokenizer.json` or
            `spiece.model` (the first that exists).

    Raises:
        InputError: There is no such file, it is not a tokenizer, or its special tokens are not
            `<pad>` 0, `</s>` 1 and `<unk>` 2.
    """
    file = _tokenizer_file(Path(path))
    try:
        if file.suffix == ".json":
            pieces = HuggingFacePieces(tokenizers.Tokenizer.from_file(str(file)))
        else:
            pieces = SentencePiecePieces(file.read_bytes())
    except Exception as error:  # both libraries raise bare Exception or RuntimeError
        raise InputError(
            f"not a tokenizer ({str(error).splitlines()[0] if str(error) else 'unreadable'})",
            where=str(file),
            hint="Give a Hugging Face tokenizer.json or a sentencepiece .model file.",
        ) from error
    special_ids = pieces.special_ids()
    if special_ids != {"<pad>": PAD, "</s>": EOS, "<unk>": UNKNOWN}:
        listed = ", ".join(f"{name} {number}" for name, number in special_ids.items())
        raise InputError(
            f"its special tokens are {listed}, not <pad> 0, </s> 1, <unk> 2",
            where=str(file),
            hint="Use a tokenizer of the T5 family, or tokens.tokenizer='trained'.",
        )
    return TextCodec(pieces)


def _tokenizer_file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in (HUGGING_FACE_FILE, SENTENCEPIECE_FILE):
        if (path / name).is_file():
            return path / name
    missing = f"no {HUGGING_FACE_FILE} or {SENTENCEPIECE_FILE} in it" if path.is_dir() else ""
    raise InputError(
        missing or "there is no such file",
        where=str(path),
        hint="Give the path of a tokenizer.json, a sentencepiece model, or 'trained'.",
    )


def train_codec(texts: Iterable[str], size: int, seed: int = 0) -> TextCodec:
    """Trains a unigram vocabulary; the same texts, size and seed give the same bytes.

    Characters outside the vocabulary are encoded as UTF-8 bytes, so no text is unknown.

    Args:
        texts: Titles, queries and templates.
        size: Number of ids, with special tokens and the 256 bytes; fewer if the texts have
            fewer pieces.
        seed: Seed of the sample of texts, if there are more than `TRAINING_TEXTS`.

    Raises:
        InputError: No text, or more different characters than `size` has room for.
    """
    kept = [text for text in texts if text and not text.isspace()]
    if not kept:
        raise InputError(
            "there is no text to train a tokenizer on",
            where="tokens.tokenizer",
            hint="Give the items titles, or set the path of a tokenizer.",
        )
    if len(kept) > TRAINING_TEXTS:
        chosen = np.random.default_rng([seed, 0]).choice(len(kept), TRAINING_TEXTS, replace=False)
        kept = [kept[position] for position in np.sort(chosen)]
    # A candidate piece must occur before two different characters. A word that always precedes
    # a space would never be one, so each word is also added alone.
    words = sorted({word for text in kept for word in text.split()})
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=itertools.chain(kept, words),
            model_writer=model,
            model_type="unigram",
            vocab_size=size,
            hard_vocab_limit=False,
            byte_fallback=True,
            # NFKC and case folding: a title, a prompt and a request in any case share pieces.
            normalization_rule_name="nmt_nfkc_cf",
            # Digits distinguish numbered duplicates; they must not fall back to bytes.
            required_chars="0123456789#()",
            pad_id=PAD,
            eos_id=EOS,
            unk_id=UNKNOWN,
            bos_id=-1,
            # With more threads the order of float sums changes the pieces.
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise InputError(
            f"{size} ids are too few for this text ({str(error).splitlines()[0]})",
            where="tokens.vocabulary",
            hint="Raise it.",
        ) from error
    return TextCodec(SentencePiecePieces(model.getvalue()))
