"""A run on devices that are not here: does it fit, and which small change makes it fit."""

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
    FAST,
    Compiled,
    CompileJob,
    CompilerCrash,
    CompileResult,
    compile_closely,
)
from irec_jax.planning.cost import FILL, RunCost, train_cost
from irec_jax.planning.estimate import held
from irec_jax.planning.topology import Topology
from irec_jax.tokens.item_index import padded_vocabulary
from irec_jax.tokens.text import open_codec
from irec_jax.training.sharding import BATCH_AXES, MeshConfig

Tell = Callable[[str], None]

ASSUMED_ITEMS = 100_000
"""A catalog's size where neither the experiment nor the caller says it."""

DOUBT = 1.4
"""A change is not worth compiling if the formula says so many times the memory that there is."""

MOST_PARTS = 64


class PlanInputs(NamedTuple):
    """What is planned.

    Attributes:
        experiment: With a vocabulary, and a mesh that uses the topology's devices exactly.
        topology: The devices.
        items: Size of the catalog.
        notes: What was assumed on the way.
    """

    experiment: Experiment
    topology: Topology
    items: int
    notes: tuple[str, ...] = ()


class Change(NamedTuple):
    """A change of an experiment or of its devices.

    Attributes:
        words: As the command line would be told.
        experiment: After it.
        topology: After it.
    """

    words: str
    experiment: Experiment
    topology: Topology


class RunPlan(NamedTuple):
    """What is known of a run before it is paid for.

    Attributes:
        subject: What was planned.
        answer: What the compiler said.
        cost: Of the training step; None where it was not compiled or was refused.
        change: The smallest change that makes it fit; None where it fits or none was found.
    """

    subject: PlanInputs
    answer: CompileResult
    cost: RunCost | None
    change: Change | None = None

    @property
    def fits(self) -> bool:
        """Whether every program does."""
        return all(program.fits for program in self.answer.programs)


def make_subject(
    experiment: Experiment, topology: Topology, *, vocabulary: int = 0, items: int = 0
) -> PlanInputs:
    """Settles what a plan needs and an experiment leaves open: vocabulary, catalog, mesh.

    The log itself is never read: of a prepared one the manifest, at most.

    Args:
        experiment: As its file and the command line give it.
        topology: The devices.
        vocabulary: Rows of the embedding; 0 estimates them.
        items: Size of the catalog; 0 finds it out or assumes one.

    Raises:
        InputError: The vocabulary cannot be estimated.
    """
    notes: list[str] = []
    known = items or _catalog_size(experiment)
    if not known:
        notes.append(f"a catalog of {ASSUMED_ITEMS:,} items is assumed; --items says how many")
    if not vocabulary:
        vocabulary, note = _vocabulary(experiment, known)
        notes += [note] if note else []
    mesh, note = _fitting_mesh(experiment.mesh, topology)
    notes += [note] if note else []
    model = dataclasses.replace(experiment.model, vocabulary=vocabulary)
    settled = dataclasses.replace(experiment, model=model, mesh=mesh)
    return PlanInputs(settled, topology, known or ASSUMED_ITEMS, tuple(notes))


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
    """Rows of the embedding: of text, and of item tokens."""
    tokens = experiment.tokens
    note = ""
    if tokens.tokenizer == "trained":
        text = tokens.vocabulary
    elif Path(tokens.tokenizer).exists():
        text = open_codec(tokens.tokenizer).size
    else:
        text = experiment.model.vocabulary
        note = f"{tokens.tokenizer} is not here: a vocabulary of {text:,} is taken from the model"
    index = tokens.item_index()
    if not items and index.num_item_tokens(1) > index.num_item_tokens(0):
        hint = "Give --vocabulary, or --items: each item has tokens of its own."
        raise InputError("the log is not here", where=f"data.log {experiment.data.log}", hint=hint)
    return padded_vocabulary(text + index.num_item_tokens(items)), note


