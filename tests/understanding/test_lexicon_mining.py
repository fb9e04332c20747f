"""Lexicons: the phrases that a log teaches, against the words that its simulator used."""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.log.domain import load_domain
from irec_jax.log.simulate import SimulateConfig, SimulatedWorld
from irec_jax.log.split import Role, Split, SplitConfig, split_log
from irec_jax.understanding.lexicon import (
    LEXICON_FILE,
    Field,
    FieldValue,
    Lexicon,
    Phrase,
    name_phrases,
)
from irec_jax.understanding.lexicon_mining import (
    field_values,
    longest_matches,
    mine_lexicon,
)
from irec_jax.understanding.spans import RequestWords, find_spans
from irec_jax.understanding.words import base_form, split_request

pytestmark = pytest.mark.fast

NO_LANGUAGE = RequestWords({}, {}, {}, {}, frozenset())
OFTEN = 10


def simulated(users: int, items: int) -> Split:
    log = SimulatedWorld.build(SimulateConfig(users=users, items=items)).log()
    return split_log(log, SplitConfig(), seed=0)


def padded(words: Sequence[str]) -> str:
    return f" {' '.join(words)} "


@pytest.fixture(scope="module")
def shop() -> Split:
    return simulated(users=600, items=300)


@pytest.fixture(scope="module")
def lexicon(shop: Split) -> Lexicon:
    return mine_lexicon(shop)


@pytest.fixture(scope="module")
def texts(shop: Split) -> list[tuple[str, int]]:
    """The texts that may be read, and their items."""
    texts = [(title, item) for item, title in enumerate(shop.catalog["title"])]
    for position in shop.targets(Role.TRAIN).tolist():
        if shop.queries[position]:
            texts.append((shop.queries[position], int(shop.items[position])))
    return [(padded(split_request(text)), item) for text, item in texts]


@pytest.fixture(scope="module")
def forms() -> dict[str, FieldValue]:
    """The surface forms of the simulator, and what each means."""
    shop = load_domain("shop")
    groups = [(Field.CATEGORY, leaf.forms) for leaf in shop.categories]
    groups += [(Field.CATEGORY, department) for department in shop.departments]
    groups += [(Field.ATTRIBUTE, words) for slot in shop.slots for words in slot.values]
    groups += [(Field.BRAND, (brand,)) for brand in shop.brands]
    return {form: FieldValue(field, words[0]) for field, words in groups for form in words}


def test_the_forms_of_the_simulator_are_found(lexicon: Lexicon, texts, forms):
    often = []
    for form, value in forms.items():
        words = split_request(form)
        if sum(padded(words) in text for text, _ in texts) >= OFTEN:
            named = {span.value for span in find_spans(words, lexicon, NO_LANGUAGE)}
            often.append((form, named == {value}))
    assert len(often) > 250
    missed = [form for form, is_found in often if not is_found]
    assert len(missed) <= 0.05 * len(often), missed


def test_a_form_of_a_value_never_names_another(lexicon: Lexicon, forms):
    meanings = {name_phrases(form)[0]: value for form, value in forms.items()}
    found = {phrase: value for phrase, value in lexicon.values.items() if phrase in meanings}
    assert len(found) > 250
    assert found == {phrase: meanings[phrase] for phrase in found}


def test_names_of_the_catalog_name_themselves(lexicon: Lexicon, shop: Split):
    for field in Field:
        for cell in shop.catalog[field.value].to_list():
            for name in [cell] if isinstance(cell, str) else cell:
                value = FieldValue(field, name)
                assert lexicon.values.get(name_phrases(name)[0], value) == value
    assert {value.field for value in lexicon.values.values()} == set(Field)


