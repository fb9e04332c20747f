"""Contents of the shards of an instruction set: rendered and audited records."""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from irec_jax.audit.audit import Audit, Auditor
from irec_jax.instruction_sets.record_encoding import encode_record
from irec_jax.instructions.forms import Instruction
from irec_jax.instructions.render import Renderer
from irec_jax.progress import track
from irec_jax.storage.shards import Shard, ShardReport, plan_shards
from irec_jax.storage.workers import Advance, run_in_workers

_PROGRESS_EVERY = 1_000
_AUDIT_SHARD_RECORDS = 16_384


@dataclasses.dataclass(frozen=True)
class InstructionContents:
    """Instructions as `irec_jax.storage.shards.ShardContents`.

    Attributes:
        renderer: Renders the records.
        auditor: Audits them; None for no audit.
    """

    renderer: Renderer
    auditor: Auditor | None = None

    is_compressed: ClassVar[bool] = False  # a sixth of the bytes would cost five times the time

    def write(
        self, numbers: range, put: Callable[[bytes], None], advance: Advance
    ) -> dict[str, Any]:
        """Renders, stores and audits records; returns their counts and audit."""
        counts: collections.Counter[tuple[str, ...]] = collections.Counter()

        def rendered() -> Iterator[tuple[int, Instruction]]:
            for start in range(numbers.start, numbers.stop, _PROGRESS_EVERY):
                part = range(start, min(start + _PROGRESS_EVERY, numbers.stop))
                for number in part:
                    record = self.renderer.record(number)
                    put(encode_record(record, number))
                    key = (record.scenario, record.strategy, record.task, record.language)
                    counts[(*key, record.template)] += 1
                    yield number, record
                advance(len(part))

        summary: dict[str, Any] = {}
        if self.auditor is None:
            collections.deque(rendered(), maxlen=0)
        else:
            summary["audit"] = self.auditor.audit(rendered()).to_json()
        summary["counts"] = [[*kind, count] for kind, count in sorted(counts.items())]
        return summary


def audit_records(renderer: Renderer, auditor: Auditor, records: int, *, workers: int = 1) -> Audit:
    """Audits records 0 to `records - 1` without storing them.

    Args:
        renderer: Renders the records.
        auditor: Audits them.
        records: Number of records.
        workers: Number of processes.
    """
    job = _AuditJob(InstructionContents(renderer, auditor))
    shards = plan_shards("audit", records, _AUDIT_SHARD_RECORDS)
    audit = Audit()
    with track("audit", records, unit="records") as advance:
        for summary in run_in_workers(job, shards, workers, lambda amount: advance(amount, "")):
            audit += Audit.from_json(summary["audit"])
    return audit


def audit_of(reports: Sequence[ShardReport]) -> Audit:
    """Returns the sum of the audits of shards."""
    audit = Audit()
    for report in reports:
        if "audit" in report.summary:
            audit += Audit.from_json(report.summary["audit"])
    return audit


@dataclasses.dataclass(frozen=True)
class _AuditJob:
    contents: InstructionContents

    def __call__(self, shard: Shard, advance: Advance) -> dict[str, Any]:
        return self.contents.write(range(shard.start, shard.stop), _discard, advance)


def _discard(content: bytes) -> None:
    """Stores nothing; the audit alone is wanted."""
