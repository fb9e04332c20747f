"""Contents of the shards of an instruction set: records, audited as they are rendered."""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from irec_jax.audit.audit import Audit, Auditor
from irec_jax.instruction_sets.record_encoding import encode_record
from irec_jax.instructions.forms import Instruction
from irec_jax.instructions.render import Renderer
from irec_jax.progress import track
from irec_jax.settings import from_json, to_json
from irec_jax.storage.shards import Shard, ShardReport, plan_shards
from irec_jax.storage.workers import Advance, run_in_workers

_PROGRESS_EVERY = 1_000
_AUDITED_TOGETHER = 16_384


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
        renderer, auditor = self.renderer, self.auditor

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
            summary["audit"] = to_json(auditor.audit(rendered()))
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
    audit = Audit.empty()
    with track("audit", records, unit="records") as advance:
        for summary in run_in_workers(job, shards, workers, lambda amount: advance(amount, "")):
            audit += from_json(Audit, summary["audit"], where="audit")
    return audit


def audit_of(reports: Sequence[ShardReport]) -> Audit:
    """Adds up what was found in some shards."""
    audit = Audit.empty()
    for report in reports:
        if "audit" in report.summary:
            audit += from_json(Audit, report.summary["audit"], where="audit")
    return audit


@dataclasses.dataclass(frozen=True)
class _AuditJob:
    contents: InstructionContents

    def __call__(self, shard: Shard, advance: Advance) -> dict[str, Any]:
        return self.contents.write(range(shard.start, shard.stop), _forget, advance)


def _forget(content: bytes) -> None:
    """Stores nothing."""
