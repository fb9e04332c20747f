"""Request suites: their files, their conditions on the catalogs, and grades by brute force."""

import re
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from irec_jax.errors import InputError
from irec_jax.evaluation.request_suite import (
    ALL,
    TOP,
    RequestSuite,
    SuiteAnswer,
    SuiteReport,
    SuiteRequest,
    grade_suite,
    parse_suite,
    read_suite,
    suite_names,
)
from irec_jax.evaluation.suite_tables import suite_counts, suite_table
from irec_jax.log.readers.movietweetings import read_movietweetings
from irec_jax.log.simulate import SimulateConfig, SimulatedWorld
from irec_jax.log.split import SplitConfig, split_log
from irec_jax.recommendation.filter_language import parse, to_polars
from irec_jax.recommendation.request_warnings import WarningKind

pytestmark = pytest.mark.fast

SUITES = suite_names()
ITEMS = 12

# The conditions of the requests of shop_en that no item meets.
UNMET = {
    "a phone under 2 dollars": "categories contains 'phone' and price < 2",
    "mugs over 1000 dollars": "categories contains 'mug' and price > 1000",
    "a Larkin tent": "categories contains 'tent' and brand = 'Larkin'",
    "teal tents": "categories contains 'tent' and attributes contains 'teal'",
    "a Torvald kettle": "categories contains 'kettle' and brand = 'Torvald'",
    "jackets below five dollars": "categories contains 'jacket' and price < 5",
}


@pytest.fixture(scope="module")
def shop() -> pl.DataFrame:
    """The catalog of the suite shop_en."""
    return SimulatedWorld.build(SimulateConfig(users=5_000, items=1_000)).items()


def selected(catalog: pl.DataFrame, where: str) -> int:
    return catalog.filter(to_polars(parse(where), catalog.schema)).height


def test_suites_of_the_package():
    assert SUITES == ["beauty_en", "movies_en", "shop_en", "shop_zh"]


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_of_the_package_is_sound(name: str):
    suite = read_suite(name)
    assert suite.name == name
    assert suite.language == suite.name.rpartition("_")[2]
    assert len(suite.requests) >= 60
    texts = [request.text for request in suite.requests]
    assert len(set(texts)) == len(texts)
    warnings = {kind.value for kind in WarningKind}
    for request in suite.requests:
        assert not request.where or parse(request.where)
        assert bool(request.where) != bool(request.warning)
        assert (request.warning != "") == (request.ability == "flagged")
        assert not request.warning or request.warning in warnings


@pytest.mark.parametrize("name", ["shop_en", "shop_zh"])
def test_conditions_of_the_shop_are_met_by_some_items(name: str, shop: pl.DataFrame):
    for request in read_suite(name).requests:
        if request.where:
            assert TOP <= selected(shop, request.where) < shop.height, request


def test_flagged_requests_of_the_shop_are_met_by_none(shop: pl.DataFrame):
    flagged = [r.text for r in read_suite("shop_en").requests if r.warning == WarningKind.NO_ITEM]
    assert sorted(flagged) == sorted(UNMET)
    for text, where in UNMET.items():
        assert selected(shop, where) == 0, text
        for part in where.split(" and "):
            assert "price" in part or selected(shop, part), "only both together are met by none"


def test_conditions_of_the_movies_are_met_by_some_items(shared):
    log = read_movietweetings(shared / "data" / "movietweetings-100k", seed=0)
    catalog = split_log(log, SplitConfig(), seed=0).catalog
    for request in read_suite("movies_en").requests:
        assert TOP <= selected(catalog, request.where) < catalog.height, request


GOOD = """
language = "en"
[[request]]
text = "a lamp"
ability = "category"
where = "categories contains 'lamp'"
[[request]]
text = "a lamp, no lamp"
ability = "flagged"
warning = "contradiction"
"""


def test_a_file_of_the_user_is_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert read_suite(str(path)) == RequestSuite(
        "mine",
        "en",
        (
            SuiteRequest("a lamp", "category", "categories contains 'lamp'"),
            SuiteRequest("a lamp, no lamp", "flagged", warning="contradiction"),
        ),
    )


