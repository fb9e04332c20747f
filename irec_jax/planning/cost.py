"""Bounds of FLOPs, bytes, time and dollars of a run, from the datasheet."""

import math
from typing import NamedTuple

from irec_jax.experiment.config import Experiment
from irec_jax.planning.compiled import CompiledProgram, CompileResult
from irec_jax.planning.estimate import hardware_flops, row_flops, weight_bytes
from irec_jax.planning.topology import Topology

FILL = 0.95
"""Default fill: the share of token positions of packed rows that are not padding."""

RENDERED_TOKENS = 680_000
"""Real tokens a second that one process renders and packs in a thread beside its steps, on two
cores of a server: docs/decisions/0152-every-process-makes-all-rows.md."""


class RunCost(NamedTuple):
    """Cost of a training step and of the whole run. A step takes at least `bound_s`.

    Attributes:
        model_flops: FLOPs of the step's real tokens, forward and backward, on all devices.
        hardware_flops: FLOPs with padding and rematerialization, on all devices.
        compute_s: Seconds of arithmetic at the peak.
        hbm_s: Seconds of memory traffic at the memory's bandwidth.
        ici_s: Seconds of collectives within a slice.
        dcn_s: Seconds of collectives between slices.
        tokens: Real tokens of a step, inputs and targets.
        rows: Packed rows of a step.
        steps: Number of steps of the run.
        devices: Number of JAX devices.
        chips: Number of chips that are paid for.
        peak: Peak FLOP/s of all devices.
        price: Dollars per chip-hour; 0.0 if none was given.
    """

    model_flops: float
    hardware_flops: float
    compute_s: float
    hbm_s: float
    ici_s: float
    dcn_s: float
    tokens: float
    rows: int
    steps: int
    devices: int
    chips: int
    peak: float
    price: float = 0.0

    @property
    def bound_s(self) -> float:
        """Seconds of a step if the four parts overlap fully: no run is faster."""
        return max(self.compute_s, self.hbm_s, self.ici_s, self.dcn_s)

    @property
    def serial_s(self) -> float:
        """Seconds of a step if the four parts run one after the other."""
        return self.compute_s + self.hbm_s + self.ici_s + self.dcn_s

    @property
    def limit(self) -> str:
        """Name of the longest of the four parts."""
        names = ("compute", "HBM", "ICI", "DCN")
        times = (self.compute_s, self.hbm_s, self.ici_s, self.dcn_s)
        return names[times.index(max(times))]

    @property
    def needed_rows(self) -> float:
        """Rows a second that the devices take at `bound_s` a step."""
        return self.rows / self.bound_s

    @property
    def rendered_rows(self) -> float:
        """Rows a second that every process renders; more processes do not render more."""
        return RENDERED_TOKENS * self.rows / self.tokens

    @property
    def mfu_bound(self) -> float:
        """Upper bound of the model FLOPs utilization (MFU)."""
        return self.model_flops / (self.bound_s * self.peak)

    @property
    def hours(self) -> tuple[float, float]:
        """Hours of the run, at `bound_s` and at `serial_s` per step."""
        return self.steps * self.bound_s / 3600, self.steps * self.serial_s / 3600

    @property
    def dollars(self) -> tuple[float, float]:
        """Dollars for the chips, for both of `hours`."""
        low, high = self.hours
        return low * self.chips * self.price, high * self.chips * self.price


def train_cost(
    experiment: Experiment,
    topology: Topology,
    result: CompileResult,
    train: CompiledProgram,
    *,
    fill: float = FILL,
    price: float = 0.0,
) -> RunCost:
    """Computes the cost of a step and of the run.

    Args:
        experiment: The run.
        topology: The devices.
        result: Of the compiler, for these devices.
        train: The compiled training step.
        fill: Share of token positions that are not padding.
        price: Dollars per chip-hour.
    """
    chip = topology.chip
    peak = result.peak if chip is None else chip.peak / chip.devices
    hardware = hardware_flops(experiment)
    hbm_s = ici_s = dcn_s = 0.0
    if chip is not None:
        hbm_s = min_hbm_bytes(experiment, result, train) / (chip.hbm_bandwidth / chip.devices)
        ici_s = math.fsum(
            traffic.ici_bytes / (traffic.links * chip.ici_link / chip.devices)
            for traffic in train.traffic
            if traffic.links
        )
        dcn_bytes = math.fsum(traffic.dcn_bytes for traffic in train.traffic if traffic.slices > 1)
        dcn_s = dcn_bytes / (chip.dcn / chip.devices)
    positions = experiment.tokens.source_length + experiment.tokens.target_length
    return RunCost(
        model_flops=row_flops(experiment, fill),
        hardware_flops=hardware,
        compute_s=hardware / (peak * result.devices),
        hbm_s=hbm_s,
        ici_s=ici_s,
        dcn_s=dcn_s,
        tokens=fill * experiment.train.batch_size * positions,
        rows=experiment.train.batch_size,
        steps=experiment.train.steps,
        devices=result.devices,
        chips=topology.chips or result.devices,
        peak=peak * result.devices,
        price=price,
    )


def min_hbm_bytes(experiment: Experiment, result: CompileResult, train: CompiledProgram) -> float:
    """Computes a lower bound of the bytes that a step moves through one device's memory.

    State, gradients and temporaries are read and written; frozen weights are read; the weights of
    every layer, in the compute dtype and gathered over `fsdp`, are read by each pass over each
    part of the batch.
    """
    model, memory = experiment.model, train.memory
    size = 2 if model.compute == "bfloat16" else 4
    all_weights = trained = memory.parameters
    if experiment.lora.rank:
        weights = weight_bytes(experiment, result.mesh)
        all_weights, trained = weights.model, weights.trained
    frozen = memory.parameters - trained
    gathered = all_weights * result.mesh["fsdp"] / 4 * size
    passes = experiment.train.accumulate * (3 if model.remat == "full" else 2)
    state = 2 * (trained + memory.optimizer) + 2 * trained + frozen
    return state + 2 * memory.temporary + passes * gathered
