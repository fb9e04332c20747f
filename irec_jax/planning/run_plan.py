"""Plan of a run on devices that are not present, with the smallest change that makes it fit."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment
from irec_jax.log.dataset import SIMULATED
from irec_jax.log.events import MANIFEST_FILE
from irec_jax.planning.compiled import (
    FAST_EFFORT,
    CompiledProgram,
    CompileJob,
    CompilerCrash,
    CompileResult,
    compile_with_recheck,
)
from irec_jax.planning.cost import FILL, RunCost, train_cost
from irec_jax.planning.estimate import estimate_memory
from irec_jax.planning.topology import Topology
from irec_jax.tokens.item_index import padded_vocabulary
from irec_jax.tokens.text import open_codec
from irec_jax.training.sharding import BATCH_AXES, MeshConfig

Report = Callable[[str], None]

ASSUMED_ITEMS = 100_000
"""Number of items if neither the experiment nor the caller gives it."""

HOPELESS_FACTOR = 1.4
"""A change is not compiled if its estimate exceeds the usable memory by this factor."""

MAX_ACCUMULATE = 64


class PlanInputs(NamedTuple):
    """Inputs of a plan.

    Attributes:
        experiment: With a vocabulary, and a mesh that uses the topology's devices exactly.
        topology: The devices.
        items: Number of items of the catalog.
        notes: Assumptions, one line each.
    """

    experiment: Experiment
    topology: Topology
    items: int
    notes: tuple[str, ...] = ()


class Change(NamedTuple):
    """A change of an experiment or of its devices.

    Attributes:
        flags: The change on the command line.
        experiment: The changed experiment.
        topology: The changed devices.
    """

    flags: str
    experiment: Experiment
    topology: Topology


class RunPlan(NamedTuple):
    """Memory, cost and fit of a run.

    Attributes:
        inputs: The planned run.
        result: Of the compiler.
        cost: Of the training step; None if it was not compiled or was refused.
        change: The smallest change that makes the run fit; None if it fits or none was found.
    """

    inputs: PlanInputs
    result: CompileResult
    cost: RunCost | None
    change: Change | None = None

    @property
    def fits(self) -> bool:
        """Whether every program fits."""
        return all(program.fits for program in self.result.programs)


def make_inputs(
    experiment: Experiment, topology: Topology, *, vocabulary: int = 0, items: int = 0
) -> PlanInputs:
    """Resolves vocabulary, catalog size and mesh of an experiment.

    The log is not read; of a prepared log only the manifest is.

    Args:
        experiment: From its file and the command line.
        topology: The devices.
        vocabulary: Rows of the embedding; 0 estimates them.
        items: Number of items; 0 takes it from the log's manifest, or assumes one.

    Raises:
        InputError: The vocabulary cannot be estimated.
    """
    notes: list[str] = []
    known_items = items or _catalog_size(experiment)
    if not known_items:
        notes.append(f"assuming a catalog of {ASSUMED_ITEMS:,} items; set --items to change it")
    if not vocabulary:
        vocabulary, note = _vocabulary(experiment, known_items)
        notes += [note] if note else []
    mesh, note = _fitting_mesh(experiment.mesh, topology)
    notes += [note] if note else []
    model = dataclasses.replace(experiment.model, vocabulary=vocabulary)
    resolved = dataclasses.replace(experiment, model=model, mesh=mesh)
    return PlanInputs(resolved, topology, known_items or ASSUMED_ITEMS, tuple(notes))


def _catalog_size(experiment: Experiment) -> int:
    data = experiment.data
    if data.log == SIMULATED:
        return data.simulate.items
    if not data.folder:
        return 0
    try:
        manifest = json.loads((Path(data.folder) / MANIFEST_FILE).read_text(encoding="utf-8"))
        return int(manifest["counts"]["items"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _vocabulary(experiment: Experiment, items: int) -> tuple[int, str]:
    """Returns the rows of the embedding, item tokens included, and a note."""
    tokens = experiment.tokens
    note = ""
    if tokens.tokenizer == "trained":
        text = tokens.vocabulary
    elif Path(tokens.tokenizer).exists():
        text = open_codec(tokens.tokenizer).size
    else:
        text = experiment.model.vocabulary
        note = f"{tokens.tokenizer} does not exist; using the model's vocabulary of {text:,}"
    index = tokens.item_index()
    if not items and index.num_item_tokens(1) > index.num_item_tokens(0):
        hint = "Set --vocabulary, or --items: each item has tokens of its own."
        raise InputError(
            "the log does not exist", where=f"data.log {experiment.data.log}", hint=hint
        )
    return padded_vocabulary(text + index.num_item_tokens(items)), note


def _fitting_mesh(mesh: MeshConfig, topology: Topology) -> tuple[MeshConfig, str]:
    """Returns the mesh, or the nearest one that uses all devices of the topology, and a note."""
    if topology.chip is None:
        return mesh, ""
    devices = topology.devices
    replicas = mesh.replica
    if replicas % topology.slices:
        replicas = topology.slices
    others = replicas * mesh.fsdp * mesh.tensor
    is_exact = devices % others == 0 and mesh.data in (-1, devices // others)
    if is_exact and replicas == mesh.replica:
        return mesh, ""
    tensor = mesh.tensor if devices % (replicas * mesh.tensor) == 0 else 1
    left = devices // (replicas * tensor)
    fsdp = max(part for part in range(1, min(mesh.fsdp, left) + 1) if left % part == 0)
    if mesh.fsdp > 1 and mesh.data == 1:
        fsdp = left
    fitted = MeshConfig(replicas, -1, fsdp, tensor)
    note = (
        f"the mesh does not fit the devices; using replica {replicas} x "
        f"data {left // fsdp} x fsdp {fsdp} x tensor {tensor}"
    )
    return fitted, note


def make_plan(
    inputs: PlanInputs,
    *,
    programs: tuple[str, ...] = ("train", "score", "decode"),
    fill: float = FILL,
    price: float = 0.0,
    effort: float = FAST_EFFORT,
    report: Report | None = None,
) -> RunPlan:
    """Compiles a run, and finds the smallest change that makes it fit if it does not.

    Args:
        inputs: The run.
        programs: Names of the programs to compile.
        fill: Share of token positions that are not padding.
        price: Dollars per chip-hour.
        effort: Of the compiler.
        report: Called with a line for each step of the work.

    Raises:
        InputError: See `compile_job`.
    """
    job = CompileJob(inputs.experiment, inputs.topology, inputs.items, programs, effort)
    result = compile_with_recheck(job, report)
    train = next((program for program in result.programs if program.program == "train"), None)
    cost = None
    if train is not None and not train.refused:
        cost = train_cost(inputs.experiment, inputs.topology, result, train, fill=fill, price=price)
    plan = RunPlan(inputs, result, cost)
    if plan.fits:
        return plan
    failing = [program for program in result.programs if not program.fits]
    return plan._replace(change=smallest_change(inputs, failing, report))


def smallest_change(
    inputs: PlanInputs, failing: list[CompiledProgram], report: Report | None = None
) -> Change | None:
    """Finds the first of `changes` with which the failing programs fit.

    An estimate excludes hopeless changes; the compiler decides about the others.

    Args:
        inputs: The run that does not fit.
        failing: Its programs that do not fit.
        report: Called with a line for each change that is tried.
    """
    names = tuple(program.program for program in failing)
    for change in changes(inputs, names):
        if "train" in names and is_hopeless(change):
            continue
        if report:
            report(f"trying {change.flags}")
        job = CompileJob(change.experiment, change.topology, inputs.items, names, FAST_EFFORT)
        try:
            result = compile_with_recheck(job, report)
        except CompilerCrash as crash:
            if report:
                report(crash.problem)
            continue
        if all(program.fits for program in result.programs):
            return change
    return None


def is_hopeless(change: Change) -> bool:
    """Whether the estimated memory is too far above the limit to try the compiler."""
    chip = change.topology.chip
    if chip is None:
        return False
    sizes = mesh_sizes(change.experiment.mesh, change.topology.devices)
    return estimate_memory(change.experiment, sizes).total > HOPELESS_FACTOR * chip.usable


def changes(inputs: PlanInputs, names: tuple[str, ...]) -> Iterator[Change]:
    """Yields changes that could make a run fit, smallest first.

    More rematerialization (`dots`, `full`), more gradient accumulation, smaller batches of
    requests, weights sharded over more devices, larger slices.

    Args:
        inputs: The run that does not fit.
        names: Its programs that do not fit.
    """
    experiment, topology = inputs.experiment, inputs.topology
    if "train" not in names:
        yield from _fewer_requests(experiment, topology)
        return
    yield from _same_mesh_changes(experiment, topology, "")
    sharded = _fully_sharded(experiment.mesh, topology)
    if sharded != experiment.mesh:
        flags = f"--mesh.data {sharded.data} --mesh.fsdp {sharded.fsdp}"
        changed = dataclasses.replace(experiment, mesh=sharded)
        yield Change(flags, changed, topology)
        yield from _same_mesh_changes(changed, topology, flags)
    for larger in topology.larger():
        mesh, _ = _fitting_mesh(experiment.mesh, larger)
        if mesh.fsdp == experiment.mesh.fsdp:
            mesh = _fully_sharded(experiment.mesh, larger)
        changed = dataclasses.replace(experiment, mesh=mesh)
        flags = f"--topology {larger} --mesh.data {mesh.data} --mesh.fsdp {mesh.fsdp}"
        if _batch_divides(changed, larger):
            yield Change(flags, changed, larger)
        yield from _same_mesh_changes(changed, larger, flags)


def _same_mesh_changes(experiment: Experiment, topology: Topology, prefix: str) -> Iterator[Change]:
    """Yields changes that keep devices and mesh, behind the flags in `prefix`."""
    order = ("none", "dots", "full")
    for remat in order[order.index(experiment.model.remat) + 1 :]:
        model = dataclasses.replace(experiment.model, remat=remat)
        changed = dataclasses.replace(experiment, model=model)
        if _batch_divides(changed, topology):
            yield Change(f"{prefix} --model.remat {remat}".strip(), changed, topology)
    model = dataclasses.replace(experiment.model, remat="full")
    remat = "" if experiment.model.remat == "full" else " --model.remat full"
    for doublings in itertools.count(1):
        parts = experiment.train.accumulate * 2**doublings
        train = dataclasses.replace(experiment.train, accumulate=parts)
        changed = dataclasses.replace(experiment, model=model, train=train)
        if parts > MAX_ACCUMULATE or not _batch_divides(changed, topology):
            return
        flags = f"{prefix}{remat} --train.accumulate {parts}"
        yield Change(flags.strip(), changed, topology)


def _fewer_requests(experiment: Experiment, topology: Topology) -> Iterator[Change]:
    requests = experiment.decode.batch
    while requests > 1:
        requests //= 2
        decode = dataclasses.replace(experiment.decode, batch=requests)
        changed = dataclasses.replace(experiment, decode=decode)
        yield Change(f"--decode.batch {requests}", changed, topology)


def _fully_sharded(mesh: MeshConfig, topology: Topology) -> MeshConfig:
    """Returns the mesh that shards the weights over all devices of a slice."""
    if topology.chip is None:
        return mesh
    replicas = max(mesh.replica, topology.slices)
    return MeshConfig(replicas, 1, topology.devices // (replicas * mesh.tensor), mesh.tensor)


def _batch_divides(experiment: Experiment, topology: Topology) -> bool:
    """Whether the devices divide the batch into equal parts."""
    if topology.chip is None:
        return True
    sizes = mesh_sizes(experiment.mesh, topology.devices)
    parts = experiment.train.accumulate
    for axis in BATCH_AXES:
        parts *= sizes[axis]
    return experiment.train.batch_size % parts == 0


def mesh_sizes(mesh: MeshConfig, devices: int) -> dict[str, int]:
    """Returns the devices along each axis, in the mesh's order."""
    data = mesh.data if mesh.data > 0 else devices // (mesh.replica * mesh.fsdp * mesh.tensor)
    return {"replica": mesh.replica, "data": data, "fsdp": mesh.fsdp, "tensor": mesh.tensor}
