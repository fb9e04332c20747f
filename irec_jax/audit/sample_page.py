"""HTML page of random instructions with the events that they were made from."""

import collections
import datetime
import html
import importlib.resources
import string
from collections.abc import Callable, Sequence
from pathlib import Path

from irec_jax.audit.audit import Audit, Auditor
from irec_jax.files import write_text
from irec_jax.instructions.forms import Instruction, Slot, scenario_words, task_words
from irec_jax.instructions.tasks import Task
from irec_jax.log.events import TimeUnit
from irec_jax.random_draws import RandomStream, derive_key, scramble
from irec_jax.text_cleaning import clean
from irec_jax.tokens.readable import with_titles

SAMPLE_RECORDS = 100
"""Number of instructions on a page."""

_safe = html.escape


def write_sample(
    path: Path, auditor: Auditor, audit: Audit, read: Callable[[int], Instruction], total: int
) -> None:
    """Writes the page as one HTML file that loads nothing else.

    Args:
        path: The file.
        auditor: Auditor of the set.
        audit: Audit of the whole set.
        read: Returns the record of a number.
        total: Number of records; the renderer's seed draws which are shown.
    """
    numbers = sample_numbers(total, SAMPLE_RECORDS, auditor.renderer.seed)
    write_text(path, render_sample(auditor, audit, [(number, read(number)) for number in numbers]))


def sample_numbers(total: int, count: int, seed: int) -> list[int]:
    """Draws distinct record numbers in ascending order, a function of the arguments alone.

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
    auditor: Auditor, audit: Audit, records: Sequence[tuple[int, Instruction]]
) -> str:
    """Returns the page as HTML.

    Args:
        auditor: Auditor of the set.
        audit: Audit of the whole set.
        records: Number and content of the shown records.
    """
    problems = audit.problems(auditor.renderer.prompt_writer.config)
    verdict = "<p class='good'>No leak and no bias was found.</p>"
    if problems:
        verdict = "<ul>" + "".join(f"<li class='wrong'>{_safe(p)}</li>" for p in problems) + "</ul>"
    page = importlib.resources.files("irec_jax.audit").joinpath("sample_page.html")
    return string.Template(page.read_text(encoding="utf-8")).substitute(
        title="Sample of an instruction set",
        subtitle=f"{len(records):,} of {audit.records:,} audited records, "
        f"seed {auditor.renderer.seed}",
        verdict=verdict,
        facts="\n".join(f"<dt>{_safe(k)}</dt><dd>{_safe(v)}</dd>" for k, v in audit.summary()),
        cards="\n".join(_card(auditor, number, record) for number, record in records),
    )


def _card(auditor: Auditor, number: int, record: Instruction) -> str:
    """Shows a record, its problems and its events."""
    problems = auditor.check(number, record, collections.Counter())
    variant, position, *_ = auditor.renderer.origin(number)
    strategy = task_words(record.strategy)
    made_as = (scenario_words(record.scenario), strategy, f"template {record.template}")
    made_as = (*made_as, record.language, record.split)
    names = auditor.names
    texts = [
        with_titles(text, names.written, names.titles) for text in (record.inputs, record.targets)
    ]
    has_event = 0 <= position < len(auditor.split_index.users)
    return (
        f"<article><h3>{number:,} · {_safe(task_words(record.task))}</h3>"
        f"<p class='quiet'>{_safe(' · '.join(made_as))}</p>"
        + "".join(f"<p class='wrong'>{k.label}: {_safe(problem)}</p>" for k, problem in problems)
        + "".join(
            f"<span class='label'>{name}</span><blockquote dir='auto'>{_safe(text)}</blockquote>"
            for name, text in zip(("prompt", "answer"), texts, strict=True)
        )
        + (_source(auditor, record, variant.task, position) if has_event else "")
        + "</article>"
    )


def _source(auditor: Auditor, record: Instruction, task: Task, position: int) -> str:
    """Lists the events of a record; hidden ones are marked."""
    index, split = auditor.split_index, auditor.split_index.split
    first = index.starts.item(position)
    start = max(first, position - auditor.renderer.prompt_writer.config.max_history)
    hides_history = Slot.HISTORY not in task.slots
    history = "".join(
        f"<li dir='auto'>{_event(auditor, place, hides_history)}</li>"
        for place in range(start, position)
    )
    rows = [("target", _event(auditor, position, task.hides_target))]
    if query := clean(split.queries[position]):
        rows.append(("the log's query", _mark(query, not task.needs_query)))
    if len(split.reviews) and (review := clean(split.reviews[position])):
        rows.append(("the log's review", _mark(review, True)))
    if candidates := [_item(auditor, item) for item in record.candidates]:
        rows.append(("candidates", _safe(" ; ".join(candidates))))
    return (
        f"<details open><summary>source events of user {index.users.item(position)}, "
        f"{start - first:,} earlier events not shown</summary>"
        f"<span class='label'>history</span><ol start='{start - first + 1}'>{history}</ol><dl>"
        + "".join(f"<dt>{name}</dt><dd dir='auto'>{value}</dd>" for name, value in rows)
        + "</dl></details>"
    )


def _event(auditor: Auditor, position: int, is_hidden: bool) -> str:
    """Formats the item and the time of an event."""
    split = auditor.split_index.split
    time = split.times.item(position)
    time_text = f"position {time}"
    if split.time_unit is TimeUnit.SECONDS:
        date = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=time)
        time_text = f"{date:%Y-%m-%d %H:%M}"
    item = _mark(_item(auditor, split.items.item(position)), is_hidden)
    return f"{item} <small>{time_text}</small>"


def _item(auditor: Auditor, item: int) -> str:
    names = auditor.names
    if item not in range(len(names.written)):
        return str(item)
    title, written = names.titles[item], names.written[item]
    return written if title in ("", written) else f"{title} ({written})"


def _mark(text: str, is_hidden: bool) -> str:
    return f"<span class='hidden'>{_safe(text)}</span>" if is_hidden else _safe(text)
