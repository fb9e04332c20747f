"""The metadata teacher: its input, titles that it leaves out, and overlap with titles."""

import dataclasses
import itertools
import pickle
import re
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.instructions.forms import Intention
from irec_jax.log.readers.table import Columns, TableConfig, read_table
from irec_jax.log.split import Role, Split, SplitConfig, split_log
from irec_jax.teachers.metadata import VARIANTS, MetadataTeacher
from irec_jax.teachers.phrases import load_phrases
from irec_jax.teachers.synonyms import load_synonyms, parse_synonyms
from irec_jax.text_cleaning import clean
from irec_jax.word_overlap import STOP_WORDS

LANGUAGES = ("en", "zh")
KINDS = (Intention.VAGUE, Intention.SPECIFIC)
DOMAINS = ("shop", "content", "social", "finance")
CHINESE = re.compile(r"[\u4e00-\u9fff]")

TITLES = [
    "Acme red desk lamp",
    "Lamps",  # the name of a category
    "{history} 100 % \\ lamp",
    "line\nbreak jar",
    "שלום candle",
    "🛋 sofa",
    "<item_3>",
    "Acme",
    "something for her",
    "Body Butter with honey for dry skin, 200 ml",
    "plain",
    "no category at all",
]
CATEGORIES = [
    ["Home", "Lamps"],
    ["Home", "Lamps"],
    ["Home", "Lamps"],
    ["Home", "Jars"],
    ["Home", "Candles"],
    ["Home", "Sofas"],
    ["Home", "Jars"],
    ["Home"],
    ["Beauty", "Gifts"],
    ["Beauty", "Body Butter"],
    ["Beauty", "Body Butter"],
    [],
]
LABEL_TITLES = {"Lamps", "Acme"}  # titles that are only the name of a category or brand
BRANDS = ["Acme", "Lux", None, "Jarre", "", "Sofa & Co", "Jarre", "Acme", None, "Bee", "Bee", None]
PRICES = [20.0, 30.0, None, 5.0, 3.0, 900.0, 6.0, None, 10.0, 12.0, 9.0, None]


def with_metadata(split: Split) -> Split:
    columns = [
        pl.Series("categories", CATEGORIES, dtype=pl.List(pl.String)),
        pl.Series("brand", BRANDS, dtype=pl.String),
        pl.Series("price", PRICES, dtype=pl.Float64),
    ]
    return dataclasses.replace(split, catalog=split.catalog.with_columns(columns))


@pytest.fixture(scope="module")
def awkward_split(make) -> Split:
    histories = [[0, 1, 2, 3, 4, 5], [5, 6, 7, 8, 9, 10], [9, 10, 9, 0], [11, 11, 3], [11], [1]]
    split = with_metadata(make(histories, TITLES, {(0, 2): ("red desk light", 2)}))
    reviews = [""] * len(split.items)
    reviews[3], reviews[8] = "Bought it as a gift for my wife, she loves it!", "fine"
    return dataclasses.replace(split, reviews=reviews)


@pytest.fixture(scope="module")
def teacher(awkward_split: Split) -> MetadataTeacher:
    return MetadataTeacher.build(awkward_split, "shop", 7)


def texts_at(teacher: MetadataTeacher, position: int) -> list[str]:
    texts = []
    for language in LANGUAGES:
        texts += [teacher.preference(position, v, language) for v in range(VARIANTS)]
        texts += [teacher.query(position, kind, language) for kind in KINDS]
        texts.append(teacher.reason(position, language))
    return texts


def all_texts(teacher: MetadataTeacher) -> list[list[str]]:
    return [texts_at(teacher, position) for position in range(len(teacher.items))]


def test_has_methods_agree_with_the_texts(teacher):
    for language in LANGUAGES:
        likes, reasons = teacher.has_preference(language), teacher.has_reason(language)
        for position in range(len(teacher.items)):
            has_text = {bool(teacher.preference(position, v, language)) for v in range(VARIANTS)}
            assert has_text == {bool(likes[position])}
            assert bool(teacher.reason(position, language)) == reasons[position]
        for kind in KINDS:
            has_query = teacher.has_query(kind, language)
            queried = [bool(teacher.query(p, kind, language)) for p in range(len(has_query))]
            assert queried == has_query.tolist()
    assert not teacher.has_preference("fr").any()
    assert teacher.reason(3, "fr") == teacher.preference(3, 0, "fr") == ""


def test_no_text_without_metadata_or_events(teacher):
    # The fourth user has only items without category, brand and price; the fifth one event.
    assert teacher.query(16, Intention.SPECIFIC, "en") == ""
    assert teacher.preference(17, 0, "en") == ""
    assert teacher.preference(19, 0, "en") == "", "a first event has nothing before it"
    assert teacher.preference(2, 0, "en") != ""


def test_a_typed_query_replaces_a_generated_one(teacher):
    assert teacher.query(2, Intention.SPECIFIC, "en") == "red desk light"
    assert teacher.query(2, Intention.SPECIFIC, "zh") == "red desk light"
    assert teacher.query(2, Intention.VAGUE, "en") not in ("", "red desk light")


