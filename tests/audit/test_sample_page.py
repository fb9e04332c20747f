"""The sample page: one file, complete, escaped, and true to the log."""

import dataclasses
import html
import html.parser
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from irec_jax.audit.audit import Audit, Auditor
from irec_jax.audit.sample_page import (
    SAMPLE_RECORDS,
    render_sample,
    sample_numbers,
    write_sample,
)
from irec_jax.instructions.config import ContextPart, InstructionsConfig
from irec_jax.instructions.forms import Instruction, TaskName, scenario_words, task_words
from irec_jax.instructions.passes import RecordOrder
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.teacher import LogTeacher
from irec_jax.log.split import Split

pytestmark = pytest.mark.fast

WICKED = '<script>alert("1")</script> & lamp'
TASKS = (
    TaskName.SEQUENTIAL_RECOMMENDATION,
    TaskName.PERSONALIZED_SEARCH,
    TaskName.SEQUENTIAL_RERANKING,
    TaskName.ITEM_TO_QUERY,
    TaskName.HISTORY_TO_QUERY_ITEM,
)
VOID = {"meta", "br", "link", "img"}


class Page(html.parser.HTMLParser):
    """Checks that tags are closed in order, and keeps what a reader sees and what is marked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.seen: list[str] = []
        self.hidden: list[str] = []
        self.marked = 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if dict(attrs).get("class") == "hidden":
            self.marked = len(self.open)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if len(self.open) < self.marked:
            self.marked = 0

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.seen.append(data)
        if self.marked:
            self.hidden.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.seen).split())


@pytest.fixture
def world(make: Callable[..., Split]) -> Split:
    titles = [f"Maker{n} lamp number{n}" for n in range(40)]
    titles[0] = WICKED
    histories = [[0, 1, 2, 3, 4, 5, 6, 7], *([(n + k) % 40 for k in range(8)] for n in range(30))]
    queries = {
        (row, place): (f"wish {row}-{place}", 1 + place % 2)
        for row in range(len(histories))
        for place in range(8)
    }
    queries[0, 3] = ("<b>bright</b> & light", 2)
    split = make(histories, titles, queries)
    reviews = [f"review of event {position} <i>" for position in range(len(split.items))]
    return dataclasses.replace(split, reviews=reviews, times=split.times * 10_000)


@pytest.fixture
def auditor(world: Split) -> Auditor:
    names = world.catalog["title"].to_list()
    config = InstructionsConfig(TASKS, context=(ContextPart.POPULAR,), max_history=3)
    return Auditor.build(
        Renderer.build(world, config, names, seed=9, teacher=LogTeacher.of(world)), world
    )


def page_of(auditor: Auditor, numbers: list[int]) -> tuple[str, Audit]:
    read = auditor.renderer.record
    records = [(number, read(number)) for number in numbers]
    audit = auditor.audit(records)
    return render_sample(auditor, audit, records), audit


def test_a_page_needs_nothing_else_and_fits_a_phone(auditor: Auditor):
    text, _ = page_of(auditor, list(range(20)))
    page = Page(text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert not any({"src", "href"} & set(attributes) for _, attributes in page.tags)
    assert not re.search(r"url\(|@import|https?:", text)
    names = [attributes.get("name") for tag, attributes in page.tags if tag == "meta"]
    assert {"viewport", "color-scheme"} <= set(names)
    assert "prefers-color-scheme: dark" in text
    assert "$" not in page.text


def test_a_page_shows_every_record_and_its_events(auditor: Auditor, world: Split):
    renderer = auditor.renderer
    numbers = list(range(0, len(renderer), 7))
    text, audit = page_of(auditor, numbers)
    articles = re.findall(r"<article>.*?</article>", text, re.DOTALL)
    assert len(articles) == len(numbers)
    assert audit.found == {}
    titles = world.catalog["title"].to_list()
    for number, article in zip(numbers, articles, strict=True):
        page, record = Page(article), renderer.record(number)
        position = renderer.origin(number).position
        start = max(renderer.starts[position], position - 3)
        for shown_text in (
            *(record.inputs, record.targets, scenario_words(record.scenario)),
            *(task_words(record.task), task_words(record.strategy)),
            *(record.template, record.language),
            *(titles[item] for item in world.items[start : position + 1]),
            *(titles[item] for item in record.candidates),
            *(world.queries[position], world.reviews[position], f"user {record.user}"),
        ):
            assert " ".join(shown_text.split()) in page.text, shown_text


def test_what_a_prompt_hides_is_marked(auditor: Auditor, world: Split):
    renderer = auditor.renderer
    hides = {
        TaskName.SEQUENTIAL_RECOMMENDATION: {"target", "query", "review"},
        TaskName.PERSONALIZED_SEARCH: {"target", "review"},
        TaskName.SEQUENTIAL_RERANKING: {"target", "query", "review"},
        TaskName.ITEM_TO_QUERY: {"history", "query", "review"},
        TaskName.HISTORY_TO_QUERY_ITEM: {"target", "query", "review"},
    }
    for name, expected in hides.items():
        number = next(
            n
            for n in range(len(renderer))
            if renderer.origin(n).variant.task.name is name and renderer.origin(n).position % 8 > 2
        )
        position = renderer.origin(number).position
        page = Page(re.findall(r"<article>.*?</article>", page_of(auditor, [number])[0])[0])
        contents = {
            "target": world.catalog["title"][world.items.item(position)],
            "history": world.catalog["title"][world.items.item(position - 1)],
            "query": world.queries[position],
            "review": world.reviews[position],
        }
        marked = {what for what, content in contents.items() if content in page.hidden}
        assert marked == expected, name


def test_titles_and_queries_cannot_become_part_of_the_page(auditor: Auditor):
    renderer = auditor.renderer
    number = next(
        n
        for n in range(len(renderer))
        if renderer.origin(n).position == 3 and "bright" in renderer.record(n).inputs
    )
    text, _ = page_of(auditor, [number])
    assert WICKED in Page(text).text
    assert "<b>bright</b> & light" in Page(text).text
    assert not {"script", "b", "i"} & {tag for tag, _ in Page(text).tags}


def test_the_verdict_and_the_counts_stand_on_top(auditor: Auditor):
    read = auditor.renderer.record
    good = page_of(auditor, [0, 1])[0]
    assert "No leak and no bias was found." in Page(good).text
    records = [(n, read(n)._replace(inputs=f"{read(n).inputs} <u>")) for n in (4, 5)]
    audit = auditor.audit(records)
    page = Page(render_sample(auditor, audit, records))
    assert "No leak" not in page.text
    assert page.text.index("record 4: ") < page.text.index("source events")
    assert page.text.count("prompt: ") == 2, "once on the card of each record"
    assert "prompt length" in page.text
    classes = [attributes.get("class") for _, attributes in page.tags]
    assert classes.count("wrong") == 3


def test_a_record_of_no_event_is_shown_as_it_is(auditor: Auditor):
    renderer = auditor.renderer
    examples = renderer.record_order.examples
    beyond = dataclasses.replace(examples, positions=np.full_like(examples.positions, 10**6))
    order = RecordOrder(beyond, renderer.seed)
    broken = dataclasses.replace(
        auditor, renderer=dataclasses.replace(renderer, record_order=order)
    )
    record = renderer.record(0)
    page = Page(render_sample(broken, Audit.empty(), [(0, record)]))
    assert "there is no event 1000000" in page.text
    assert record.inputs in page.text


def test_writing_is_the_same_again(auditor: Auditor, tmp_path: Path):
    renderer = auditor.renderer
    audit = auditor.audit((n, renderer.record(n)) for n in range(len(renderer)))
    asked: list[int] = []

    def read(number: int) -> Instruction:
        asked.append(number)
        return renderer.record(number)

    for name in ("first.html", "second.html"):
        write_sample(tmp_path / name, auditor, audit, read, len(renderer))
    assert (tmp_path / "first.html").read_bytes() == (tmp_path / "second.html").read_bytes()
    assert asked == 2 * sample_numbers(len(renderer), SAMPLE_RECORDS, seed=9)
    assert len(set(asked)) == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.html", "second.html"]


@pytest.mark.parametrize(
    ("total", "count"), [(0, 100), (1, 100), (100, 100), (101, 100), (10**12, 7)]
)
def test_sampled_numbers_are_different_and_in_range(total: int, count: int):
    numbers = sample_numbers(total, count, seed=1)
    assert len(numbers) == len(set(numbers)) == min(total, count)
    assert numbers == sorted(numbers)
    assert all(number in range(total) for number in numbers)
    if total > 10**6:
        assert sample_numbers(total, count, seed=2) != numbers
