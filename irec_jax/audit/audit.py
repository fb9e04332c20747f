"""The audit of an instruction set: findings, biases and lengths, counted record by record."""

import collections
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from irec_jax.audit.bias_tests import (
    CUT_HISTORIES,
    FALLBACKS,
    LANGUAGE_FALLBACKS,
    MILLION,
    MILLIONTHS,
    MIN_P_VALUE,
    RECORDS,
    TYPED_TITLES,
    Counts,
    Measure,
    Tally,
    drawn_p_value,
    excess_p_value,
    percentile,
)
from irec_jax.audit.expectations import TaskProfile
from irec_jax.audit.record_checks import RecordChecker
from irec_jax.audit.split_index import SplitIndex
from irec_jax.audit.text_leaks import Finding, ItemNames
from irec_jax.audit.title_leaks import TextLeaks, TitleCache
from irec_jax.errors import InputError
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.context import RequestContext
from irec_jax.instructions.forms import Instruction, task_words
from irec_jax.instructions.render import Renderer
from irec_jax.log.split import Split
from irec_jax.terminal import printable
from irec_jax.text_cleaning import clean

EXAMPLES = 5
"""Number of records that an audit keeps of each kind of finding, the lowest numbers."""

PERCENTILES = (0.5, 0.9, 0.99, 1.0)

_SHOWN_PROBLEMS = 8
_DRAWN = {
    Measure.VERDICTS: "the answers of",
    Measure.PLACES: "the target's places among the candidates of",
    Measure.TEMPLATES: "the templates of",
    Measure.LANGUAGES: "the languages that are drawn",
}


@dataclasses.dataclass(frozen=True, order=True)
class FindingExample:
    """A record with a finding.

    Attributes:
        number: Record number.
        problem: What is wrong with it.
    """

    number: int
    problem: str


