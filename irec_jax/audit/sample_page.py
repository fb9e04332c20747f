"""A page that a person can read: random instructions beside the events that they were made from."""

import collections
import datetime
import html
import importlib.resources
import string
from collections.abc import Callable, Sequence
from pathlib import Path

from irec_jax.audit.audit import Audit, Auditor
from irec_jax.audit.text_leaks import Problem
from irec_jax.files import write_text
from irec_jax.instructions.examples import TaskVariant
from irec_jax.instructions.forms import Instruction, Part, Slot
from irec_jax.instructions.tasks import Task
from irec_jax.log.events import TimeUnit
from irec_jax.random_draws import RandomStream, derive_key, scramble
from irec_jax.text_cleaning import clean

SAMPLE_RECORDS = 100
"""How many instructions a page shows."""


def write_sample(
    path: Path,
    auditor: Auditor,
    audit: Audit,
    read: Callable[[int], Instruction],
    total: int,
    *,
    source_length: int | None = None,
) -> None:
    """Writes the page as one HTML file that loads nothing from elsewhere.

    Args:
        path: The file.
        auditor: Knows the events behind each record.
        audit: Of the whole set.
        read: Gives the record of a number.
        total: How many records the set has; the renderer's seed draws which are shown.
        source_length: How many tokens of a prompt a model reads, where that is known.
    """
    numbers = sample_numbers(total, SAMPLE_RECORDS, auditor.inspector.renderer.seed)
    records = [(number, read(number)) for number in numbers]
    write_text(path, render_sample(auditor, audit, records, source_length=source_length))


def sample_numbers(total: int, count: int, seed: int) -> list[int]:
    """Draws different record numbers, ascending; the same arguments give the same.

    >>> sample_numbers(3, 100, seed=1)
    [0, 1, 2]
    """
    if count >= total:
        return list(range(total))
    drawn: set[int] = set()
    key, step = derive_key(seed, RandomStream.SAMPLE_PAGE), 0
    while len(drawn) < count:
        drawn.add(scramble(key + step) % total)
        step += 1
    return sorted(drawn)


def render_sample(
    auditor: Auditor,
    audit: Audit,
    records: Sequence[tuple[int, Instruction]],
    *,
    source_length: int | None = None,
) -> str:
    """Returns the whole page as one string of HTML.

    Args:
        auditor: Knows the events behind each record.
        audit: Of the whole set.
        records: Number and content of those that are shown.
        source_length: How many tokens of a prompt a model reads, where that is known.
    """
    config = auditor.inspector.renderer.prompt_writer.config
    problems = audit.problems(config)
    verdict = "<p class='good'>No leak and no bias was found.</p>"
    if problems:
        verdict = "<ul>" + "".join(f"<li class='wrong'>{_safe(p)}</li>" for p in problems) + "</ul>"
    page = importlib.resources.files("irec_jax.audit").joinpath("sample_page.html")
    return string.Template(page.read_text(encoding="utf-8")).substitute(
        title="Sample of an instruction set",
        subtitle=_safe(
            f"{len(records):,} of {audit.records:,} audited records, "
            f"seed {auditor.inspector.renderer.seed}"
        ),
        verdict=verdict,
        facts="\n".join(_fact(*row) for row in audit.summary(source_length)),
        cards="\n".join(_card(auditor, number, record) for number, record in records),
    )


def _card(auditor: Auditor, number: int, record: Instruction) -> str:
    inspector = auditor.inspector
    problems = inspector.inspect(number, record, collections.Counter())
    asked, position, *_ = inspector.renderer.origin(number)
    made_as = (record.scenario, record.strategy, record.template, record.language, record.split)
    parts = [
        f"<h3>{number:,} · {_safe(record.task.replace('_', ' '))}</h3>",
        f"<p class='quiet'>{_safe(' · '.join(made_as))}</p>",
        *(_problem(problem) for problem in problems),
        f"<span class='label'>prompt</span><blockquote dir='auto'>{_safe(record.inputs)}"
        "</blockquote>",
        f"<span class='label'>answer</span><blockquote dir='auto'>{_safe(record.targets)}"
        "</blockquote>",
    ]
    if 0 <= position < len(inspector.evidence.users):
        parts.append(_source(auditor, record, asked, position))
    return f"<article>{''.join(parts)}</article>"


def _source(auditor: Auditor, record: Instruction, asked: TaskVariant, position: int) -> str:
    """Shows the events behind a record, those that are hidden marked."""
    task, evidence = asked.task, auditor.inspector.evidence
    first = evidence.starts.item(position)
    start = max(first, position - auditor.inspector.renderer.prompt_writer.config.max_history)
    shows_history = Slot.HISTORY in task.slots
    before = [_event(auditor, place, hidden=not shows_history) for place in range(start, position)]
    earlier = f"<p><small>{start - first:,} earlier events</small></p>" if start > first else ""
    rows = [("target", _event(auditor, position, hidden=task.hides_target))]
    if query := clean(evidence.split.queries[position]):
        rows.append(("the log's query", _text(query, hidden=not task.needs_query)))
    if len(evidence.split.reviews) and (review := clean(evidence.split.reviews[position])):
        rows.append(("the log's review", _text(review, hidden=True)))
    if record.candidates:
        items = range(len(auditor.inspector.names.written))
        named = [_item(auditor, item) if item in items else str(item) for item in record.candidates]
        rows.append(("candidates", _safe(" ; ".join(named))))
    rows += [(f"answer: {part.value}", _safe(note)) for part, note in _hidden_parts(task)]
    facts = "".join(f"<dt>{_safe(name)}</dt><dd dir='auto'>{value}</dd>" for name, value in rows)
    listed = "".join(f"<li dir='auto'>{event}</li>" for event in before)
    history = f"<ol start='{start - first + 1}'>{listed}</ol>" if before else "<p>none</p>"
    return (
        f"<details open><summary>source events of user {evidence.users.item(position)}</summary>"
        f"<span class='label'>history</span>{earlier}{history}<dl>{facts}</dl></details>"
    )


def _hidden_parts(task: Task) -> list[tuple[Part, str]]:
    asked = (Part.QUERY, Part.PREFERENCE, Part.HISTORY, Part.REASON)
    return [
        (part, "asked for, hidden from the prompt") for part in task.answer_parts if part in asked
    ]


def _event(auditor: Auditor, position: int, *, hidden: bool) -> str:
    """Writes an event: its item, and when it was."""
    split = auditor.inspector.evidence.split
    time = split.times.item(position)
    when = f"position {time}"
    if split.time_unit is TimeUnit.SECONDS:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=time)
        when = f"{moment:%Y-%m-%d %H:%M}"
    item = _text(_item(auditor, split.items.item(position)), hidden=hidden)
    return f"{item} <small>{when}</small>"


def _item(auditor: Auditor, item: int) -> str:
    names = auditor.inspector.names
    title, written = names.titles[item], names.written[item]
    return written if title in ("", written) else f"{title} ({written})"


def _text(text: str, *, hidden: bool) -> str:
    return f"<span class='hidden'>{_safe(text)}</span>" if hidden else _safe(text)


def _problem(problem: Problem) -> str:
    kind, message = problem
    return f"<p class='wrong'>{_safe(kind.value)}: {_safe(message)}</p>"


def _fact(name: str, value: str) -> str:
    return f"<dt>{_safe(name)}</dt><dd>{_safe(value)}</dd>"


def _safe(text: object) -> str:
    return html.escape(str(text))
