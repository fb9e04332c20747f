"""Audit of an instruction set: findings, bias tests and lengths."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping
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
    CellCounts,
    GroupCounts,
    Measure,
    chi_square_p_value,
    equal_odds_p_value,
    excess_p_value,
    percentile,
)
from irec_jax.audit.record_checks import RecordChecker
from irec_jax.audit.text_leaks import MEANINGS, Finding
from irec_jax.errors import InputError
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import Instruction
from irec_jax.instructions.render import Renderer
from irec_jax.log.split import Split

EXAMPLES = 5
"""Number of records that an audit keeps for each kind of finding: those with the lowest numbers."""

PERCENTILES = (0.5, 0.9, 0.99, 1.0)

_SHOWN_PROBLEMS = 8


@dataclasses.dataclass(frozen=True)
class Audit:
    """Counts of an audit; the sum of the audits of two parts of a set is that of the whole.

    All counts are integers, so the order of the parts does not matter.

    Attributes:
        records: Number of records.
        findings: Value of `Finding` -> number of records.
        examples: Value of `Finding` -> the first records: (number, problem).
        counts: Value of `Measure` -> its counts.
    """

    records: int = 0
    findings: Mapping[str, int] = dataclasses.field(default_factory=dict)
    examples: Mapping[str, tuple[tuple[int, str], ...]] = dataclasses.field(default_factory=dict)
    counts: Mapping[str, GroupCounts] = dataclasses.field(default_factory=dict)

    def __add__(self, other: "Audit") -> "Audit":
        counts: dict[str, GroupCounts] = {}
        for measure in sorted({*self.counts, *other.counts}):
            first, second = (audit.counts.get(measure, {}) for audit in (self, other))
            counts[measure] = {
                group: _added(first.get(group, {}), second.get(group, {}))
                for group in sorted({*first, *second})
            }
        return Audit(
            records=self.records + other.records,
            findings=_added(self.findings, other.findings),
            examples={
                kind: tuple(sorted((*a.get(kind, ()), *b.get(kind, ())))[:EXAMPLES])
                for a, b in ((self.examples, other.examples),)
                for kind in sorted({*a, *b})
            },
            counts=counts,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values, the same for equal audits."""
        return {
            "records": self.records,
            "findings": dict(sorted(self.findings.items())),
            "examples": {k: [list(e) for e in first] for k, first in sorted(self.examples.items())},
            "counts": {
                measure: {
                    group: dict(sorted(cells.items())) for group, cells in sorted(groups.items())
                }
                for measure, groups in sorted(self.counts.items())
            },
        }

    @classmethod
    def from_json(cls, data: Any) -> "Audit":
        """Reads the result of `to_json`.

        Raises:
            InputError: `data` is not an audit.
        """
        try:
            return cls(
                records=int(data["records"]),
                findings={str(kind): int(count) for kind, count in data["findings"].items()},
                examples={
                    str(kind): tuple((int(number), str(problem)) for number, problem in first)
                    for kind, first in data["examples"].items()
                },
                counts={
                    str(measure): {
                        str(group): {str(cell): int(count) for cell, count in cells.items()}
                        for group, cells in groups.items()
                    }
                    for measure, groups in data["counts"].items()
                },
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"not an audit: {error!r}", where="audit", hint="Run the audit again."
            ) from error

    def groups(self, measure: Measure) -> GroupCounts:
        """Returns the counts of a measure, empty if nothing was counted."""
        return self.counts.get(measure.value, {})

    def total(self, name: str) -> int:
        """Returns a count of `Measure.TOTALS`, such as `cut histories`."""
        return self.groups(Measure.TOTALS).get("", {}).get(name, 0)

    def lengths(self, text: str) -> dict[float, int]:
        """Returns the length at each of `PERCENTILES`; `text` is `prompt` or `answer`."""
        counts = {int(c): n for c, n in self.groups(Measure.LENGTHS).get(text, {}).items()}
        return {share: percentile(counts, share) for share in PERCENTILES}

    def cut_prompts(self, source_length: int) -> int:
        """Returns the number of prompts with more than `source_length` tokens."""
        lengths = self.groups(Measure.LENGTHS).get("prompt", {})
        return sum(n for length, n in lengths.items() if int(length) > source_length)

    def overlap(self, measure: Measure = Measure.OVERLAP) -> dict[str, float]:
        """Returns the mean share of a query's n-grams that occur in the title, by intention."""
        return {
            group: cells.get(MILLIONTHS, 0) / MILLION / cells[RECORDS]
            for group, cells in self.groups(measure).items()
            if cells.get(RECORDS)
        }

    def summary(self, source_length: int | None = None) -> list[tuple[str, str]]:
        """Returns the main results as names and values.

        Args:
            source_length: Largest number of tokens of a prompt, None if unknown.
        """
        marks = ", ".join("longest" if s == 1 else f"{s:.0%}" for s in PERCENTILES)
        rows = [("records", f"{self.records:,}")]
        rows += [
            (f"{text} length ({marks})", ", ".join(f"{n:,}" for n in self.lengths(text).values()))
            for text in ("prompt", "answer")
        ]
        if source_length is not None:
            longer = self.cut_prompts(source_length)
            rows.append((f"prompts longer than {source_length:,}", f"{longer:,}"))
        rows += [
            (name, f"{self.total(name):,}")
            for name in (CUT_HISTORIES, FALLBACKS, LANGUAGE_FALLBACKS, TYPED_TITLES)
        ]
        for measure in (Measure.OVERLAP, Measure.OVERLAP_PAIRS):
            name = "words" if measure is Measure.OVERLAP else "pairs of words"
            rows += [
                (f"{name} of {group} queries that occur in the title", f"{share:.1%}")
                for group, share in self.overlap(measure).items()
            ]
        for task, cells in self.groups(Measure.VERDICTS).items():
            rows.append(
                (f"answers of {task}", ", ".join(f"{answer} {n:,}" for answer, n in cells.items()))
            )
        return rows

    def problems(self, config: InstructionsConfig) -> list[str]:
        """Returns the problems of the set, findings first.

        Args:
            config: Limits the overlap of queries with titles.
        """
        problems = []
        for kind in Finding:
            if count := self.findings.get(kind.value, 0):
                first = "; ".join(f"record {n}: {text}" for n, text in self.examples[kind.value])
                problems.append(f"{MEANINGS[kind]} ({kind.value}, {count:,} records): {first}")
        return problems + self._biases() + self._coincidences() + self._overlaps(config)

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
            shown = problems[:_SHOWN_PROBLEMS]
            more = len(problems) - len(shown)
            lines = [f"  - {problem}" for problem in shown]
            lines += [f"  - and {more} more"] if more else []
            raise InputError(
                f"the audit of {self.records:,} records found:\n" + "\n".join(lines),
                where=where,
                hint="Correct the teacher, the template pack or the log that made these records, "
                "and render them again.",
            )

    def _biases(self) -> list[str]:
        problems = []
        for task, cells in self.groups(Measure.VERDICTS).items():
            yes, no = cells.get("yes", 0), cells.get("no", 0)
            if equal_odds_p_value(yes, no) < MIN_P_VALUE:
                problems.append(f"answers of {task} are not balanced: {yes:,} yes, {no:,} no")
        for name, measure in (
            ("the target's places among the candidates of", Measure.PLACES),
            ("the templates of", Measure.TEMPLATES),
            ("the languages that are drawn", Measure.LANGUAGES),
        ):
            for group, cells in self.groups(measure).items():
                drawn = [(cell.rpartition("*"), n) for cell, n in cells.items()]
                weights = [int(weight) for (_, _, weight), _ in drawn]
                if chi_square_p_value([n for _, n in drawn], weights) < MIN_P_VALUE:
                    counts = ", ".join(f"{outcome} {n:,}" for (outcome, _, _), n in drawn)
                    problems.append(f"{name} {group}".rstrip() + f" are not as drawn: {counts}")
        return problems

    def _coincidences(self) -> list[str]:
        problems = []
        for name, cells in self.groups(Measure.COINCIDENCES).items():
            own, other = cells.get("own", 0), cells.get("other", 0)
            if excess_p_value(own, other) < MIN_P_VALUE:
                problems.append(
                    f"{name} occur in {own:,} texts of their own event and in {other:,} of other "
                    "events: more than by chance"
                )
        return problems

    def _overlaps(self, config: InstructionsConfig) -> list[str]:
        return [
            f"{share:.1%} of the words of {group} queries occur in the title of the answer; "
            f"instructions.max_overlap allows {config.max_overlap:.1%}"
            for group, share in self.overlap().items()
            if share > config.max_overlap
        ]


