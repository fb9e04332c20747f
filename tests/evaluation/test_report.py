"""Evaluation: known rankers get known figures, bad rankers are named, files are complete."""

import html.parser
import json
import math

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from irec_jax.errors import InputError
from irec_jax.evaluation import report as report_module
from irec_jax.evaluation.figures import CHANCE
from irec_jax.evaluation.metrics import METRICS, chance, per_request
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.evaluation.report import evaluate_rankers, save_report
from irec_jax.evaluation.report_tables import differences_table, report_tables
from irec_jax.instructions.built_in_tasks import PRODUCT_SEARCH, SEQUENTIAL_RECOMMENDATION
from irec_jax.instructions.forms import Ranking
from irec_jax.log.split import Role

pytestmark = pytest.mark.fast

QUICK = EvaluationConfig(resamples=100)
SEQUENTIAL = [SEQUENTIAL_RECOMMENDATION]


def constant_ranker(*scores):
    row = np.array(scores, np.float32)
    return lambda requests: Ranking(np.tile(row, (len(requests), 1)))


def random_ranker(items, seed=0):
    rng = np.random.default_rng(seed)
    return lambda requests: Ranking(rng.random((len(requests), items)).astype(np.float32))


def oracle_ranker(split, share=1.0):
    """Ranks the target first for a share of the users, and ties all items for the others."""
    users = split.users[split.event_users()]
    targets = dict(zip(zip(users, split.times, strict=True), split.items, strict=True))

    def rank(requests):
        scores = np.zeros((len(requests), split.num_items), np.float32)
        for row, request in enumerate(requests):
            if (request.user * 37 % 100) < 100 * share:
                scores[row, targets[request.user, request.time]] = 1
        return Ranking(scores)

    return rank


@pytest.fixture(scope="module")
def report(random_split):
    rankers = {
        "random": random_ranker(40),
        "half": oracle_ranker(random_split, 0.5),
        "oracle": oracle_ranker(random_split),
    }
    return evaluate_rankers(rankers, random_split, SEQUENTIAL, QUICK, seed=0)


def test_known_rankers_get_known_figures(report, random_split):
    task = report.task("sequential_recommendation")
    assert [row.ranker for row in task.rows] == [CHANCE, "random", "half", "oracle"]
    assert all(figure.value == 1 for figure in task.row("oracle").figures.values())
    # Where the oracle ties all items, the target has the middle rank.
    lengths = np.diff(random_split.offsets)
    candidates = 40 - (lengths - 1)
    is_known = random_split.users * 37 % 100 < 50
    ranks = np.where(is_known, 1.0, (candidates + 1) / 2)
    expected = per_request(ranks).mean(axis=0)
    values = [task.row("half").figures[name].value for name in METRICS]
    np.testing.assert_allclose(values, expected)
    exact = chance(candidates).mean(axis=0)
    np.testing.assert_allclose([f.value for f in task.row(CHANCE).figures.values()], exact)
    assert task.requests == {"all": 60}
    assert task.candidates == pytest.approx(candidates.mean())


def test_differences_are_paired_and_against_every_ranker_before(report):
    task = report.task("sequential_recommendation")
    pairs = [(difference.ranker, difference.minus) for difference in task.differences]
    assert pairs[:3] == [("random", CHANCE), ("half", CHANCE), ("half", "random")]
    assert len(pairs) == 6
    for name in METRICS:
        figure = task.difference("oracle", "half").figures[name]
        values = [task.row(ranker).figures[name].value for ranker in ("oracle", "half")]
        assert figure.value == pytest.approx(values[0] - values[1])
        assert figure.low <= figure.value <= figure.high
    assert task.difference("oracle", "half").figures["recall@1"].low > 0