@dataclasses.dataclass(frozen=True)
class Audit:
    """Counts of an audit; the sum of the audits of two parts of a set is that of the whole.

    All counts are integers, so the order of the parts does not matter.

    Attributes:
        records: Number of records.
        found: `Finding.label` -> number of records.
        examples: `Finding.label` -> the first records.
        tallies: Value of `Measure` -> its counts.
    """

    records: int
    found: dict[str, int]
    examples: dict[str, tuple[FindingExample, ...]]
    tallies: dict[str, dict[str, dict[str, int]]]

    @classmethod
    def empty(cls) -> "Audit":
        """Returns the audit of no record."""
        return cls(0, {}, {}, {})

    def __add__(self, other: "Audit") -> "Audit":
        return Audit(**_sum(vars(self), vars(other)))

    def tally(self, measure: Measure) -> Tally:
        """Returns the counts of a measure, empty if nothing was counted."""
        return self.tallies.get(measure, {})

    def counted(self, what: str) -> int:
        """Returns a count of `Measure.COUNTED`, such as `cut histories`."""
        return self.tally(Measure.COUNTED).get("", {}).get(what, 0)

    def lengths(self, text: str) -> dict[float, int]:
        """Returns the length at each of `PERCENTILES`; `text` is `prompt` or `answer`."""
        counts = {int(c): n for c, n in self.tally(Measure.LENGTHS).get(text, {}).items()}
        return {share: percentile(counts, share) for share in PERCENTILES}

    def cut_prompts(self, source_length: int) -> int:
        """Returns the number of prompts with more than `source_length` tokens."""
        lengths = self.tally(Measure.LENGTHS).get("prompt", {})
        return sum(n for length, n in lengths.items() if int(length) > source_length)

    def overlap(self) -> dict[str, float]:
        """Returns the mean share of a query's words that occur in the title, by kind of query."""
        return {
            group: cells[MILLIONTHS] / MILLION / cells[RECORDS]
            for group, cells in self.tally(Measure.OVERLAP).items()
        }

    def summary(self, source_length: int | None = None) -> list[tuple[str, str]]:
        """Returns the main results as names and values.

        Args:
            source_length: Number of tokens of a prompt that a model reads, None if unknown.
        """
        marks = ", ".join("longest" if s == 1 else f"{s:.0%}" for s in PERCENTILES)
        rows = [("records", f"{self.records:,}")]
        for text in ("prompt", "answer"):
            lengths = ", ".join(f"{length:,}" for length in self.lengths(text).values())
            rows.append((f"{text} length ({marks})", lengths))
        if source_length is not None:
            cut = self.cut_prompts(source_length)
            rows.append((f"prompts longer than {source_length:,}", f"{cut:,}"))
        for what in (CUT_HISTORIES, FALLBACKS, LANGUAGE_FALLBACKS, TYPED_TITLES):
            rows.append((what, f"{self.counted(what):,}"))
        for group, share in self.overlap().items():
            rows.append((f"words of {group} queries that occur in the title", f"{share:.1%}"))
        for task, cells in self.tally(Measure.VERDICTS).items():
            rows.append((f"answers of {task_words(task)}", _listed(cells)))
        return rows

    def problems(self, config: InstructionsConfig) -> list[str]:
        """Returns the problems of the set, findings first.

        Args:
            config: Limits the overlap of queries with titles.
        """
        problems = []
        for kind in Finding:
            if count := self.found.get(kind.label, 0):
                examples = self.examples[kind.label]
                first = "; ".join(f"record {e.number}: {e.problem}" for e in examples)
                problems.append(f"{kind.value} ({kind.label}, {count:,} records): {first}")
        for measure, name in _DRAWN.items():
            for group, cells in self.tally(measure).items():
                if drawn_p_value(cells) < MIN_P_VALUE:
                    start = f"{name} {group}".rstrip()
                    problems.append(f"{start} are not as drawn: {_listed(cells)}")
        for name, cells in self.tally(Measure.COINCIDENCES).items():
            own, other = cells.get("own", 0), cells.get("other", 0)
            if excess_p_value(own, other) < MIN_P_VALUE:
                problems.append(
                    f"{name} occur in {own:,} texts about them and in {other:,} about others: "
                    "more than by chance"
                )
        return problems + [
            f"{share:.1%} of the words of {group} queries occur in the title that answers them; "
            f"instructions.max_overlap allows {config.max_overlap:.1%}"
            for group, share in self.overlap().items()
            if share > config.max_overlap
        ]

    def refuse(self, config: InstructionsConfig, *, where: str = "instruction set") -> None:
        """Refuses a set that has a problem.

        Args:
            config: As for `problems`.
            where: Name of the set in the message.

        Raises:
            InputError: Naming the first problems and their records.
        """
        problems = self.problems(config)
        if problems:
            more = len(problems) - _SHOWN_PROBLEMS
            shown = problems[:_SHOWN_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
            raise InputError(
                f"the audit of {self.records:,} records found:\n"
                + "\n".join(f"  - {problem}" for problem in shown),
                where=where,
                hint="Fix the source of these records (a teacher, a template pack, or the log) "
                "and render them again.",
            )


class Auditor(RecordChecker):
    """Audits records against the split that they were made from; it can be pickled."""

    @classmethod
    def build(
        cls, renderer: Renderer, split: Split, count_tokens: Callable[[str], int] | None = None
    ) -> "Auditor":
        """Indexes a split.

        Args:
            renderer: Gives the event and task of a record number, item names and templates.
            split: The log.
            count_tokens: Counts the tokens of a text; None counts words.
        """
        writer, split_index = renderer.prompt_writer, SplitIndex.build(split)
        titles = [clean(title or "") for title in split.catalog["title"].to_list()]
        names = ItemNames(writer.names, titles, writer.separator)
        targets = split.targets(renderer.role)
        return cls(
            renderer=renderer,
            split_index=split_index,
            names=names,
            text_leaks=TextLeaks(split_index, names, targets, TitleCache(names)),
            context=RequestContext.build(split, writer.config.context),
            profiles=tuple(TaskProfile.build(variant, renderer) for variant in renderer.variants),
            count_tokens=count_tokens,
        )

    def audit(self, records: Iterable[tuple[int, Instruction]]) -> Audit:
        """Audits records in any order.

        Args:
            records: Number and content of each.
        """
        found: collections.Counter[str] = collections.Counter()
        examples: dict[str, list[FindingExample]] = collections.defaultdict(list)
        counts, total = self.outcomes(), 0
        for number, record in records:
            total += 1
            problems = self.check(number, record, counts)
            if problems:
                found.update({kind.label for kind, _ in problems})
            for kind, problem in problems:
                kept = examples[kind.label]
                kept.append(FindingExample(number, printable(problem)))
                if len(kept) > 4 * EXAMPLES:
                    kept[:] = sorted(kept)[:EXAMPLES]
        return Audit(
            records=total,
            found=dict(sorted(found.items())),
            examples={kind: tuple(sorted(e)[:EXAMPLES]) for kind, e in sorted(examples.items())},
            tallies=_nested(counts),
        )


def _sum(first: Any, second: Any) -> Any:
    """Adds counts, and merges the examples of a finding, at the same keys of two dicts."""
    if isinstance(first, dict):
        return {
            key: _sum(first[key], second[key])
            if key in first and key in second
            else first.get(key, second.get(key))
            for key in sorted({*first, *second})
        }
    return first + second if isinstance(first, int) else tuple(sorted(first + second)[:EXAMPLES])


def _nested(counts: Counts) -> dict[str, Tally]:
    """Returns counts by measure, group and cell, in ascending order."""
    nested: dict[str, Tally] = {}
    for names, count in sorted((tuple(map(str, key)), count) for key, count in counts.items()):
        measure, group, cell = names
        nested.setdefault(measure, {}).setdefault(group, {})[cell] = count
    return nested


def _listed(cells: dict[str, int]) -> str:
    return ", ".join(f"{cell.partition('*')[0]} {count:,}" for cell, count in cells.items())
