"""The renderer: pure, complete, and blind to what is hidden."""

import collections
import dataclasses
import importlib.resources
import pickle
import re
import tomllib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.instructions.built_in_tasks import (
    NAMED_TASKS,
    PERSONALIZED_SEARCH,
    PRODUCT_SEARCH,
    SEQUENTIAL_RECOMMENDATION,
    task_named,
)
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import (
    Instruction,
    Intention,
    Preference,
    Request,
    Scenario,
    TaskName,
)
from irec_jax.instructions.forms import TaskForm as Form
from irec_jax.instructions.prompts import PromptWriter
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.teacher import LogTeacher
from irec_jax.log.split import Role, Split

PACK = tomllib.loads(
    (importlib.resources.files("irec_jax.instructions") / "packs" / "en.toml").read_text("utf-8")
)
# Around a mark that names the item or the query: braces, the separator, a line break, letters
# that run from right to left, a mark that turns the direction, an emoji.
ODD = ["", "{history} ", "{0} ", "a ; b ", "line\nbreak ", "שלום ", "\u202e", "🛋 ", "%s \\ "]


def slow_inputs(
    template_id: str, history: list[str], query: str, domain: str, separator: str = " ; "
) -> str:
    """Fills a template from the file, word by word."""
    text = next(t["text"] for t in PACK["template"] if t["id"] == template_id)
    values = {f"{{{word}}}": value for word, value in PACK["words"][domain].items()}
    values |= {"{history}": separator.join(history), "{query}": query}
    return re.sub(r"\{\w+\}", lambda slot: values[slot[0]], text)


@st.composite
def worlds(draw: st.DrawFn) -> tuple:
    """Histories without repeats, odd titles, and a query before about half of the events."""
    odd = st.sampled_from(ODD)
    items = draw(st.integers(4, 9))
    one = st.lists(st.integers(0, items - 1), min_size=1, max_size=items, unique=True)
    histories = [[0, 1, 2, 3], *draw(st.lists(one, max_size=4))]
    titles = [f"{draw(odd)}#{number}#" for number in range(items)]
    queries = {(0, 1): ("wish ?0.1?", 1)}
    for row, history in enumerate(histories):
        for place in range(len(history)):
            if draw(st.booleans()):
                text = f"{draw(odd)}wish ?{row}.{place}?"
                queries[row, place] = (text, draw(st.sampled_from([1, 2])))
    return histories, titles, queries


@given(
    world=worlds(),
    tasks=st.lists(st.sampled_from(NAMED_TASKS), min_size=1, max_size=4),
    domain=st.sampled_from(["shop", "content", "social", "finance"]),
    max_history=st.integers(1, 5),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=60, deadline=None)
def test_every_record_of_every_pass(
    make: Callable[..., Split],
    world: tuple,
    tasks: list[TaskName],
    domain: str,
    max_history: int,
    seed: int,
):
    histories, titles, queries = world
    split = make(histories, titles, queries)
    config = InstructionsConfig(tuple(tasks), domain=domain, max_history=max_history)
    renderer = Renderer.build(split, config, titles, seed, teacher=LogTeacher.of(split))
    expected = collections.Counter(
        (task_named(name).scenario_at(split, position).code, position)
        for name in tasks
        for position in task_named(name).eligible(split, Role.TRAIN).tolist()
    )
    assert len(renderer) == expected.total()
    position_of = {
        (int(split.users[row]), item): int(split.offsets[row]) + place
        for row, history in enumerate(histories)
        for place, item in enumerate(history)
    }
    cut = 0
    for turn in range(2):
        seen: collections.Counter = collections.Counter()
        for number in range(turn * len(renderer), (turn + 1) * len(renderer)):
            record = renderer.record(number)
            position = position_of[record.user, record.target_item]
            seen[record.scenario, position] += 1
            cut += _check_record(record, split, position, titles, queries, config)
        assert seen == expected
    assert cut == 2 * renderer.cut_histories


