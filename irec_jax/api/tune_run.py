"""Tuning a run from Python, as `irec tune` does."""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain
import jax
from jax.sharding import Mesh

from irec_jax.api.process import set_up_process
from irec_jax.api.tuned_run import TunedRun
from irec_jax.batches.batch import Batch
from irec_jax.batches.elastic import packed_batches
from irec_jax.batches.packed import PackedRows
from irec_jax.batches.pipeline import Cuts, RecordSource, training_batches
from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment
from irec_jax.experiment.loading import load_experiment
from irec_jax.experiment.materials import Materials, open_rows, prepare, sources_of
from irec_jax.experiment.run_config import fingerprint, save_run
from irec_jax.instructions.render import Renderer
from irec_jax.log.split import Role
from irec_jax.model.lora import LoraConfig, abstract_adapters, trained_share
from irec_jax.model.params import abstract, count
from irec_jax.planning.host_speed import estimate_hours, measure_flops
from irec_jax.planning.limits import check_run_fits
from irec_jax.run_checksums import check_run_folder
from irec_jax.run_lock import TUNE, RunLock
from irec_jax.settings import to_json
from irec_jax.training.device_put import reader_of
from irec_jax.training.distributed import gather, is_first, on_first
from irec_jax.training.init_weights import from_pretrained, from_scratch
from irec_jax.training.inputs import InitWeights, TrainingInputs
from irec_jax.training.item_rows import ItemTitles
from irec_jax.training.loop import train
from irec_jax.training.metrics_logger import report
from irec_jax.training.sharding import batch_sharding, make_mesh

PARAMETERS_PER_TOKEN = 1
"""Parameters of random weights for each token of training, above which `tune` warns."""


def tune(experiment: Experiment | Path | str, out: Path | str | None = None) -> TunedRun:
    """Tunes the model of an experiment, or resumes it where it stopped.

    A run that is finished is returned as it is.

    Args:
        experiment: The experiment, or the path of a Python file that defines `experiment`.
        out: The run folder; for a file, by default runs/NAME OF THE FILE.

    Raises:
        InputError: A setting, the log or the folder cannot be used.
        Interrupted: The kernel was interrupted (a `KeyboardInterrupt`); the state is saved.
    """
    set_up_process()
    if isinstance(experiment, Experiment):
        if out is None:
            hint = "Name the folder of the run: tune(experiment, out='runs/first')."
            raise InputError("the run folder is missing", where="out", hint=hint)
        run = Path(out)
    else:
        run = Path(out) if out is not None else default_run(Path(experiment))
        experiment = load_experiment(Path(experiment))
    check_run_folder(run)
    with run_locked(run):
        tune_materials(prepare(experiment, run), run)
    return TunedRun(run)


def default_run(experiment: Path) -> Path:
    """The folder of a run that is not named: runs/NAME OF THE FILE."""
    return Path("runs") / experiment.stem


@contextlib.contextmanager
def run_locked(run: Path, *, take_over: bool = False) -> Iterator[None]:
    """Hold the lock of a run folder, for all processes of a run.

    Args:
        run: The folder.
        take_over: Whether to take a lock whose holder was on another host.

    Raises:
        InputError: Another process is at work in the folder; in every process of this run.
    """
    lock = RunLock(run)
    try:
        on_first(lambda: lock.acquire(TUNE, take_over=take_over))
        yield
    finally:
        lock.release()


def tune_materials(
    materials: Materials, run: Path, *, start_time: float | None = None, profile: bool = False
) -> None:
    """Train a prepared experiment, and leave a complete run folder.

    All processes of the run call this; process 0 writes logs and configs.

    Args:
        materials: The prepared experiment.
        run: The run folder.
        start_time: When the attempt started, in seconds since 1970; None for now. The time
            until the first step counts as preparing.
        profile: Whether to trace a few steps.

    Raises:
        InputError: The folder has a run of another config, settings do not fit each other, or
            the processes have different settings.
        Interrupted: After Ctrl-C, when the state is saved.
    """
    experiment, sources = materials.experiment, dataclasses.asdict(sources_of(materials))
    _refuse_differing(experiment, sources)
    mesh, cuts = make_mesh(experiment.mesh), Cuts()
    check_run_fits(experiment, mesh)
    on_first(lambda: save_run(run, materials))
    if is_first():
        _report_model_and_data(materials, run)
        _report_large_model(experiment, run)
        _report_long_run(experiment, run)
    decisive = {**fingerprint(experiment), "sources": sources}
    del decisive["model"], decisive["lora"]  # `train` adds them itself
    if experiment.train.packed:
        rows = open_rows(materials, Path(experiment.train.packed))
        decisive["packed"] = rows.manifest.sha256
        batches = _stored_batches(experiment, rows, mesh)
        if is_first():
            _report_packed_rows(rows, run)
    else:
        batches = _batches(materials, materials.records, cuts)
    train(
        TrainingInputs(
            run=run,
            model=experiment.model,
            init_weights=_init_weights(materials),
            batches=iter(batches),
            mesh=mesh,
            optimizer=experiment.optimizer,
            train=experiment.train,
            lora=experiment.lora,
            seed=experiment.seed,
            fingerprint=decisive,
            validation=_validation(materials),
            start_time=start_time,
            profile=profile,
        )
    )
    if is_first():
        _report_truncation(cuts, run)


def _batches(
    materials: Materials, records: RecordSource, cuts: Cuts | None = None
) -> grain.IterDataset[Batch]:
    experiment = materials.experiment
    return training_batches(
        records,
        materials.writer,
        batch_size=experiment.train.batch_size,
        source_length=experiment.tokens.source_length,
        target_length=experiment.tokens.target_length,
        cuts=cuts,
    )


