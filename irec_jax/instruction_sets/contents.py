"""Contents of the shards of an instruction set: records, audited as they are rendered."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from irec_jax.audit.audit import Audit, Auditor
from irec_jax.instruction_sets.record_encoding import encode_record
from irec_jax.instructions.forms import Instruction
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.teacher import Teacher
from irec_jax.progress import track
from irec_jax.storage.shards import Shard, ShardReport, plan_shards
from irec_jax.storage.workers import Advance, run_in_workers

_PROGRESS_EVERY = 1_000
_AUDITED_TOGETHER = 16_384
_TEXTS_OF_A_RECORD = 8


@dataclasses.dataclass(frozen=True)
class InstructionContents:
    """Shards of instructions: `Contents`.

    Attributes:
        renderer: Makes the records.
        auditor: Reads them, where there is one.
    """

    renderer: Renderer
    auditor: Auditor | None = None

    is_compressed: ClassVar[bool] = False  # a sixth of the bytes, at five times the cost of writing

    def write(
        self, numbers: range, put: Callable[[bytes], None], advance: Advance
    ) -> dict[str, Any]:
        """Renders, stores and audits; tells the counts and what the audit found."""
        counts: collections.Counter[tuple[str, ...]] = collections.Counter()
        renderer, auditor = _sharing_a_memory(self.renderer, self.auditor)

        def rendered() -> Iterator[tuple[int, Instruction]]:
            for start in range(numbers.start, numbers.stop, _PROGRESS_EVERY):
                part = range(start, min(start + _PROGRESS_EVERY, numbers.stop))
                for number in part:
                    it = renderer.record(number)
                    put(encode_record(it, number))
                    counts[it.scenario, it.strategy, it.task, it.language, it.template] += 1
                    yield number, it
                advance(len(part))

        summary: dict[str, Any] = {}
        if auditor is None:
            collections.deque(rendered(), maxlen=0)
        else:
            summary["audit"] = auditor.audit(rendered()).to_json()
        summary["counts"] = [[*kind, count] for kind, count in sorted(counts.items())]
        return summary


def audit_records(renderer: Renderer, auditor: Auditor, records: int, *, workers: int = 1) -> Audit:
    """Reads records 0 to `records - 1` without storing them.

    Args:
        renderer: Makes the records.
        auditor: Reads them.
        records: How many.
        workers: How many processes.
    """
    job = _AuditJob(InstructionContents(renderer, auditor))
    shards = plan_shards("audit", records, _AUDITED_TOGETHER)
    audit = Audit()
    with track("audit", records, unit="records") as advance:
        for summary in run_in_workers(job, shards, workers, lambda amount: advance(amount, "")):
            audit += Audit.from_json(summary["audit"])
    return audit


def audit_of(reports: Sequence[ShardReport]) -> Audit:
    """Adds up what was found in some shards."""
    audit = Audit()
    for report in reports:
        if "audit" in report.summary:
            audit += Audit.from_json(report.summary["audit"])
    return audit


class _Remembering:
    """A teacher that gives its last texts again without writing them again: `Teacher`."""

    def __init__(self, teacher: Teacher) -> None:
        self.variants = teacher.variants
        self.has_preference, self.has_query = teacher.has_preference, teacher.has_query
        self.has_reason, self.fingerprint = teacher.has_reason, teacher.fingerprint
        remember = functools.lru_cache(maxsize=_TEXTS_OF_A_RECORD)
        self.query = remember(teacher.query)
        self.preference = remember(teacher.preference)
        self.reason = remember(teacher.reason)


def _sharing_a_memory(
    renderer: Renderer, auditor: Auditor | None
) -> tuple[Renderer, Auditor | None]:
    """Has the teacher write once what is rendered and, right after that, audited.

    A teacher is a pure function, so that the audit sees what it would see otherwise.
    """
    if auditor is None or auditor.inspector.renderer.teacher is not renderer.teacher:
        return renderer, auditor
    teacher = _Remembering(renderer.teacher)
    inspector = auditor.inspector
    known = dataclasses.replace(inspector.renderer, teacher=teacher)
    return (
        dataclasses.replace(renderer, teacher=teacher),
        dataclasses.replace(auditor, inspector=dataclasses.replace(inspector, renderer=known)),
    )


@dataclasses.dataclass(frozen=True)
class _AuditJob:
    contents: InstructionContents

    def __call__(self, shard: Shard, advance: Advance) -> dict[str, Any]:
        return self.contents.write(range(shard.start, shard.stop), _forget, advance)


def _forget(content: bytes) -> None:
    """Stores nothing."""
