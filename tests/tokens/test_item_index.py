"""Item indexes of the user's own, from their settings to a stored writer."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from irec_jax.errors import InputError
from irec_jax.settings import ImportedSettings, from_json, to_json
from irec_jax.tokens.config import IndexKind, TokensConfig
from irec_jax.tokens.item_index import ItemSequences, build_sequences
from irec_jax.tokens.items import TokenWriter, make_writer
from irec_jax.tokens.text import EOS, PAD

from .conftest import TITLES

pytestmark = pytest.mark.fast

CATALOG = pl.DataFrame({"title": TITLES})


@dataclasses.dataclass(frozen=True)
class PairCodes:
    """Two tokens an item, from two tables of `codes` ids."""

    codes: int = 20
    max_tokens: int = 2

    def num_item_tokens(self, items):
        return 2 * self.codes

    def build(self, catalog, codec):
        pairs = [divmod(item, self.codes) for item in range(catalog.height)]
        sequences = [[codec.size + a, codec.size + self.codes + b] for a, b in pairs]
        return ItemSequences.build([f"<p{a}_{b}>" for a, b in pairs], sequences, codec)


@dataclasses.dataclass(frozen=True)
class Wrong:
    """Writes the given names and sequences, ids counted from the first after those of text."""

    names: tuple[str, ...]
    sequences: tuple[tuple[int, ...], ...]
    max_tokens: int = 2

    def num_item_tokens(self, items):
        return items

    def build(self, catalog, codec):
        moved = [[codec.size + token for token in sequence] for sequence in self.sequences]
        return ItemSequences.build(self.names, moved, codec)


def test_an_own_index_writes_reads_and_is_stored_by_its_arrays(codec, tmp_path):
    writer = TokenWriter(codec, build_sequences(CATALOG, codec, PairCodes()))
    size = codec.size
    ids = writer.encode("bought <p2_3> ; <p0_1>")
    expected = [*codec.encode("bought"), size + 2, size + 23, *codec.encode(";"), size, size + 21]
    assert ids == expected
    assert writer.decode(ids) == "bought <p2_3> ; <p0_1>"
    assert writer.decode([size + 23, size + 2, size + 23, size + 2, EOS, PAD]) == "<p2_3>"
    writer.save(tmp_path / "tokens")
    loaded = TokenWriter.load(tmp_path / "tokens")
    assert loaded.index.names == writer.index.names
    assert loaded.encode("bought <p2_3> ; <p0_1>") == ids
    np.testing.assert_array_equal(loaded.index.offsets, writer.index.offsets)
    assert loaded.index.token_titles is None


def test_a_config_stores_an_own_index_by_import_path():
    config = TokensConfig(index=PairCodes(codes=30))
    stored = to_json(config)["index"]
    assert stored["import"] == f"{__name__}:PairCodes"
    loaded = from_json(TokensConfig, to_json(config))
    assert isinstance(loaded.index, ImportedSettings), "reading a config must not import the class"
    assert to_json(TokensConfig(index=IndexKind.TITLE))["index"] == "title"


def test_make_writer_uses_an_own_index():
    writer = make_writer(CATALOG, TITLES, TokensConfig(vocabulary=640, index=PairCodes()))
    assert writer.index.names[43] == "<p2_3>"


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (Wrong(("<a>",), ((0,),)), "Wrong wrote 1 of 2 items"),
        (Wrong(("<a>", "<b>"), ((0,), (0,))), "two items have one sequence"),
        (Wrong(("<a>", "<b>"), ((0,), (0, 1))), "two items have one sequence, or one begins"),
        (Wrong(("<a>", "<a>"), ((0,), (1,))), "the name '<a>' is not encoded as its sequence"),
        (Wrong(("<a>", "a b"), ((0,), (1,))), "the name 'a b' is not encoded as its sequence"),
        (Wrong(("<a>", "<b>"), ((0,), (1, 2, 3))), "3 tokens, more than max_tokens = 2"),
        (Wrong(("<a>", "<b>"), ((0,), (1, -5))), "the name '<b>' is not encoded as its sequence"),
    ],
)
def test_an_own_index_that_gives_no_legal_sequences_is_refused(codec, index, message):
    with pytest.raises(InputError, match=message):
        build_sequences(CATALOG.head(2), codec, index)


def test_an_object_that_is_not_an_item_index_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Other:
        codes: int = 3

    config = TokensConfig()
    object.__setattr__(config, "index", Other())  # past the type check of the tests
    with pytest.raises(InputError, match="not an item index"):
        config.__post_init__()


def test_an_own_index_that_does_not_fit_the_decoder_row_is_refused():
    with pytest.raises(InputError, match="16 cannot hold an item of 21 tokens"):
        TokensConfig(index=PairCodes(max_tokens=20), target_length=16)
