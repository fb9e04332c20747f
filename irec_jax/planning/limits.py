"""Runs that cannot fit, refused by formulas before anything is allocated or compiled."""

import dataclasses

import jax
from jax.sharding import Mesh

from irec_jax.batches.pipeline import BATCHES_AHEAD
from irec_jax.bounds import check_memory, machine_memory
from irec_jax.experiment.config import Experiment
from irec_jax.planning.estimate import StepMemory, estimate_memory
from irec_jax.planning.run_plan import HOPELESS_FACTOR, MAX_ACCUMULATE, PlanInputs
from irec_jax.training.sharding import AXES

MODEL_KEYS = "model.width, model.mlp_dim, model.encoder_layers, model.decoder_layers"
SMALLER = "Lower them, set model.remat to 'full', or raise train.accumulate or mesh.fsdp."
BATCH_KEYS = "train.batch_size, tokens.source_length, tokens.target_length"


def check_run_fits(experiment: Experiment, mesh: Mesh) -> None:
    """Refuses a run that needs more memory than the devices and this machine have.

    Only what is certain is refused: the formula is taken as `HOPELESS_FACTOR` times too high.

    Args:
        experiment: With its vocabulary resolved.
        mesh: The devices.

    Raises:
        InputError: There is not enough memory; the keys that decide are named.
    """
    rows, tokens = experiment.train.batch_size, experiment.tokens
    # Ids and segments, int32, of the batches that wait and the one that is made.
    waiting = rows * 2 * 4 * (tokens.source_length + tokens.target_length) * (BATCHES_AHEAD + 1)
    if not experiment.train.packed:
        hint = "Lower them, or read packed rows: train.packed."
        what = f"reading batches of {rows:,} rows ahead"
        check_memory(waiting, machine_memory(), what, BATCH_KEYS, hint)
    stats = jax.local_devices()[0].memory_stats() or {}
    shared = machine_memory() // jax.local_device_count()
    sizes = {axis: mesh.shape[axis] for axis in AXES}
    memory = stats.get("bytes_limit", shared)
    _check(estimate_memory(experiment, sizes), memory, "each device", SMALLER)


def check_plan_can_fit(inputs: PlanInputs) -> None:
    """Refuses a plan that no change of those that are tried would make fit.

    Args:
        inputs: What is to be planned.

    Raises:
        InputError: All devices of the largest slices together have too little memory.
    """
    model = dataclasses.replace(inputs.experiment.model, remat="full")
    train = dataclasses.replace(inputs.experiment.train, accumulate=MAX_ACCUMULATE)
    smallest = dataclasses.replace(inputs.experiment, model=model, train=train)
    topology = inputs.topology
    if topology.chip is None:
        devices, memory, where = 1, machine_memory(), "this machine"
    else:
        largest = max([topology, *topology.larger()], key=lambda slices: slices.devices)
        devices, memory, where = largest.devices, topology.chip.usable, f"each device of {largest}"
    least = StepMemory(
        *(part // devices for part in estimate_memory(smallest, dict.fromkeys(AXES, 1)))
    )
    _check(least, memory, where, "Lower them.")


def _check(need: StepMemory, memory: int, where: str, hint: str) -> None:
    by_batch = need.activations + need.logits
    decides_batch = by_batch > need.total - by_batch
    check_memory(
        need.total / HOPELESS_FACTOR,
        memory,
        f"a training step on {where}",
        BATCH_KEYS if decides_batch else MODEL_KEYS,
        hint,
    )
