"""Other meshes, batch sizes and remat policies for the same devices, the best of them compiled."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment
from irec_jax.planning.compiled import FAST, Compiled, CompileJob, CompilerCrash, compile_closely
from irec_jax.planning.cost import FILL, RunCost, train_cost
from irec_jax.planning.estimate import held, row_flops, seconds
from irec_jax.planning.run_plan import PlanInputs, mesh_sizes
from irec_jax.planning.topology import Chip
from irec_jax.training.sharding import MeshConfig

BATCHES = (0.5, 1.0, 2.0, 4.0)
REMATS = ("none", "dots", "full")
TENSORS = (1, 2, 4, 8)
SHOWN = 10


class SearchResult(NamedTuple):
    """One way to lay a run out.

    Attributes:
        experiment: With that mesh, batch size and policy.
        compiled: Its step.
        cost: Of the step and of the run.
    """

    experiment: Experiment
    compiled: Compiled
    cost: RunCost

    @property
    def tokens_per_s(self) -> float:
        """Real tokens a second if nothing overlaps, which is what the ranking goes by.

        Where arithmetic is the longest part, all that differs is what else there is to do, and
        no bound shows that.
        """
        return self.cost.tokens / self.cost.serial_s


def candidates(experiment: Experiment, devices: int) -> Iterator[Experiment]:
    """All meshes of so many devices with a few batch sizes, each computed in one part.

    Args:
        experiment: The run; its `replica` stays.
        devices: How many.
    """
    model, own = experiment.model, experiment.mesh
    inside = devices // own.replica
    sizes = {max(1, round(factor * experiment.train.batch_size)) for factor in BATCHES}
    for tensor in TENSORS:
        if inside % tensor or model.heads % tensor or model.vocabulary % tensor:
            continue
        left = inside // tensor
        for fsdp in (part for part in range(1, left + 1) if left % part == 0):
            mesh = MeshConfig(own.replica, left // fsdp, fsdp, tensor)
            for batch in sorted(sizes):
                if batch % (own.replica * left):
                    continue
                train = dataclasses.replace(experiment.train, batch_size=batch, accumulate=1)
                for remat in REMATS:
                    yield dataclasses.replace(
                        experiment,
                        mesh=mesh,
                        train=train,
                        model=dataclasses.replace(model, remat=remat),
                    )


def promising(experiment: Experiment, devices: int, chip: Chip) -> list[Experiment]:
    """The candidates that may fit by the formula, the fastest by the formula first."""

    def speed(candidate: Experiment) -> float:
        return row_flops(candidate) / seconds(candidate, mesh_sizes(candidate.mesh, devices), chip)

    fitting = [
        candidate
        for candidate in candidates(experiment, devices)
        if held(candidate, mesh_sizes(candidate.mesh, devices)).total <= chip.usable
    ]
    return sorted(fitting, key=speed, reverse=True)


def search(
    subject: PlanInputs,
    *,
    tries: int = 16,
    fill: float = FILL,
    price: float = 0.0,
    tell: Callable[[str], None] | None = None,
) -> list[SearchResult]:
    """Compiles the most promising ways and returns the best that fit, best first.

    Args:
        subject: The run.
        tries: How many to compile, at most.
        fill: Share of the slots of packed rows that hold real tokens.
        price: Dollars for an hour of one chip.
        tell: Is told of each that is compiled.

    Raises:
        InputError: There is no datasheet, or no way fits even by the formula.
    """
    topology = subject.topology
    if topology.chip is None:
        hint = "Name a topology, such as v5e:8x8."
        raise InputError("a search needs a datasheet", where="topology", hint=hint)
    ways = promising(subject.experiment, topology.devices, topology.chip)
    if not ways:
        hint = "Take a larger topology or a smaller batch."
        raise InputError("no mesh, batch or remat policy fits", where="topology", hint=hint)
    found: list[SearchResult] = []
    for number, way in enumerate(ways[:tries], 1):
        if tell:
            tell(f"{number} of {min(tries, len(ways))}: {describe(way)}")
        try:
            answer = compile_closely(CompileJob(way, topology, subject.items, ("train",), FAST))
        except CompilerCrash as crash:
            if tell:
                tell(crash.problem)
            continue
        step = answer.programs[0]
        if step.fits:
            cost = train_cost(way, topology, answer, step, fill=fill, price=price)
            found.append(SearchResult(way, step, cost))
    return ranked(found)[:SHOWN]


def ranked(found: list[SearchResult]) -> list[SearchResult]:
    """Best first; of equally fast ones, that which takes less memory."""
    return sorted(found, key=lambda way: (-way.tokens_per_s, way.compiled.memory.total))


def describe(experiment: Experiment) -> str:
    """Mesh, batch size and policy in a line."""
    mesh = experiment.mesh
    shape = f"replica {mesh.replica} " if mesh.replica > 1 else ""
    shape += f"data {mesh.data} fsdp {mesh.fsdp} tensor {mesh.tensor}"
    return f"{shape}, {experiment.train.batch_size} rows, remat {experiment.model.remat}"
