"""The audit of an instruction set: leaks, biases and lengths, counted record by record."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from irec_jax.audit.bias_tests import (
    CUT_HISTORIES,
    FALLBACKS,
    LANGUAGE_FALLBACKS,
    LEAST_CHANCE,
    MILLION,
    MILLIONTHS,
    RECORDS,
    TYPED_TITLES,
    Counts,
    Measure,
    Tally,
    chance_of_counts,
    chance_of_halves,
    chance_of_more,
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
"""How many records an audit remembers of each kind of finding, the lowest numbers."""

PERCENTILES = (0.5, 0.9, 0.99, 1.0)

_SHOWN_PROBLEMS = 8


@dataclasses.dataclass(frozen=True)
class Audit:
    """Counts of an audit; audits of two parts of a set add up to that of the whole.

    All of it is whole numbers, so that the order of the parts never matters.

    Attributes:
        records: How many were read.
        found: Value of `Finding` -> how many records.
        examples: Value of `Finding` -> the first records: (number, what is wrong).
        tallies: Value of `Measure` -> its counts.
    """

    records: int = 0
    found: Mapping[str, int] = dataclasses.field(default_factory=dict)
    examples: Mapping[str, tuple[tuple[int, str], ...]] = dataclasses.field(default_factory=dict)
    tallies: Mapping[str, Tally] = dataclasses.field(default_factory=dict)

    def __add__(self, other: "Audit") -> "Audit":
        tallies: dict[str, Tally] = {}
        for measure in sorted({*self.tallies, *other.tallies}):
            mine, theirs = (a.tallies.get(measure, {}) for a in (self, other))
            tallies[measure] = {
                group: _added(mine.get(group, {}), theirs.get(group, {}))
                for group in sorted({*mine, *theirs})
            }
        return Audit(
            records=self.records + other.records,
            found=_added(self.found, other.found),
            examples={
                kind: tuple(sorted((*a.get(kind, ()), *b.get(kind, ())))[:EXAMPLES])
                for a, b in ((self.examples, other.examples),)
                for kind in sorted({*a, *b})
            },
            tallies=tallies,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns what `json.dump` can write, the same for equal audits."""
        tallies = sorted(self.tallies.items())
        return {
            "records": self.records,
            "found": dict(sorted(self.found.items())),
            "examples": {k: [list(e) for e in first] for k, first in sorted(self.examples.items())},
            "tallies": {
                measure: {group: dict(sorted(cells.items())) for group, cells in sorted(t.items())}
                for measure, t in tallies
            },
        }

    @classmethod
    def from_json(cls, data: Any) -> "Audit":
        """Reads what `to_json` returned.

        Raises:
            InputError: It is something else.
        """
        try:
            return cls(
                records=int(data["records"]),
                found={str(kind): int(count) for kind, count in data["found"].items()},
                examples={
                    str(kind): tuple((int(number), str(text)) for number, text in first)
                    for kind, first in data["examples"].items()
                },
                tallies={
                    str(measure): {
                        str(group): {str(cell): int(count) for cell, count in cells.items()}
                        for group, cells in tally.items()
                    }
                    for measure, tally in data["tallies"].items()
                },
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"not an audit: {error!r}", where="audit", hint="Run the audit again."
            ) from error

    def tally(self, measure: Measure) -> Tally:
        """Returns the counts of a measure, none where nothing was counted."""
        return self.tallies.get(measure.value, {})

    def counted(self, what: str) -> int:
        """Returns a count of `Measure.COUNTED`, such as `cut histories`."""
        return self.tally(Measure.COUNTED).get("", {}).get(what, 0)

    def lengths(self, text: str) -> dict[float, int]:
        """Returns the length at each of `PERCENTILES`; `text` is `prompt` or `answer`."""
        counts = {int(c): n for c, n in self.tally(Measure.LENGTHS).get(text, {}).items()}
        return {share: percentile(counts, share) for share in PERCENTILES}

    def cut_prompts(self, source_length: int) -> int:
        """Returns how many prompts are longer than a context."""
        lengths = self.tally(Measure.LENGTHS).get("prompt", {})
        return sum(n for length, n in lengths.items() if int(length) > source_length)

    def overlap(self, measure: Measure = Measure.OVERLAP) -> dict[str, float]:
        """Returns the mean share of a query's n-grams that stand in the title, by intention."""
        return {
            group: cells.get(MILLIONTHS, 0) / MILLION / cells[RECORDS]
            for group, cells in self.tally(measure).items()
            if cells.get(RECORDS)
        }

    def summary(self, source_length: int | None = None) -> list[tuple[str, str]]:
        """Returns what a person wants to know, as names and values.

        Args:
            source_length: How many tokens of a prompt a model reads, where that is known.
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
            (what, f"{self.counted(what):,}")
            for what in (CUT_HISTORIES, FALLBACKS, LANGUAGE_FALLBACKS, TYPED_TITLES)
        ]
        for measure in (Measure.OVERLAP, Measure.OVERLAP_PAIRS):
            name = "words" if measure is Measure.OVERLAP else "pairs of words"
            rows += [
                (f"{name} of {group} queries that stand in the title", f"{share:.1%}")
                for group, share in self.overlap(measure).items()
            ]
        for task, cells in self.tally(Measure.VERDICTS).items():
            rows.append(
                (f"answers of {task}", ", ".join(f"{answer} {n:,}" for answer, n in cells.items()))
            )
        return rows

    def problems(self, config: InstructionsConfig) -> list[str]:
        """Says what is wrong with the set, worst first; nothing where nothing is.

        Args:
            config: Limits the overlap of queries with titles.
        """
        problems = []
        for kind in Finding:
            if count := self.found.get(kind.value, 0):
                first = "; ".join(f"record {n}: {what}" for n, what in self.examples[kind.value])
                problems.append(f"{MEANINGS[kind]} ({kind.value}, {count:,} records): {first}")
        return problems + self._biases() + self._coincidences() + self._overlaps(config)

    def refuse(self, config: InstructionsConfig, *, where: str = "instruction set") -> None:
        """Refuses a set that has a problem.

        Args:
            config: As for `problems`.
            where: What is refused, for the message.

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
                hint="Fix the source of these records (a teacher, a template pack, or the log) and "
                "render them again.",
            )

    def _biases(self) -> list[str]:
        problems = []
        for task, cells in self.tally(Measure.VERDICTS).items():
            yes, no = cells.get("yes", 0), cells.get("no", 0)
            if chance_of_halves(yes, no) < LEAST_CHANCE:
                problems.append(f"answers of {task} are not balanced: {yes:,} yes, {no:,} no")
        for what, measure in (
            ("the right one's place among the candidates of", Measure.PLACES),
            ("the templates of", Measure.TEMPLATES),
            ("the languages that are drawn", Measure.LANGUAGES),
        ):
            for group, cells in self.tally(measure).items():
                drawn = [(cell.rpartition("*"), n) for cell, n in cells.items()]
                weights = [int(weight) for (_, _, weight), _ in drawn]
                if chance_of_counts([n for _, n in drawn], weights) < LEAST_CHANCE:
                    counts = ", ".join(f"{name} {n:,}" for (name, _, _), n in drawn)
                    problems.append(f"{what} {group}".rstrip() + f" are not as drawn: {counts}")
        return problems

    def _coincidences(self) -> list[str]:
        problems = []
        for what, cells in self.tally(Measure.COINCIDENCES).items():
            own, other = cells.get("own", 0), cells.get("other", 0)
            if chance_of_more(own, other) < LEAST_CHANCE:
                problems.append(
                    f"{what} stand in {own:,} texts about them and in {other:,} about others: "
                    "more than chance"
                )
        return problems

    def _overlaps(self, config: InstructionsConfig) -> list[str]:
        return [
            f"{share:.1%} of the words of {group} queries stand in the title that answers them; "
            f"instructions.max_overlap allows {config.max_overlap:.1%}"
            for group, share in self.overlap().items()
            if share > config.max_overlap
        ]