def _stored_batches(
    experiment: Experiment, rows: PackedRows, mesh: Mesh
) -> grain.IterDataset[Batch]:
    batch_size = experiment.train.batch_size
    return packed_batches(
        rows,
        batch_size=batch_size,
        seed=experiment.seed % 2**32,
        reader=reader_of(batch_sharding(mesh), batch_size),
        read_threads=experiment.train.read_threads,
    )


def _validation(materials: Materials) -> list[Batch]:
    """Return the first batches of the instructions whose answers are validation events."""
    experiment, train = materials.experiment, materials.experiment.train
    if not train.validate_every:
        return []
    renderer = Renderer.build(
        materials.split,
        experiment.instructions,
        names=materials.writer.index.names,
        seed=experiment.seed,
        role=Role.VALIDATION,
        teacher=materials.renderer.teacher,
    )
    return list(itertools.islice(iter(_batches(materials, renderer)), train.validate_batches))


def _refuse_differing(experiment: Experiment, sources: dict[str, Any]) -> None:
    """Check that all processes have the same settings; otherwise their collectives would hang."""
    settings = gather(json.dumps(to_json(experiment)))
    logs = gather(json.dumps(sources))
    for number, given in enumerate(settings):
        if logs[number] != logs[0]:
            hint = "Give all processes the same files."
            what = f"process {number} reads another log or other teacher texts than process 0"
            raise InputError(what, where="data.log", hint=hint)
        if given != settings[0]:
            hint = "Start all processes with the same experiment file and the same overrides."
            problem = f"process {number} has other settings than process 0"
            raise InputError(problem, where="experiment", hint=hint)


def _init_weights(materials: Materials) -> InitWeights:
    experiment, index = materials.experiment, materials.writer.index
    titles = None
    if index.token_titles is not None and experiment.train.title_share:
        offsets, tokens = index.token_titles
        titles = ItemTitles(index.text_vocabulary, offsets, tokens, experiment.train.title_share)
    if experiment.train.pretrained:
        folder = Path(experiment.train.pretrained)
        return from_pretrained(folder, experiment.model, experiment.seed, titles)
    return from_scratch(experiment.model, experiment.seed, titles)


def _report_model_and_data(materials: Materials, run: Path) -> None:
    experiment, split, renderer = materials.experiment, materials.split, materials.renderer
    report(
        run,
        f"run {run}: {split.num_users:,} users, {split.num_items:,} items, "
        f"{len(split.items):,} events, {len(renderer):,} instructions a pass "
        f"({renderer.cut_histories:,} of their histories cut to "
        f"{experiment.instructions.max_history} items)",
    )
    index = materials.writer.index
    if index.cut_titles:
        report(
            run, f"{index.cut_titles:,} titles cut to {experiment.tokens.max_item_tokens} tokens"
        )
    weights = abstract(experiment.model)
    report(run, f"{count(weights):,} parameters, vocabulary {index.vocabulary:,}")
    if experiment.lora.rank:
        trained = count(abstract_adapters(weights, experiment.lora))
        share = trained_share(weights, experiment.lora)
        report(
            run, f"{trained:,} of them are trained ({share:.2%}): {_describe_lora(experiment.lora)}"
        )


def _report_large_model(experiment: Experiment, run: Path) -> None:
    """Says before training that random weights are more than the tokens that train them."""
    train, tokens = experiment.train, experiment.tokens
    parameters = count(abstract(experiment.model))
    columns = tokens.source_length + tokens.target_length
    seen = train.steps * train.batch_size * columns
    if train.pretrained or parameters <= PARAMETERS_PER_TOKEN * seen:
        return
    report(
        run,
        f"the model has {parameters:,} parameters, more than the {seen:,} tokens that train it "
        "from random weights. Lower model.width and the layers, raise train.steps, or start from "
        "published weights with train.pretrained; `irec new` writes a config that suits a log.",
    )


def _report_long_run(experiment: Experiment, run: Path) -> None:
    """Says what takes long before it starts, if the run has only processors and takes an hour."""
    if jax.default_backend() != "cpu" or jax.process_count() > 1:
        return
    hours = estimate_hours(experiment, measure_flops())
    if hours < 1:
        return
    report(
        run,
        f"this run takes about {hours:,.0f} hours on the processors of this machine: "
        f"{count(abstract(experiment.model)):,} parameters for {experiment.train.steps:,} steps of "
        f"{experiment.train.batch_size:,} rows. For less, lower model.width and the layers, or "
        "train.steps; `irec new` writes a config that suits a log.",
    )


def _describe_lora(lora: LoraConfig) -> str:
    whole = f", and all of '{lora.whole}'" if lora.whole else ""
    return f"adapters of rank {lora.rank} for '{lora.targets}'{whole}"


def _report_truncation(cuts: Cuts, run: Path) -> None:
    if cuts.inputs or cuts.targets:
        report(
            run,
            f"truncated: {cuts.inputs} prompts and {cuts.targets} answers of {cuts.records} "
            "instructions, to tokens.source_length and tokens.target_length",
        )


def _report_packed_rows(rows: PackedRows, run: Path) -> None:
    summary = rows.manifest
    report(
        run,
        f"reading {summary.rows:,} rows of {summary.records:,} instructions from {rows.folder}, "
        f"{summary.source_fill:.1%} and {summary.target_fill:.1%} full; truncated: "
        f"{summary.cut_inputs} prompts and {summary.cut_targets} answers",
    )