def _check_record(
    record: Instruction,
    split: Split,
    position: int,
    titles: list[str],
    queries: dict,
    config: InstructionsConfig,
) -> bool:
    """Checks one record against the split; returns whether its history was cut."""
    row = int(record.user) - 900_001
    start = int(split.offsets[row])
    history = split.items[start:position].tolist() if "implicit" in record.scenario else []
    shown = history[-config.max_history :]
    marks = re.findall(r"#(\d+)#", record.inputs)
    assert [int(mark) for mark in marks] == shown, "oldest first, cut, and nothing else"
    assert str(record.user) not in record.inputs
    assert f"#{record.target_item}#" in record.targets
    wishes = re.findall(r"\?(\d+)\.(\d+)\?", record.inputs)
    place = position - start
    asked = [] if "none-matching" in record.scenario else [(str(row), str(place))]
    assert wishes == asked
    query = queries[row, place][0] if asked else ""
    cleaned = [" ".join(title.replace("\u202e", "").split()) for title in titles]
    separator = " ; " if any(" " in title for title in cleaned) else " "
    wish = " ".join(query.replace("\u202e", "").split())
    clean = [cleaned[item] for item in shown]
    assert record.inputs == slow_inputs(record.template, clean, wish, config.domain, separator)
    assert split.roles[position] == Role.TRAIN.value
    assert (record.strategy, record.split, record.candidates) == ("plain", "train", ())
    return len(history) > config.max_history


@pytest.fixture
def renderer(split: Split, titles: list[str]) -> Renderer:
    return Renderer.build(split, InstructionsConfig(), titles, seed=5, teacher=LogTeacher.of(split))


def test_a_record_depends_on_the_seed_and_the_number_alone(
    renderer: Renderer, split: Split, titles: list[str]
):
    numbers = [30, 3, 1_000_003, 0, 3, 17]
    first = [renderer.record(number) for number in numbers]
    again = Renderer.build(
        split, InstructionsConfig(), titles, seed=5, teacher=LogTeacher.of(split)
    )
    assert [again.record(number) for number in reversed(numbers)] == first[::-1]
    sent = pickle.loads(pickle.dumps(renderer))
    assert [sent.record(number) for number in numbers] == first
    other = Renderer.build(
        split, InstructionsConfig(), titles, seed=6, teacher=LogTeacher.of(split)
    )
    assert [other.record(number) for number in numbers] != first


def test_no_rendering_ever_changes(renderer: Renderer):
    # If this fails, stored sets no longer equal what is rendered on the fly: say so in the
    # changelog, or fix the change that did it.
    records = [renderer.record(number) for number in (0, 1, 2, 3, 30, 1_000_003)]
    assert [(record.template, record.target_item) for record in records] == [
        ("next-guess", 2),
        ("next-follows", 7),
        ("search-ours", 2),
        ("next-which", 6),
        ("next-guess", 2),
        ("next-follows", 2),
    ]


def test_passes_and_seeds_come_in_different_orders(make: Callable[..., Split]):
    titles = [f"t{n}" for n in range(40)]
    split = make([list(range(40))], titles)
    config = InstructionsConfig((TaskName.SEQUENTIAL_RECOMMENDATION,))
    renderer = Renderer.build(split, config, titles, seed=0, teacher=LogTeacher.of(split))
    passes = [
        tuple(renderer.record(turn * len(renderer) + i).target_item for i in range(len(renderer)))
        for turn in range(3)
    ]
    assert len(renderer) == 37
    assert {tuple(sorted(order)) for order in passes} == {tuple(range(1, 38))}
    assert len({*passes, tuple(range(1, 38))}) == 4


def test_a_task_listed_twice_is_asked_twice_as_often(split: Split, titles: list[str]):
    tasks = (TaskName.PRODUCT_SEARCH, TaskName.SEQUENTIAL_RECOMMENDATION, TaskName.PRODUCT_SEARCH)
    renderer = Renderer.build(
        split, InstructionsConfig(tasks), titles, seed=0, teacher=LogTeacher.of(split)
    )
    assert len(renderer) == 3 + 6 + 3


def test_templates_are_drawn_evenly(make: Callable[..., Split]):
    titles = [f"t{n}" for n in range(50)]
    split = make([list(range(50))] * 40, titles)
    config = InstructionsConfig((TaskName.SEQUENTIAL_RECOMMENDATION,))
    renderer = Renderer.build(split, config, titles, seed=3, teacher=LogTeacher.of(split))
    counts = collections.Counter(renderer.record(i).template for i in range(6_000))
    assert len(counts) == 6
    # Chi-square with 5 degrees of freedom: above 20.5 one time in a thousand.
    assert sum((count - 1_000) ** 2 / 1_000 for count in counts.values()) < 20.5