def test_figures_can_be_recomputed_from_the_ranks(report, random_split):
    task = report.task("sequential_recommendation")
    for (ranker,), rows in report.ranks.group_by("ranker"):
        means = per_request(rows["rank"].to_numpy()).mean(axis=0)
        figures = task.row(ranker).figures
        np.testing.assert_allclose(means, [figures[name].value for name in METRICS])
    rows = report.ranks.filter(pl.col("ranker") == "random")
    positions = random_split.targets(Role.TEST)
    assert rows["position"].to_list() == positions.tolist()
    items = random_split.catalog["item"].to_list()
    assert rows["target"].to_list() == [items[i] for i in random_split.items[positions]]


def test_small_calls_give_the_same_report(report, random_split, monkeypatch):
    monkeypatch.setattr(report_module, "SCORES_PER_CALL", 7 * 40)
    sizes = []

    def recording_ranker(requests):
        sizes.append(len(requests))
        return oracle_ranker(random_split, 0.5)(requests)

    again = evaluate_rankers({"half": recording_ranker}, random_split, SEQUENTIAL, QUICK, seed=0)
    assert sizes == [7] * 8 + [4]
    task = report.task("sequential_recommendation")
    assert again.tasks[0].row("half").figures == task.row("half").figures


def test_warm_and_cold_targets_have_their_own_rows(make_split):
    roles = [[0, 0, 2, 2, 2], [0, 0, 0, 2, 2]]
    split = make_split([[0, 1, 2, 3, 4], [2, 5, 1, 6, 0]], items=8, roles=roles)
    report = evaluate_rankers(
        {"popular": constant_ranker(0, 9, 8, 7, 6, 5, 4, 3)}, split, SEQUENTIAL, QUICK, 0
    )
    task = report.tasks[0]
    assert task.requests == {"all": 5, "warm": 2, "cold": 3}
    assert task.users == {"all": 2, "warm": 2, "cold": 2}
    assert report.ranks["warm"].to_list() == [True, False, False, False, True]
    # Item 2 is first, as item 1 is masked; item 0 is last of the five remaining ones.
    assert task.row("popular", "warm").figures["mrr"].value == pytest.approx((1 + 1 / 4) / 2)
    assert task.row(CHANCE, "cold").figures["recall@1"].value == pytest.approx(
        (1 / 5 + 1 / 4 + 1 / 5) / 3
    )


def test_a_target_in_the_history_is_left_out_and_counted(make_split):
    split = make_split([[0, 1, 2, 0], [0, 1, 2, 3]], items=5)
    task = evaluate_rankers(
        {"any": constant_ranker(5, 4, 3, 2, 1)}, split, SEQUENTIAL, QUICK, seed=0
    ).tasks[0]
    assert (task.requests["all"], task.repeats, task.eligible) == (1, 1, 2)
    assert task.row("any").figures["recall@1"].value == 1
    assert math.isnan(task.row("any").figures["recall@1"].low)


def test_a_task_without_requests_has_no_rows(make_split):
    split = make_split([[0, 1, 2], [2, 1, 0]], items=5)
    tasks = [SEQUENTIAL_RECOMMENDATION, PRODUCT_SEARCH]
    report = evaluate_rankers({"any": constant_ranker(1, 2, 3, 4, 5)}, split, tasks, QUICK, seed=0)
    assert report.task("product_search").rows == ()
    with pytest.raises(InputError, match="no test request for product_search"):
        evaluate_rankers(
            {"any": constant_ranker(1, 2, 3, 4, 5)}, split, [PRODUCT_SEARCH], QUICK, seed=0
        )


@pytest.mark.parametrize(
    ("ranker", "message"),
    [
        (constant_ranker(0, 0, math.nan, 0, 0), "bad: the score of item 2 in request 0 is NaN"),
        (constant_ranker(0, 0, 0), r"bad: scores of shape \(2, 3\) for 2 requests and 5 items"),
    ],
)
def test_a_bad_ranker_is_named(make_split, ranker, message):
    split = make_split([[0, 1, 2], [2, 1, 0]], items=5)
    rankers = {"good": constant_ranker(1, 2, 3, 4, 5), "bad": ranker}
    with pytest.raises(InputError, match=message):
        evaluate_rankers(rankers, split, SEQUENTIAL, QUICK, seed=0)


