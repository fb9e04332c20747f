"""`irec instruct`: renders, audits and stores an instruction set."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from irec_jax.audit.audit import Auditor
from irec_jax.batches.lengths import TokenCount
from irec_jax.batches.packed import MANIFEST_FILE as PACKED_FILE
from irec_jax.batches.packed import PackedManifest, write_packed
from irec_jax.bounds import Range, check_between
from irec_jax.cli.instruction_tables import audit_table, coverage_table, stored_table
from irec_jax.cli.template_coverage import count_coverage
from irec_jax.errors import InputError
from irec_jax.experiment.loading import load_experiment
from irec_jax.experiment.materials import Materials, open_rows, packing_of, prepare
from irec_jax.files import check_output_place, file_sha256
from irec_jax.instruction_sets.contents import audit_records
from irec_jax.instruction_sets.store import (
    MANIFEST_FILE,
    SAMPLE_FILE,
    read_audit,
    write_instruction_set,
)
from irec_jax.storage.shards import Runner
from irec_jax.terminal import Console


@dataclasses.dataclass(frozen=True)
class Instruct:
    """Renders training instructions from a behavior log and stores them as a TFDS data set.

    Training does not need it: `irec tune` renders the same records on the fly. Use it to read
    the instructions, to publish them, or to train something else on them. Every record is
    audited, and a set with a leak or a bias is not published. A build that was killed continues
    when the same command is given again; packed rows that are whole are left as they are. Any
    setting of the experiment can be changed: `--section.key value`.

    Example: irec instruct configs/movietweetings_tiny.py --out sets/movies --records 100000
    """

    experiment: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EXPERIMENT")]
    """The experiment, a Python file as in configs/."""
    out: Path | None = None
    """The folder to write; tfds.builder_from_directory reads it."""
    packed: Path | None = None
    """A folder for the same records as packed rows of token ids, for training on many hosts."""
    records: int | None = None
    """How many records; left out, one pass: every task at every event that can be its target."""
    workers: int = 1
    """How many processes; the files are the same for any number."""
    audit: bool = False
    """Only audit the records; exit code 2 if anything is found."""
    describe: bool = False
    """Only show how many templates and instructions there are of each kind."""
    runner: str = ""
    """A runner of Apache Beam that does the work, such as DirectRunner or FlinkRunner."""
    beam_options: str = ""
    """Beam's own flags in one word, such as "flink_master=localhost:8081 parallelism=8"."""

    def run(self, overrides: Sequence[str] = ()) -> None:
        """Writes the set and prints what is in it.

        Raises:
            InputError: The experiment, the log or the folder does not fit, or the audit found
                something.
        """
        self._check()
        runner = self._runner()
        materials = prepare(load_experiment(self.experiment, overrides, "instruct"))
        renderer = materials.renderer
        if self.describe:
            domain = materials.experiment.instructions.domain
            _console().print(coverage_table(count_coverage(renderer), domain))
            return
        records = len(renderer) if self.records is None else self.records
        count = TokenCount(materials.writer)
        auditor = Auditor.build(renderer, materials.split, count)
        if self.audit:
            self._audit(materials, auditor, records)
        if self.out is not None:
            self._store(materials, auditor, records, runner)
        if self.packed is not None:
            self._pack(materials, auditor, records, runner)

    def _check(self) -> None:
        """Refuses what does not go together, before anything is read."""
        hint = "Leave it out for the default."
        check_between(self.records, Range(1, 10**9, hint), "--records")
        check_between(self.workers, Range(1, 1_024, hint), "--workers")
        writes = self.out is not None or self.packed is not None
        if self.audit and self.describe:
            raise InputError("each does nothing else", where="--audit and --describe")
        if (self.audit or self.describe) and (writes or self.runner):
            what = "--audit" if self.audit else "--describe"
            raise InputError(
                f"{what} writes nothing",
                where=what,
                hint=f"Leave out {what}, or else --out, --packed and --runner.",
            )
        if not (self.audit or self.describe or writes):
            raise InputError(
                "there is no folder to write",
                where="--out",
                hint="Name one with --out or --packed, or use --audit or --describe.",
            )
        for folder in (self.out, self.packed):
            if folder is not None:
                check_output_place(folder)
        if self.beam_options and not self.runner:
            raise InputError(
                "there is no runner that they are for",
                where="--beam-options",
                hint="Name it with --runner.",
            )

    def _runner(self) -> Runner | None:
        if not self.runner:
            return None
        try:
            from irec_jax.storage.beam_runner import beam_runner
        except ImportError as error:
            raise InputError(
                f"Apache Beam cannot be used: {error}",
                where="--runner",
                hint="Run pip install 'irec-jax[beam]', or use --workers.",
            ) from error
        return beam_runner(self.runner, self.beam_options)

    def _audit(self, materials: Materials, auditor: Auditor, records: int) -> None:
        experiment = materials.experiment
        audit = audit_records(materials.renderer, auditor, records, workers=self.workers)
        _console().print(audit_table(audit, experiment.tokens.source_length))
        audit.refuse(experiment.instructions, where=str(self.experiment))
        _console().print(f"{records} instructions: nothing was found.")

    def _store(
        self, materials: Materials, auditor: Auditor, records: int, runner: Runner | None
    ) -> None:
        assert self.out is not None
        renderer, experiment = materials.renderer, materials.experiment
        manifest = write_instruction_set(
            renderer, self.out, records, workers=self.workers, auditor=auditor, runner=runner
        )
        console = _console()
        console.print(stored_table(manifest))
        console.print(audit_table(read_audit(self.out), experiment.tokens.source_length))
        console.print(
            f"{manifest.records:,} instructions; one pass over the log is "
            f"{manifest.pass_records:,},\n{manifest.cut_histories:,} of them with a history cut to "
            f"the last {experiment.instructions.max_history} items.\n"
            f"sha256 {manifest.sha256}\nWrote {self.out} (see {self.out / MANIFEST_FILE} and "
            f"{self.out / SAMPLE_FILE})",
            markup=False,
            soft_wrap=True,
        )

    def _pack(
        self, materials: Materials, auditor: Auditor, records: int, runner: Runner | None
    ) -> None:
        assert self.packed is not None
        manifest, done = _whole_rows(materials, self.packed, records), "Found"
        if manifest is None:
            done = "Wrote"
            manifest = write_packed(
                packing_of(materials),
                self.packed,
                records,
                workers=self.workers,
                auditor=auditor,
                runner=runner,
            )
        _console().print(
            f"{manifest.records} instructions in {manifest.rows} rows of {manifest.source_length} "
            f"+ {manifest.target_length} tokens,\n{manifest.source_fill:.1%} and "
            f"{manifest.target_fill:.1%} full;\n{manifest.cut_inputs} prompts and "
            f"{manifest.cut_targets} answers were cut.\n"
            f"sha256 {manifest.sha256}\n{done} {self.packed} (see {self.packed / PACKED_FILE})",
            markup=False,
            soft_wrap=True,
        )


def _whole_rows(materials: Materials, folder: Path, records: int) -> PackedManifest | None:
    """Returns the manifest of rows that are there, whole and made from the same; else None."""
    try:
        manifest = open_rows(materials, folder).manifest
    except InputError:
        return None
    whole = all(file_sha256(folder / name) == sha for name, sha in manifest.files.items())
    return manifest if whole and manifest.records == records else None


def _console() -> Console:
    return Console(highlight=False)