def split_words(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+", text.casefold())


def contains_title(text: str, title: str) -> bool:
    """Whether the words of a title are adjacent in a text; independent of the package's code."""
    words, run = split_words(text), split_words(title)
    return bool(run) and any(words[i : i + len(run)] == run for i in range(len(words)))


def test_texts_are_one_clean_line_without_titles(awkward_split, teacher):
    for position, texts in enumerate(all_texts(teacher)):
        for text in texts:
            if text == "red desk light":
                continue
            assert text == clean(text)
            titles = [title for title in set(TITLES) - LABEL_TITLES if contains_title(text, title)]
            assert not titles, (position, text)
            assert "<item" not in text
            assert "{" not in text
            assert str(900_001 + position) not in text
        title = TITLES[awkward_split.items[position]]
        for kind, language in itertools.product(KINDS, LANGUAGES):
            assert not contains_title(teacher.query(position, kind, language), title)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_title_is_formed_across_a_pattern_and_a_value(awkward_split, teacher, data):
    """Any words of a generated text, if they become a title, are not generated again."""
    position = data.draw(st.integers(1, 15))
    texts = [text for text in texts_at(teacher, position) if text and text != "red desk light"]
    words = split_words(data.draw(st.sampled_from(texts)))
    start = data.draw(st.integers(0, len(words) - 1))
    run = words[start : start + data.draw(st.integers(1, 5))]
    title = " ".join(run)
    is_word = any(len(word) > 1 and word not in STOP_WORDS for word in run)
    assume(is_word or any(CHINESE.match(a) and CHINESE.match(b) for a, b in pairwise(run)))
    names = {*itertools.chain(*CATEGORIES), *filter(None, BRANDS)}
    assume(run not in [split_words(name) for name in names])
    titles = pl.Series("title", [*TITLES[:10], title, TITLES[11]])
    changed = dataclasses.replace(awkward_split, catalog=awkward_split.catalog.with_columns(titles))
    rebuilt = MetadataTeacher.build(changed, "shop", 7)
    for texts in all_texts(rebuilt):
        assert not any(contains_title(text, title) for text in texts if text != "red desk light")
    for language in LANGUAGES:
        likes = [bool(rebuilt.preference(p, 0, language)) for p in range(len(changed.items))]
        assert likes == rebuilt.has_preference(language).tolist()
        for kind in KINDS:
            has_query = [bool(rebuilt.query(p, kind, language)) for p in range(len(changed.items))]
            assert has_query == rebuilt.has_query(kind, language).tolist()


def test_a_title_that_is_a_label_does_not_exclude_that_label(awkward_split, teacher):
    texts = [text for texts in all_texts(teacher) for text in texts]
    assert any(contains_title(text, "Lamps") for text in texts)
    # A reader replaces a missing title by the category, which queries for the item leave out.
    items = awkward_split.items
    positions = [p for p in range(len(items)) if TITLES[items[p]] == "Lamps"]
    assert positions
    for position, kind in itertools.product(positions, KINDS):
        assert not contains_title(teacher.query(position, kind, "en"), "Lamps")


def test_a_label_that_contains_a_title_is_left_out(awkward_split):
    titles = pl.Series("title", [*TITLES[:10], "Butter", TITLES[11]])
    changed = dataclasses.replace(awkward_split, catalog=awkward_split.catalog.with_columns(titles))
    texts = list(itertools.chain(*all_texts(MetadataTeacher.build(changed, "shop", 7))))
    assert not any(contains_title(text, "butter") for text in texts)


def test_price_levels_are_the_catalogs_quantiles(make):
    count = 20
    split = make([list(range(count))] * 30, [f"thing {n}" for n in range(count)])
    columns = [
        pl.Series("categories", [["Home", "Lamps" if n % 2 else "Jars"] for n in range(count)]),
        # Jars cost a hundred times as much: levels are quantiles of the item's category.
        pl.Series("price", [float(n + 1) * (1 if n % 2 else 100) for n in range(count)]),
    ]
    split = dataclasses.replace(split, catalog=split.catalog.with_columns(columns))
    teacher = MetadataTeacher.build(split, "shop", 1)
    words = load_phrases("en", "shop").values["price"]
    levels_of_item: dict[int, set[str]] = {}
    for position in range(len(split.items)):
        query = teacher.query(position, Intention.SPECIFIC, "en")
        levels = {level for level, names in words.items() if any(name in query for name in names)}
        levels_of_item.setdefault(int(split.items[position]), set()).update(levels)
    assert levels_of_item[0] == levels_of_item[1] == {"low"}
    assert levels_of_item[9] == levels_of_item[10] == {"middle"}
    assert levels_of_item[18] == levels_of_item[19] == {"top"}


def test_three_preferences_of_a_user_differ(teacher):
    for language, position in itertools.product(LANGUAGES, range(len(teacher.items))):
        texts = [teacher.preference(position, variant, language) for variant in range(VARIANTS)]
        assert texts == [""] * VARIANTS or len(set(texts)) == VARIANTS


@pytest.mark.parametrize("domain", DOMAINS)
def test_chinese_texts_are_chinese_except_for_labels(awkward_split, domain):
    teacher = MetadataTeacher.build(awkward_split, domain, 1)
    named = {word for names in CATEGORIES for name in names for word in name.split()}
    named |= {word for brand in BRANDS if brand for word in brand.split()}
    for position in range(len(awkward_split.items)):
        for text in texts_at(teacher, position)[len(texts_at(teacher, position)) // 2 :]:
            if text and text != "red desk light":
                assert CHINESE.search(text)
                assert set(re.findall(r"[A-Za-z]+", text)) <= {
                    part for word in named for part in re.findall(r"[A-Za-z]+", word)
                }


def test_the_same_seed_gives_the_same_texts_in_another_process_too(awkward_split, teacher):
    rebuilt = MetadataTeacher.build(awkward_split, "shop", 7)
    assert all_texts(rebuilt) == all_texts(teacher)
    assert all_texts(pickle.loads(pickle.dumps(teacher))) == all_texts(teacher)
    assert rebuilt.fingerprint() == teacher.fingerprint()
    other = MetadataTeacher.build(awkward_split, "shop", 8)
    assert other.fingerprint() != teacher.fingerprint()
    assert all_texts(other) != all_texts(teacher)


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_later_events_and_other_users_are_not_read(awkward_split, data):
    position = data.draw(st.integers(0, len(awkward_split.items) - 1))
    row = int(np.searchsorted(awkward_split.offsets, position, side="right")) - 1
    readable = range(int(awkward_split.offsets[row]), position + 1)
    foreign = [p for p in range(len(awkward_split.items)) if p not in readable]
    items, reviews = awkward_split.items.copy(), list(awkward_split.reviews)
    for hidden in foreign:
        items[hidden] = data.draw(st.integers(0, len(TITLES) - 1))
        reviews[hidden] = data.draw(st.sampled_from(["", "a gift for my son", "smells nice"]))
    changed = dataclasses.replace(awkward_split, items=items, reviews=reviews)
    before, after = (MetadataTeacher.build(split, "shop", 3) for split in (awkward_split, changed))
    assert texts_at(after, position) == texts_at(before, position)
    # Preferences do not depend on the event itself.
    items = items.copy()
    items[position] = (items[position] + 1) % len(TITLES)
    third = MetadataTeacher.build(dataclasses.replace(changed, items=items), "shop", 3)
    for language, variant in itertools.product(LANGUAGES, range(VARIANTS)):
        liked = before.preference(position, variant, language)
        assert third.preference(position, variant, language) == liked


def test_phrases_and_synonyms_of_every_domain_and_language_load():
    for domain in DOMAINS:
        load_synonyms(domain)
        for language in LANGUAGES:
            load_phrases(language, domain)
    with pytest.raises(InputError, match=r"synonyms\.toml.*'words' is missing"):
        parse_synonyms({"trait": [{"domains": ["shop"], "en": ["x"], "zh": ["y"]}]}, "shop")
    entry = {"domains": ["shop"], "words": ["soft"], "en": ["very soft"], "zh": ["柔和"]}
    with pytest.raises(InputError, match="'very soft' repeats one of"):
        parse_synonyms({"trait": [entry]}, "shop")


@pytest.fixture(scope="module")
def beauty(shared: Path) -> Split:
    folder = shared / "data" / "amazon-beauty-2014"
    log = read_table(folder, TableConfig(columns=Columns(time="position")), 0)
    return split_log(log, SplitConfig(), 0)


def test_queries_for_real_products_overlap_little_with_titles_and_are_fast(beauty):
    teacher = MetadataTeacher.build(beauty, "shop", 0)
    positions = beauty.targets(Role.TRAIN)[::37][:3_000].tolist()
    stop = {"a", "an", "the", "for", "of", "in", "and", "with", "to", "from", "by", "some", "any"}
    titles = [set(re.findall(r"\w+", t.lower())) for t in beauty.catalog["title"].to_list()]
    shares = {}
    for kind, most in ((Intention.SPECIFIC, 0.3), (Intention.VAGUE, 0.1)):
        parts = []
        for position in positions[::4]:
            words = set(re.findall(r"\w+", teacher.query(position, kind, "en").lower())) - stop
            if words:
                parts.append(len(words & titles[beauty.items[position]]) / len(words))
        shares[kind] = np.mean(parts)
        assert 0.0 < shares[kind] < most
    assert shares[Intention.SPECIFIC] > shares[Intention.VAGUE]
    for language in LANGUAGES:
        likes, reasons = teacher.has_preference(language), teacher.has_reason(language)
        for position in positions[::4]:
            assert bool(teacher.preference(position, 1, language)) == likes[position]
            assert bool(teacher.reason(position, language)) == reasons[position]
    start = time.perf_counter()
    texts = [teacher.preference(p, p % VARIANTS, "en") for p in positions]
    seconds = time.perf_counter() - start
    assert len(set(texts)) > 0.5 * len(texts)
    assert seconds / len(positions) < 250e-6, "ten times what it takes on a quiet machine"
    assert all(8 <= len(re.findall(r"\w+", text)) <= 25 for text in texts if text)
    assert len(pickle.dumps(teacher)) < 150e6