def test_a_name_that_is_taken_is_refused(make_split):
    split, ranker = make_split([[0, 1, 2]], items=5), constant_ranker(1, 2, 3, 4, 5)
    with pytest.raises(InputError, match="the name 'chance' is taken"):
        evaluate_rankers({CHANCE: ranker}, split, SEQUENTIAL, QUICK, seed=0)
    with pytest.raises(InputError, match="the name 'a' is taken"):
        evaluate_rankers({"a": ranker}, split, SEQUENTIAL, QUICK, 0, lambda task: {"a": ranker})
    with pytest.raises(InputError, match="there are no rankers"):
        evaluate_rankers({}, split, SEQUENTIAL, QUICK, seed=0)


class Page(html.parser.HTMLParser):
    """Collects the open tags, the addresses that the page would load, and its text."""

    VOID = frozenset({"meta", "line", "circle", "br", "link", "img"})

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in self.VOID

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_files_agree(report, tmp_path):
    folder = save_report(report, tmp_path)
    assert folder == tmp_path / "reports" / "leave_one_out"
    assert sorted(file.name for file in folder.iterdir()) == [
        "index.html",
        "ranks.parquet",
        "report.json",
    ]
    data = json.loads((folder / "report.json").read_text())
    assert data["split_sha256"] == report.split_sha256
    row = next(row for row in data["tasks"][0]["rows"] if row["ranker"] == "half")
    half = report.tasks[0].row("half").figures["recall@10"]
    assert row["figures"]["recall@10"]["value"] == pytest.approx(half.value, abs=1e-6)
    assert pl.read_parquet(folder / "ranks.parquet").equals(report.ranks)
    page = Page()
    page.feed((folder / "index.html").read_text())
    assert page.open == []
    assert page.addresses == []
    assert f"{half.value:.4f}" in page.text
    assert "$" not in page.text


def test_a_name_is_escaped_in_the_page(random_split, tmp_path):
    name = "<script>alert('$x')</script>"
    report = evaluate_rankers({name: random_ranker(40)}, random_split, SEQUENTIAL, QUICK, seed=0)
    text = (save_report(report, tmp_path) / "index.html").read_text()
    assert "<script" not in text
    for table in report_tables(report.tasks[0], 80):
        Console(width=80, record=True).print(table)


def test_a_validation_report_does_not_replace_the_test_report(random_split, report, tmp_path):
    config = EvaluationConfig(role="validation", resamples=100)
    validation = evaluate_rankers(
        {"random": random_ranker(40)}, random_split, SEQUENTIAL, config, seed=0
    )
    first, second = save_report(report, tmp_path), save_report(validation, tmp_path)
    assert first != second
    assert json.loads((first / "report.json").read_text())["role"] == "test"
    assert json.loads((second / "report.json").read_text())["role"] == "validation"


def test_a_full_disk_keeps_the_old_report(report, tmp_path, monkeypatch):
    folder = save_report(report, tmp_path)
    before = (folder / "report.json").read_bytes()

    def raise_disk_full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_module, "render_page", raise_disk_full)
    with pytest.raises(OSError, match="No space"):
        save_report(report, tmp_path)
    assert (folder / "report.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["leave_one_out"]


@pytest.mark.parametrize("width", [80, 140])
def test_tables_fit_the_terminal(report, width):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        for table in report_tables(report.tasks[0], width):
            console.print(table)
        console.print(differences_table(report.tasks[0], "oracle"))
        text = console.export_text()
    assert "…" not in text
    assert "Recall@10" in text
    assert ("Recall@20" in text) == (width > 100)
    half = report.tasks[0].row("half").figures["ndcg@10"]
    assert f"{half.value:.4f}"[1:] + f" [{half.low:.3f}".replace("0.", ".") in text