@pytest.mark.parametrize(
    ("old", "new", "place", "problem", "hint"),
    [
        ('language = "en"', "", "", "no language or no request", "Begin with language"),
        ('language = "en"', "language = 3", "", "no language or no request", "[[request]]"),
        ('ability = "category"', "", ": request 1", "a key is missing", "ability, text, warning"),
        ('text = "a lamp"', "", ": request 1", "a key is missing", "ability, text, warning"),
        ('"flagged"', "3", ": request 2", "not a text", "all texts"),
        ("warning =", "warnings =", ": request 2", "unknown", "ability, text, warning"),
        ('warning = "contradiction"', "", ": request 2", "what a good answer is", "(where)"),
        ("\"categories contains 'lamp'\"", '""', ": request 1", "what a good answer is", "(where)"),
        ("[[request]]", "[[requests]]", "", "no language or no request", "[[request]]"),
        ("language =", "language", "", "it is not TOML", ""),
    ],
)
def test_a_wrong_file_is_refused(old, new, place, problem, hint, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_suite(str(path))
    assert caught.value.where == f"{path}{place}"
    assert problem in caught.value.problem
    assert hint in caught.value.hint


@pytest.mark.parametrize("requests", [[], "a lamp", ["a lamp"], [3], {}])
def test_requests_that_are_not_tables_are_refused(requests):
    with pytest.raises(InputError, match="mine"):
        parse_suite("mine", {"language": "en", "request": requests}, "mine")


def test_a_file_of_bytes_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="it is not TOML"):
        read_suite(str(path))


def test_a_misspelt_name_has_a_hint():
    with pytest.raises(InputError, match="shopp_en: there is no such suite or file") as caught:
        read_suite("shopp_en")
    assert caught.value.hint == f"Did you mean 'shop_en'? Allowed: {', '.join(SUITES)}."


def meets(where: str) -> np.ndarray:
    """Conditions of these tests list the items that meet them; all meet an empty one."""
    mask = np.full(ITEMS, where == "")
    mask[[int(item) for item in where.split(",") if item not in ("", "none")]] = True
    return mask


def satisfaction(items: Sequence[int], where: str) -> float:
    """The share of right answers, of as many as the catalog can give."""
    right = set(np.flatnonzero(meets(where)).tolist())
    possible = min(TOP, len(right))
    return len(right & set(items[:TOP])) / possible if possible else 0.0


CONDITIONS = st.frozensets(st.integers(0, ITEMS - 1)).map(
    lambda items: ",".join(map(str, sorted(items))) or "none"
)
REQUESTS = st.lists(
    st.tuples(st.sampled_from(["price", "brand"]), CONDITIONS, st.sampled_from(["", "no_item"])),
    min_size=1,
    max_size=8,
)
ANSWERS = st.tuples(
    st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=TOP + 2),
    st.sampled_from([(), ("no_item",), ("unknown_words",), ("unknown_words", "no_item")]),
    CONDITIONS | st.just(""),
)


@settings(max_examples=15)
@given(data=st.data(), requests=REQUESTS)
def test_grades_equal_brute_force(data, requests):
    suite = RequestSuite(
        "mine",
        "en",
        tuple(
            SuiteRequest(str(number), ability, "" if warning else where, warning)
            for number, (ability, where, warning) in enumerate(requests)
        ),
    )
    answers = {name: [data.draw(ANSWERS) for _ in requests] for name in ("random", "bm25", "tuned")}
    report = grade_suite(
        suite,
        {
            name: lambda text, given=given: SuiteAnswer(*given[int(text)])
            for name, given in answers.items()
        },
        meets,
        warned="tuned",
        seed=1,
        resamples=20,
    )
    graded = [(n, r) for n, r in enumerate(suite.requests) if r.where]
    expected = {}
    for name, given_answers in answers.items():
        for ability in ("price", "brand", ALL):
            shares = [
                satisfaction(given_answers[number][0], request.where)
                for number, request in graded
                if ability in (ALL, request.ability)
            ]
            if shares:
                expected[name, ability] = (len(shares), pytest.approx(np.mean(shares)))
    assert {
        (row.ranker, row.ability): (row.requests, row.satisfaction.value) for row in report.rows
    } == expected
    for row in report.rows:
        figure = row.satisfaction
        if row.requests == 1:  # one request has no interval
            assert np.isnan([figure.low, figure.high]).all()
        else:
            assert 0 <= figure.low <= figure.high <= 1
    warned = [
        (request.warning, warnings)
        for request, (_, warnings, _) in zip(suite.requests, answers["tuned"], strict=True)
    ]
    right = sum(kind != "" and kind in warnings for kind, warnings in warned)
    assert report.flagged == (len(suite.requests) - len(graded), right)
    read = [
        (set(np.flatnonzero(meets(request.where))), set(np.flatnonzero(meets(condition))))
        for request, (_, _, condition) in zip(suite.requests, answers["tuned"], strict=True)
        if request.where
    ]
    assert report.graded == len(graded)
    assert report.exact == sum(theirs == mine for theirs, mine in read)
    assert report.wrong == sum(not theirs <= mine for theirs, mine in read)
    assert report.false_warnings == sum(kind == "" and len(given) > 0 for kind, given in warned)


