"""Search over meshes, batch sizes and remat policies for the same devices."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment
from irec_jax.planning.compiled import (
    FAST_EFFORT,
    CompiledProgram,
    CompileJob,
    CompilerCrash,
    compile_with_recheck,
)
from irec_jax.planning.cost import FILL, RunCost, train_cost
from irec_jax.planning.estimate import estimate_memory, estimate_step_time, row_flops
from irec_jax.planning.run_plan import PlanInputs, mesh_sizes
from irec_jax.planning.topology import Chip
from irec_jax.training.sharding import MeshConfig

BATCH_FACTORS = (0.5, 1.0, 2.0, 4.0)
REMATS = ("none", "dots", "full")
TENSORS = (1, 2, 4, 8)
MAX_RESULTS = 10


class SearchResult(NamedTuple):
    """A mesh, batch size and remat policy, compiled.

    Attributes:
        experiment: With these settings.
        compiled: Its training step.
        cost: Of the step and of the run.
    """

    experiment: Experiment
    compiled: CompiledProgram
    cost: RunCost

    @property
    def tokens_per_s(self) -> float:
        """Real tokens per second if nothing overlaps; the ranking uses it.

        If arithmetic is the longest part, candidates differ only in the other parts, which the
        bound with full overlap does not show.
        """
        return self.cost.tokens / self.cost.serial_s


def candidates(experiment: Experiment, devices: int) -> Iterator[Experiment]:
    """Yields all meshes of the devices with some batch sizes, without gradient accumulation.

    Args:
        experiment: The run; its `replica` stays.
        devices: Number of devices.
    """
    model, replica = experiment.model, experiment.mesh.replica
    slice_devices = devices // replica
    sizes = {max(1, round(factor * experiment.train.batch_size)) for factor in BATCH_FACTORS}
    for tensor in TENSORS:
        if slice_devices % tensor or model.heads % tensor or model.vocabulary % tensor:
            continue
        left = slice_devices // tensor
        for fsdp in (part for part in range(1, left + 1) if left % part == 0):
            mesh = MeshConfig(replica, left // fsdp, fsdp, tensor)
            for batch in sorted(sizes):
                if batch % (replica * left):
                    continue
                train = dataclasses.replace(experiment.train, batch_size=batch, accumulate=1)
                for remat in REMATS:
                    yield dataclasses.replace(
                        experiment,
                        mesh=mesh,
                        train=train,
                        model=dataclasses.replace(model, remat=remat),
                    )


def rank_candidates(experiment: Experiment, devices: int, chip: Chip) -> list[Experiment]:
    """Returns the candidates that fit by the estimate, the fastest by the estimate first."""

    def speed(candidate: Experiment) -> float:
        sizes = mesh_sizes(candidate.mesh, devices)
        return row_flops(candidate) / estimate_step_time(candidate, sizes, chip)

    fitting = [
        candidate
        for candidate in candidates(experiment, devices)
        if estimate_memory(candidate, mesh_sizes(candidate.mesh, devices)).total <= chip.usable
    ]
    return sorted(fitting, key=speed, reverse=True)


def search(
    inputs: PlanInputs,
    *,
    tries: int = 16,
    fill: float = FILL,
    price: float = 0.0,
    report: Callable[[str], None] | None = None,
) -> list[SearchResult]:
    """Compiles the most promising candidates and returns the best that fit, best first.

    Args:
        inputs: The run.
        tries: Maximum number of candidates to compile.
        fill: Share of token positions that are not padding.
        price: Dollars per chip-hour.
        report: Called with a line for each candidate.

    Raises:
        InputError: The topology has no datasheet, or no candidate fits by the estimate.
    """
    topology = inputs.topology
    if topology.chip is None:
        hint = "Set --topology to a TPU slice, such as v5e:8x8."
        raise InputError("a search needs the datasheet of a TPU", where="topology", hint=hint)
    ranked = rank_candidates(inputs.experiment, topology.devices, topology.chip)
    if not ranked:
        hint = "Use a larger topology or a smaller batch size."
        raise InputError("no mesh, batch size or remat policy fits", where="topology", hint=hint)
    results: list[SearchResult] = []
    for number, candidate in enumerate(ranked[:tries], 1):
        if report:
            report(f"{number} of {min(tries, len(ranked))}: {describe(candidate)}")
        try:
            job = CompileJob(candidate, topology, inputs.items, ("train",), FAST_EFFORT)
            result = compile_with_recheck(job)
        except CompilerCrash as crash:
            if report:
                report(crash.problem)
            continue
        step = result.programs[0]
        if step.fits:
            cost = train_cost(candidate, topology, result, step, fill=fill, price=price)
            results.append(SearchResult(candidate, step, cost))
    return rank_results(results)[:MAX_RESULTS]


def rank_results(results: list[SearchResult]) -> list[SearchResult]:
    """Sorts results by speed, and equally fast ones by memory."""
    return sorted(results, key=lambda result: (-result.tokens_per_s, result.compiled.memory.total))


def describe(experiment: Experiment) -> str:
    """Formats mesh, batch size and remat policy in one line."""
    mesh = experiment.mesh
    shape = f"replica {mesh.replica} " if mesh.replica > 1 else ""
    shape += f"data {mesh.data} fsdp {mesh.fsdp} tensor {mesh.tensor}"
    return f"{shape}, {experiment.train.batch_size} rows, remat {experiment.model.remat}"