def test_other_roles_have_their_own_targets(split: Split, titles: list[str]):
    config = InstructionsConfig((TaskName.SEQUENTIAL_RECOMMENDATION,))
    renderer = Renderer.build(split, config, titles, 0, Role.TEST, teacher=LogTeacher.of(split))
    records = [renderer.record(number) for number in range(len(renderer))]
    assert {record.split for record in records} == {"test"}
    assert sorted(record.target_item for record in records) == [5, 5, 9]


def test_the_prompt_of_a_request_is_the_first_template_by_default(renderer: Renderer, split: Split):
    request = PERSONALIZED_SEARCH.request(split, 8)
    history = ["Brand5 lamp model5", "Brand6 lamp model6"]
    query = "cheap {light} for bed"
    prompt = renderer.prompt_writer.prompt
    assert prompt(request) == slow_inputs("personal-now", history, query, "shop")
    assert prompt(request) == (
        "This shopper bought Brand5 lamp model5 ; Brand6 lamp model6 and now asks : "
        "cheap {light} for bed . Which product fits ?"
    )
    other = dataclasses.replace(request, template="personal-taste")
    assert prompt(other) == slow_inputs("personal-taste", history, query, "shop")
    sequential = prompt(SEQUENTIAL_RECOMMENDATION.request(split, 8))
    assert sequential == slow_inputs("next-which", history, "", "shop")


@given(instruction=st.text(min_size=1).map(lambda text: f"{text}x"))
@settings(deadline=None)
def test_any_instruction_can_be_served(titles_forever: list[str], instruction: str):
    wording = PromptWriter.build(InstructionsConfig(), titles_forever)
    prompt = wording.prompt(Request(PRODUCT_SEARCH.scenario, (), instruction))
    head, tail = wording.prompt(Request(PRODUCT_SEARCH.scenario, (), "QQ")).split("QQ")
    assert prompt.startswith(head)
    assert prompt.endswith(f"x{tail}")
    assert "\n" not in prompt
    assert "  " not in prompt


@pytest.mark.parametrize(
    ("preference", "intention", "form", "history", "words", "what"),
    [
        ("implicit", "none", "matching", (), "", "{history}"),
        ("none", "specific", "matching", (), "\u202e\n", "{query}"),
        ("implicit", "none", "matching", (12,), "", "item number 12"),
        ("implicit", "none", "matching", (-1,), "", "item number -1"),
        ("implicit", "none", "pairwise", (1,), "", "0 candidates for the task"),
        ("none", "none", "reranking", (), "", "0 candidates for the task"),
    ],
)
def test_a_request_that_cannot_be_written_is_refused(
    renderer: Renderer,
    preference: str,
    intention: str,
    form: str,
    history: tuple[int, ...],
    words: str,
    what: str,
):
    scenario = Scenario(Preference(preference), Intention(intention), Form(form))
    with pytest.raises(InputError, match=re.escape(what)):
        renderer.prompt_writer.prompt(Request(scenario, history, words))


def test_a_template_or_language_that_is_not_there_is_refused(renderer: Renderer):
    request = Request(PRODUCT_SEARCH.scenario, (), "lamp")
    for change, what in (
        ({"template": "search-fnid"}, "Did you mean 'search-find'"),
        ({"template": "next-which"}, "is for sequential_recommendation"),
        ({"language": "zh"}, "no pack is in the language 'zh'"),
    ):
        with pytest.raises(InputError, match=what):
            renderer.prompt_writer.prompt(dataclasses.replace(request, **change))


def test_a_log_without_queries_or_names_is_refused(make: Callable[..., Split]):
    split = make([[0, 1, 2]], ["a", "b", "c"])
    with pytest.raises(InputError, match=r"product_search.*each needs a query"):
        Renderer.build(
            split,
            InstructionsConfig((TaskName.PRODUCT_SEARCH,)),
            ["a", "b", "c"],
            0,
            teacher=LogTeacher.of(split),
        )
    config = InstructionsConfig((TaskName.SEQUENTIAL_RECOMMENDATION,))
    with pytest.raises(InputError, match="no train event"):
        Renderer.build(split, config, ["a", "b", "c"], 0, teacher=LogTeacher.of(split))
    with pytest.raises(InputError, match="item number 1 has no name"):
        Renderer.build(
            split, config, ["a", "\u202e", "c"], 0, Role.TEST, teacher=LogTeacher.of(split)
        )
    with pytest.raises(InputError, match="2 items are named, but the log"):
        Renderer.build(split, config, ["a", "b"], 0, Role.TEST, teacher=LogTeacher.of(split))