def test_a_mined_phrase_occurs_with_its_value_only(lexicon: Lexicon, shop: Split, texts):
    rows = {value: set(items) for value, items in field_values(shop.catalog).items()}
    names = {phrase for value in rows for phrase in name_phrases(value.text)}
    vocabulary = {word for text, _ in texts for word in text.split()}
    mined = {phrase: value for phrase, value in lexicon.values.items() if phrase not in names}
    assert len(mined) > 150
    for phrase, value in mined.items():
        endings = [word for word in vocabulary if base_form(word) == phrase[-1]]
        writings = [padded([*phrase[:-1], ending]) for ending in endings]
        items = [item for text, item in texts if any(writing in text for writing in writings)]
        assert len(items) >= 5, phrase
        right = sum(item in rows[value] for item in items)
        assert right >= 0.95 * len(items), (phrase, value)


def test_columns_of_the_log(lexicon: Lexicon):
    assert lexicon.has_price
    assert not lexicon.has_year


def test_words_of_the_log_are_known(lexicon: Lexicon, texts):
    words = {word for text, _ in texts for word in text.split() if word.isalpha()}
    assert words <= lexicon.words


def test_only_queries_before_training_events_are_read():
    split = simulated(users=120, items=100)
    others = [
        query if role == Role.TRAIN else "zorb quix"
        for query, role in zip(split.queries, split.roles.tolist(), strict=True)
    ]
    mine, theirs = mine_lexicon(split), mine_lexicon(dataclasses.replace(split, queries=others))
    assert others != split.queries
    assert theirs.values == mine.values
    assert theirs.words == mine.words
    changed = ["zorb quix" if query else "" for query in split.queries]
    read = mine_lexicon(dataclasses.replace(split, queries=changed))
    assert {"zorb", "quix"} <= read.words
    assert read.values != mine.values


MakeCatalog = Callable[..., Split]


@pytest.fixture
def make_catalog(make) -> MakeCatalog:
    """Makes a log of one event for each item."""

    def build(titles: Sequence[str], columns: Mapping[str, Sequence[object]]) -> Split:
        split = make([[item] for item in range(len(titles))], titles)
        series = [pl.Series(name, values) for name, values in columns.items()]
        return dataclasses.replace(split, catalog=split.catalog.with_columns(series))

    return build


def test_a_brand_that_is_a_usual_word_is_not_a_name(make_catalog: MakeCatalog):
    brands = ["Simple", "Acme", "Zolla", "Vartok"] * 10
    titles = [f"Simple {brand} lamp" if brand != "Simple" else "Simple lamp" for brand in brands]
    lexicon = mine_lexicon(make_catalog(titles, {"brand": brands}))
    assert lexicon.values == {
        (brand.lower(),): FieldValue(Field.BRAND, brand) for brand in ("Acme", "Zolla", "Vartok")
    }
    assert "simple" in lexicon.words


def phones_and_cases(name_of_cases: str) -> tuple[list[str], dict[str, list[list[str]]]]:
    """Twelve phones and forty things whose titles have the words "phone case"."""
    categories = [["phone"]] * 12 + [[name_of_cases]] * 40
    titles = ["Acme phone"] * 12 + ["Acme phone case"] * 40
    return titles, {"categories": categories}


def test_a_name_within_a_longer_name_stays_a_name(make_catalog: MakeCatalog):
    lexicon = mine_lexicon(make_catalog(*phones_and_cases("phone case")))
    phone, case = (FieldValue(Field.CATEGORY, name) for name in ("phone", "phone case"))
    assert lexicon.values[("phone",)] == phone
    assert lexicon.values[("phone", "case")] == case
    for request, value in [("Phones", phone), ("phone cases", case), ("a Phone-Case", case)]:
        spans = find_spans(split_request(request), lexicon, NO_LANGUAGE)
        assert [span.value for span in spans] == [value]


def test_a_category_keeps_its_name_though_most_texts_with_it_are_of_other_items(
    make_catalog: MakeCatalog,
):
    lexicon = mine_lexicon(make_catalog(*phones_and_cases("cover")))
    assert lexicon.values["phone",] == FieldValue(Field.CATEGORY, "phone")