@dataclasses.dataclass(frozen=True, eq=False)
class Auditor:
    """Audits records against the split that they were made from; can be pickled.

    Attributes:
        checker: Checks single records.
    """

    checker: RecordChecker

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
        return cls(RecordChecker.build(renderer, split, count_tokens))

    def audit(self, records: Iterable[tuple[int, Instruction]]) -> Audit:
        """Audits records in any order.

        Args:
            records: Number and content of each.
        """
        findings: collections.Counter[str] = collections.Counter()
        examples: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
        counts: CellCounts = collections.Counter()
        total = 0
        for number, record in records:
            total += 1
            problems = self.checker.check(number, record, counts)
            if not problems:
                continue
            for finding in dict.fromkeys(finding for finding, _ in problems):
                findings[finding.value] += 1
            for finding, problem in problems:
                kept = examples[finding.value]
                kept.append((number, problem))
                if len(kept) > 4 * EXAMPLES:
                    kept[:] = sorted(kept)[:EXAMPLES]
        return Audit(
            records=total,
            findings=dict(sorted(findings.items())),
            examples={k: tuple(sorted(v)[:EXAMPLES]) for k, v in sorted(examples.items())},
            counts=self.checker.group_counts(counts),
        )


def _added(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {key: first.get(key, 0) + second.get(key, 0) for key in sorted({*first, *second})}