def _fitting_mesh(mesh: MeshConfig, topology: Topology) -> tuple[MeshConfig, str]:
    """The mesh, or the nearest that uses the devices of the topology."""
    if topology.chip is None:
        return mesh, ""
    devices = topology.devices
    copies = mesh.replica
    if copies % topology.slices:
        copies = topology.slices
    rest = copies * mesh.fsdp * mesh.tensor
    exact = devices % rest == 0 and mesh.data in (-1, devices // rest)
    if exact and copies == mesh.replica:
        return mesh, ""
    tensor = mesh.tensor if devices % (copies * mesh.tensor) == 0 else 1
    left = devices // (copies * tensor)
    fsdp = max(part for part in range(1, min(mesh.fsdp, left) + 1) if left % part == 0)
    if mesh.fsdp > 1 and mesh.data == 1:
        fsdp = left
    made = MeshConfig(copies, -1, fsdp, tensor)
    note = (
        f"the mesh is for another number of devices; taken: replica {copies} x "
        f"data {left // fsdp} x fsdp {fsdp} x tensor {tensor}"
    )
    return made, note


def make_plan(
    subject: PlanInputs,
    *,
    programs: tuple[str, ...] = ("train", "score", "decode"),
    fill: float = FILL,
    price: float = 0.0,
    effort: float = FAST,
    tell: Tell | None = None,
) -> RunPlan:
    """Compiles a run; where it does not fit, looks for the smallest change that makes it fit.

    Args:
        subject: What to plan.
        programs: Which of its programs.
        fill: Share of the slots of packed rows that hold real tokens.
        price: Dollars for an hour of one chip.
        effort: How much work the compiler takes.
        tell: Is told what is going on.

    Raises:
        InputError: See `compile_job`.
    """
    job = CompileJob(subject.experiment, subject.topology, subject.items, programs, effort)
    answer = compile_closely(job, tell)
    train = next((program for program in answer.programs if program.program == "train"), None)
    cost = None
    if train is not None and not train.refused:
        cost = train_cost(
            subject.experiment, subject.topology, answer, train, fill=fill, price=price
        )
    plan = RunPlan(subject, answer, cost)
    if plan.fits:
        return plan
    failing = [program for program in answer.programs if not program.fits]
    return plan._replace(change=smallest_change(subject, failing, tell))


def smallest_change(
    subject: PlanInputs, failing: "list[Compiled]", tell: Tell | None = None
) -> Change | None:
    """The first of `changes` with which the programs that did not fit do.

    Formulas leave out what is hopeless; the compiler decides about the rest.

    Args:
        subject: What does not fit.
        failing: Which of its programs.
        tell: Is told of each change that is tried.
    """
    names = tuple(program.program for program in failing)
    for change in changes(subject, names):
        if "train" in names and is_hopeless(change):
            continue
        if tell:
            tell(f"tries {change.words}")
        job = CompileJob(change.experiment, change.topology, subject.items, names, FAST)
        try:
            answer = compile_closely(job, tell)
        except CompilerCrash as crash:
            if tell:
                tell(crash.problem)
            continue
        if all(program.fits for program in answer.programs):
            return change
    return None


def is_hopeless(change: Change) -> bool:
    """Whether the formula is so far above the memory that compiling is not worth it."""
    chip = change.topology.chip
    if chip is None:
        return False
    sizes = mesh_sizes(change.experiment.mesh, change.topology.devices)
    return held(change.experiment, sizes).total > DOUBT * chip.usable


def changes(subject: PlanInputs, names: tuple[str, ...]) -> Iterator[Change]:
    """What could make a run fit, smallest first.

    Less is remembered (`dots`, `full`), the batch is computed in more parts, fewer requests are
    answered together, the weights are cut into more parts, larger slices are taken.

    Args:
        subject: What does not fit.
        names: The programs that do not.
    """
    experiment, topology = subject.experiment, subject.topology
    if "train" not in names:
        yield from _fewer_requests(experiment, topology)
        return
    yield from _within(experiment, topology, "")
    cut = _more_cut(experiment.mesh, topology)
    if cut != experiment.mesh:
        words = f"--mesh.data {cut.data} --mesh.fsdp {cut.fsdp}"
        there = dataclasses.replace(experiment, mesh=cut)
        yield Change(words, there, topology)
        yield from _within(there, topology, words)
    for larger in topology.larger():
        mesh, _ = _fitting_mesh(experiment.mesh, larger)
        if mesh.fsdp == experiment.mesh.fsdp:
            mesh = _more_cut(experiment.mesh, larger)
        there = dataclasses.replace(experiment, mesh=mesh)
        words = f"--topology {larger} --mesh.data {mesh.data} --mesh.fsdp {mesh.fsdp}"
        if _divides(there, larger):
            yield Change(words, there, larger)
        yield from _within(there, larger, words)


def _within(experiment: Experiment, topology: Topology, before: str) -> Iterator[Change]:
    """Changes that keep the devices and the mesh."""
    order = ("none", "dots", "full")
    for remat in order[order.index(experiment.model.remat) + 1 :]:
        model = dataclasses.replace(experiment.model, remat=remat)
        changed = dataclasses.replace(experiment, model=model)
        if _divides(changed, topology):
            yield Change(f"{before} --model.remat {remat}".strip(), changed, topology)
    model = dataclasses.replace(experiment.model, remat="full")
    remat = "" if experiment.model.remat == "full" else " --model.remat full"
    for doubled in itertools.count(1):
        parts = experiment.train.accumulate * 2**doubled
        train = dataclasses.replace(experiment.train, accumulate=parts)
        changed = dataclasses.replace(experiment, model=model, train=train)
        if parts > MOST_PARTS or not _divides(changed, topology):
            return
        words = f"{before}{remat} --train.accumulate {parts}"
        yield Change(words.strip(), changed, topology)


def _fewer_requests(experiment: Experiment, topology: Topology) -> Iterator[Change]:
    requests = experiment.decode.batch
    while requests > 1:
        requests //= 2
        decode = dataclasses.replace(experiment.decode, batch=requests)
        changed = dataclasses.replace(experiment, decode=decode)
        yield Change(f"--decode.batch {requests}", changed, topology)


def _more_cut(mesh: MeshConfig, topology: Topology) -> MeshConfig:
    """All devices of a slice cut the weights."""
    if topology.chip is None:
        return mesh
    copies = max(mesh.replica, topology.slices)
    return MeshConfig(copies, 1, topology.devices // (copies * mesh.tensor), mesh.tensor)


def _divides(experiment: Experiment, topology: Topology) -> bool:
    """Whether the devices cut the batch into equal parts."""
    if topology.chip is None:
        return True
    sizes = mesh_sizes(experiment.mesh, topology.devices)
    parts = experiment.train.accumulate
    for axis in BATCH_AXES:
        parts *= sizes[axis]
    return experiment.train.batch_size % parts == 0


def mesh_sizes(mesh: MeshConfig, devices: int) -> dict[str, int]:
    """Devices along each axis, in the mesh's order."""
    data = mesh.data if mesh.data > 0 else devices // (mesh.replica * mesh.fsdp * mesh.tensor)
    return {"replica": mesh.replica, "data": data, "fsdp": mesh.fsdp, "tensor": mesh.tensor}
