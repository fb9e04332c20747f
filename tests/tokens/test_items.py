import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.text_cleaning import clean
from irec_jax.tokens.config import IndexKind, TokensConfig
from irec_jax.tokens.item_index import AtomicIndex, TitleIndex, build_sequences
from irec_jax.tokens.items import TokenWriter, make_writer
from irec_jax.tokens.names import distinct_names
from irec_jax.tokens.text import EOS, PAD, TextCodec, open_codec
from irec_jax.tokens.trie import build_trie

from .conftest import TITLES

pytestmark = pytest.mark.fast

NASTY = [
    "",
    "   ",
    "\n\t",
    "{history} {0} {{}}",
    "two\nlines\r\nof title",
    "\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd",
    "😀👩\u200d👩\u200d👧 family",
    "word " * 170,
    "w" * 850,
    "w" * 849 + "x",
    "</s>",
    "<pad> <unk>",
    "<item_2>",
    "\U0001f9ff",
    "\U0001f9fe",
    "\ue000",
    "same",
    "same",
    " same ",
    "same #2",
    "same (1999)",
    "a ; b ; c",
]


def titles(names, **columns):
    return pl.DataFrame({"title": names, **columns})


def check_index(writer, items):
    index = writer.index
    assert index.num_items == items
    sequences = [tuple(index.sequence(item)) for item in range(items)]
    assert len(set(sequences)) == items
    assert len(set(index.names)) == items
    assert index.vocabulary % 128 == 0
    assert index.vocabulary > max(max(one) for one in sequences)
    build_trie(index.offsets, index.tokens)  # raises unless prefix-free
    for name, sequence in zip(index.names, sequences, strict=True):
        assert clean(name) == name  # else the renderer would write another one
        wanted = sequence if index.has_item_tokens else sequence[:-1]
        assert EOS not in wanted
        assert writer.encode(name) == list(wanted)
        history = f"x ; {name} ; y"
        assert writer.encode(history) == writer.encode("x ;") + list(wanted) + writer.encode("; y")


def writer_of(catalog, codec, kind, **settings):
    config = TokensConfig(index=kind, **settings)
    return TokenWriter(codec, build_sequences(catalog, codec, config.item_index()))


@pytest.mark.parametrize("kind", IndexKind)
def test_unusual_titles_are_encoded_and_decoded(codec, kind):
    writer = writer_of(titles(NASTY), codec, kind)
    check_index(writer, len(NASTY))
    assert np.diff(writer.index.offsets).max() <= 16
    assert (writer.index.cut_titles >= 3) == (kind is IndexKind.TITLE)


@pytest.mark.parametrize("kind", IndexKind)
@pytest.mark.parametrize("file", ["tokenizer.json", "spiece.model"])
def test_unusual_titles_are_encoded_and_decoded_with_t5(shared, kind, file):
    codec = open_codec(shared / "tokenizer" / "t5" / file)
    unknown = ["東京", "京都", "大阪 東", "東 大阪"]  # all of them <unk> to T5
    writer = writer_of(titles([*NASTY, *unknown]), codec, kind)
    check_index(writer, len(NASTY) + 4)
    assert writer.index.cut_titles == (3 if kind is IndexKind.TITLE else 0)


@given(
    st.lists(
        st.sampled_from(["", "a", "a b", "#2", "a #2", "lamp", "w" * 99, "a " * 30]), min_size=1
    ),
    st.data(),
)
def test_any_catalog_gets_distinct_short_names(codec, names, data):
    size = {"min_size": len(names), "max_size": len(names)}
    years = data.draw(st.lists(st.sampled_from([None, 1999, 2000]), **size))
    brands = data.draw(st.lists(st.sampled_from([None, "", "Norden", "B " * 40]), **size))
    catalog = titles(
        names,
        released=pl.Series(years, dtype=pl.Int64),
        brand=pl.Series(brands, dtype=pl.String),
    )
    writer = writer_of(catalog, codec, IndexKind.TITLE)
    check_index(writer, len(names))
    assert np.diff(writer.index.offsets).max() <= 16


def test_duplicates_get_a_year_then_a_brand_then_a_number(codec):
    catalog = titles(
        ["lamp", "lamp", "lamp", "lamp", "lamp", "kettle"],
        released=["1999-05-01", "2000", "2000", "2000", None, "1999"],
        brand=["Norden", "Norden", "Alpkit", "Alpkit", None, "Norden"],
    )
    made = distinct_names(catalog, codec, 40)
    assert made.names == [
        "lamp (1999)",
        "lamp (2000, Norden)",
        "lamp (2000, Alpkit)",
        "lamp (2000, Alpkit) #2",
        "lamp",
        "kettle",
    ]
    assert made.cut == 0