@pytest.mark.parametrize(
    ("items", "where", "share"),
    [
        ([0, 1, 2, 3, 4], "0,1,2,3,4,5", 1.0),
        ([0, 1, 2], "0,1,2,3,4,5", 0.6),
        ([], "0,1,2,3,4,5", 0.0),
        ([0, 6, 7, 8, 9], "0,1,2,3,4,5", 0.2),
        ([6, 7, 8, 9, 10, 0], "0,1,2,3,4,5", 0.0),
        ([0, 1, 6, 7, 8], "0,1", 1.0),
        ([0], "none", 0.0),
    ],
)
def test_satisfaction_with_an_answer(items: list[int], where: str, share: float):
    suite = RequestSuite("mine", "en", (SuiteRequest("a lamp", "category", where),))
    report = graded_by(suite, SuiteAnswer(items))
    assert [(row.ability, row.satisfaction.value) for row in report.rows] == [
        ("category", pytest.approx(share)),
        (ALL, pytest.approx(share)),
    ]


def graded_by(suite: RequestSuite, answer: SuiteAnswer) -> SuiteReport:
    answerers = {"tuned": lambda text: answer}
    return grade_suite(suite, answerers, meets, warned="tuned", seed=0, resamples=50)


def test_a_suite_of_warnings_alone():
    suite = RequestSuite("mine", "en", (SuiteRequest("?", "flagged", warning="no_item"),))
    report = graded_by(suite, SuiteAnswer([], ("no_item",)))
    assert report.rows == ()
    assert report.flagged == (1, 1)


def test_the_table_has_every_figure():
    requests = (
        SuiteRequest("a", "[price]", "0,1,2,3,4,5"),
        SuiteRequest("b", "brand", "0,1,2,3,4,6"),
        SuiteRequest("c", "brand", "5"),
        SuiteRequest("d", "flagged", warning="no_item"),
    )
    report = graded_by(
        RequestSuite("mine", "en", requests), SuiteAnswer([0, 1, 7], ("no_item",), "0,1,2,3,4,5")
    )
    console = Console(width=120)
    with console.capture() as captured:
        console.print(suite_table(report))
    lines = captured.get().splitlines()
    cells = {tuple(re.findall(r"\[price\]|[\w.]+", line)[:3]) for line in lines}
    expected = {("[price]", "1", "0.400"), ("brand", "2", "0.200"), (ALL, "3", "0.267")}
    assert expected <= cells
    assert suite_counts(report).splitlines() == [
        "conditions: 1 of 3 read exactly; 1 exclude an item that is asked for",
        "warnings: 1 of 1 requests that need one have it; 3 of the others have one",
    ]


def test_the_last_ranker_has_intervals():
    suite = RequestSuite("mine", "en", (SuiteRequest("a", "brand", "0"),) * 3)
    answerers = {name: lambda text: SuiteAnswer([0]) for name in ("random", "tuned")}
    report = grade_suite(suite, answerers, meets, warned="tuned", seed=0, resamples=50)
    console = Console(width=120)
    with console.capture() as captured:
        console.print(suite_table(report))
    assert captured.get().count("1.000 [1.00, 1.00]") == 2