@dataclasses.dataclass(frozen=True, eq=False)
class Auditor:
    """Reads records against the split that they were made from; it can be pickled.

    Attributes:
        inspector: Looks at one record.
    """

    inspector: RecordChecker

    @classmethod
    def build(
        cls, renderer: Renderer, split: Split, count: Callable[[str], int] | None = None
    ) -> "Auditor":
        """Works out from the split what each record may show.

        Args:
            renderer: Says what each number is about, and how items and templates are written.
            split: The log.
            count: Counts the tokens of a text; left out, words are counted.
        """
        return cls(RecordChecker.build(renderer, split, count))

    def audit(self, records: Iterable[tuple[int, Instruction]]) -> Audit:
        """Reads records in any order.

        Args:
            records: Number and content of each.
        """
        found: collections.Counter[str] = collections.Counter()
        examples: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
        counts: Counts = collections.Counter()
        read = 0
        for number, record in records:
            read += 1
            problems = self.inspector.inspect(number, record, counts)
            if not problems:
                continue
            for kind in dict.fromkeys(kind for kind, _ in problems):
                found[kind.value] += 1
            for kind, message in problems:
                kept = examples[kind.value]
                kept.append((number, message))
                if len(kept) > 4 * EXAMPLES:
                    kept[:] = sorted(kept)[:EXAMPLES]
        return Audit(
            records=read,
            found=dict(sorted(found.items())),
            examples={k: tuple(sorted(v)[:EXAMPLES]) for k, v in sorted(examples.items())},
            tallies=self.inspector.tallies(counts),
        )


def _added(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {key: first.get(key, 0) + second.get(key, 0) for key in sorted({*first, *second})}