def test_long_titles_are_cut_at_a_word_and_counted(codec):
    long = "Waterproof leather trail shoe " * 20
    made = distinct_names(titles([long, f"{long} blue", "lamp"]), codec, 15)
    assert made.cut == 2
    assert made.names[2] == "lamp"
    assert made.names[1].endswith(" #2")
    assert long.startswith(f"{made.names[0]} ")
    assert 12 <= len(made.sequences[0]) <= 15


def test_numbers_that_do_not_fit_are_refused():
    class Blind(TextCodec):
        """Reads every text as one unknown piece."""

        def __init__(self):
            pass

        def encode(self, text):
            return [2]

    with pytest.raises(InputError, match="cannot be made distinct"):
        distinct_names(titles(["a", "b"]), Blind(), 15)


def test_empty_catalog_is_refused(codec):
    with pytest.raises(InputError, match="no items"):
        build_sequences(titles(pl.Series([], dtype=pl.String)), codec, AtomicIndex())


def test_atomic_items_follow_the_text(codec):
    writer = writer_of(titles(TITLES), codec, IndexKind.ATOMIC)
    assert writer.index.tokens.tolist() == list(range(codec.size, codec.size + len(TITLES)))
    ids = writer.encode("bought <item_17> ; <item_3>")
    assert ids == [
        *codec.encode("bought"),
        codec.size + 17,
        *codec.encode(";"),
        codec.size + 3,
    ]
    assert writer.decode(ids) == "bought <item_17> ; <item_3>"
    assert writer.decode([codec.size + 17, EOS, PAD]) == "<item_17>"
    assert writer.decode([writer.index.vocabulary - 1]) == ""
    assert writer.index.token_titles is not None
    offsets, tokens = writer.index.token_titles
    assert tokens[offsets[17] : offsets[18]].tolist() == codec.encode(TITLES[17])


def test_every_item_has_title_pieces(codec):
    index = build_sequences(titles(NASTY), codec, AtomicIndex())
    assert index.token_titles is not None
    assert np.diff(index.token_titles[0]).min() >= 1
    assert index.token_titles[1].max() < codec.size


def test_t5_vocabulary_is_the_published_one(shared):
    codec = open_codec(shared / "tokenizer" / "t5")
    assert build_sequences(titles(["a"]), codec, TitleIndex(16)).vocabulary == 32_128


@pytest.mark.parametrize("kind", IndexKind)
def test_save_and_load_without_the_catalog(codec, kind, tmp_path):
    writer = writer_of(titles(TITLES + NASTY), codec, kind)
    writer.save(tmp_path / "tokens")
    loaded = TokenWriter.load(tmp_path / "tokens")
    text = f"bought {writer.index.names[5]} ; {writer.index.names[-1]} then ?"
    assert loaded.encode(text) == writer.encode(text)
    assert loaded.index.names == writer.index.names
    for name in ("offsets", "tokens"):
        np.testing.assert_array_equal(getattr(loaded.index, name), getattr(writer.index, name))
    before, after = writer.index.token_titles, loaded.index.token_titles
    assert (before is None) == (after is None) == (kind is IndexKind.TITLE)
    for one, other in zip(before or (), after or (), strict=True):
        np.testing.assert_array_equal(one, other)
    for name in ("has_item_tokens", "vocabulary", "text_vocabulary", "cut_titles"):
        assert getattr(loaded.index, name) == getattr(writer.index, name)


@pytest.mark.parametrize("file", ["spiece.model", "index.npz", "index.json"])
@pytest.mark.parametrize("damage", ["missing", "garbage", "half"])
def test_damaged_folder_is_refused(codec, tmp_path, file, damage):
    writer_of(titles(TITLES), codec, IndexKind.TITLE).save(tmp_path / "tokens")
    path = tmp_path / "tokens" / file
    if damage == "missing":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"\xff\x00 nothing of use")
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError) as error:
        TokenWriter.load(tmp_path / "tokens")
    assert str(tmp_path) in str(error.value)


def test_folder_of_another_shape_is_refused(codec, tmp_path):
    writer_of(titles(TITLES), codec, IndexKind.TITLE).save(tmp_path / "tokens")
    path = tmp_path / "tokens" / "index.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | {"names": settings["names"][:-1]}), encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        TokenWriter.load(tmp_path / "tokens")


@pytest.mark.parametrize("kind", IndexKind)
def test_real_catalog(shared, kind):
    path = shared / "data" / "movietweetings-100k" / "items.tsv.gz"
    catalog = pl.read_csv(path, separator="\t", quote_char=None).rename({"year": "released"})
    catalog = catalog.head(3_000)
    writer = make_writer(catalog, catalog["title"], TokensConfig(index=kind))
    check_index(writer, 3_000)