def test_a_catalog_without_values_has_an_empty_lexicon(make_catalog: MakeCatalog):
    split = make_catalog(["Acme lamp"] * 9, {"price": [1.0] * 9, "released": ["1999"] * 9})
    lexicon = mine_lexicon(split)
    assert lexicon.values == {}
    assert lexicon.longest == 0
    assert lexicon.has_price
    assert lexicon.has_year
    empty = pl.Series("price", [None] * 9, dtype=pl.Float64)
    split = dataclasses.replace(split, catalog=split.catalog.with_columns(empty))
    assert not mine_lexicon(split).has_price


def test_values_of_one_item_only_are_left_out(make_catalog: MakeCatalog):
    split = make_catalog(["lamp"] * 3, {"brand": ["Acme", "Acme", "Zolla"]})
    assert field_values(split.catalog) == {FieldValue(Field.BRAND, "Acme"): [0, 1]}


WORDS = st.sampled_from(["zorb", "quix", "florn"])
PHRASES = st.lists(WORDS, min_size=1, max_size=3).map(tuple)


@given(words=st.lists(WORDS, max_size=12), names=st.frozensets(PHRASES, max_size=6))
def test_longest_matches_are_all_that_can_be_read_from_left_to_right(
    words: list[str], names: frozenset[Phrase]
):
    expected, rest = [], tuple(words)
    while rest:
        prefixes = [name for name in names if rest[: len(name)] == name]
        longest = max(prefixes, key=len, default=None)
        expected += [longest] if longest else []
        rest = rest[len(longest) if longest else 1 :]
    assert list(longest_matches(words, names)) == expected


VALUES = st.builds(FieldValue, st.sampled_from(Field), st.text(st.characters(codec="utf-8")))


@settings(max_examples=15)
@given(
    values=st.dictionaries(PHRASES, VALUES),
    words=st.frozensets(st.text(st.characters(codec="utf-8"))),
    grammars=st.dictionaries(st.sampled_from(["en", "zh"]), st.frozensets(WORDS)),
    has_price=st.booleans(),
    has_year=st.booleans(),
)
def test_a_saved_lexicon_is_read_back(values, words, grammars, has_price, has_year):
    with tempfile.TemporaryDirectory() as folder:
        Lexicon(values, words, grammars, has_price, has_year).save(Path(folder))
        read = Lexicon.load(Path(folder))
    assert read is not None
    assert (read.values, read.words, read.grammars) == (values, words, grammars)
    assert (read.has_price, read.has_year) == (has_price, has_year)
    assert read.longest == max((len(phrase) for phrase in values), default=0)


def test_a_folder_without_a_lexicon(tmp_path):
    assert Lexicon.load(tmp_path) is None


def without(key: str) -> str:
    content = {"values": [], "words": [], "grammars": {}, "has_price": True, "has_year": False}
    return json.dumps({name: value for name, value in content.items() if name != key})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        without("values"),
        without("words"),
        without("grammars"),
        without("has_year"),
        without("").replace('"values": []', '"values": [["zorb", "color", "Zorb"]]'),
        without("").replace('"values": []', '"values": [["zorb", "brand"]]'),
        without("").replace('"values": []', '"values": [[3, "brand", "Zorb"]]'),
        without("").replace('"words": []', '"words": null'),
        without("").replace('"grammars": {}', '"grammars": []'),
    ],
)
def test_a_damaged_lexicon_is_refused(content: str, tmp_path):
    (tmp_path / LEXICON_FILE).write_text(content)
    with pytest.raises(InputError, match=r"the lexicon is damaged[\s\S]*Hint: Copy") as caught:
        Lexicon.load(tmp_path)
    assert caught.value.where == str(tmp_path / LEXICON_FILE)


def test_a_lexicon_of_bytes_is_refused(tmp_path):
    (tmp_path / LEXICON_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="damaged"):
        Lexicon.load(tmp_path)


@pytest.mark.parametrize("intact", [without("")])
def test_the_undamaged_content_is_read(intact: str, tmp_path):
    (tmp_path / LEXICON_FILE).write_text(intact)
    assert Lexicon.load(tmp_path) is not None
