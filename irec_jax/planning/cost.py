"""Operations, bytes and dollars of a run, as bounds from the datasheet."""

import math
from typing import NamedTuple

from irec_jax.experiment.config import Experiment
from irec_jax.planning.compiled import Compiled, CompileResult
from irec_jax.planning.estimate import hardware_flops, row_flops, weight_bytes
from irec_jax.planning.topology import Topology

FILL = 0.95
"""Share of the slots of packed rows that hold real tokens; what packing reaches here."""

RENDERED_TOKENS = 680_000
"""Real tokens a second that one process renders and packs in a thread beside its steps, on two
cores of a server: docs/decisions/0152-every-process-makes-all-rows.md."""


class RunCost(NamedTuple):
    """A training step and the whole run. A step takes at least `bound_s`.

    Attributes:
        model_flops: Operations of the step's real tokens, forward and backward, on all devices.
        hardware_flops: The same with padding and with what is computed twice.
        compute_s: Arithmetic alone, at the peak.
        hbm_s: What must go through the memory, at its bandwidth.
        ici_s: What is exchanged within a slice.
        dcn_s: What is exchanged between slices.
        tokens: Real tokens of a step, both sides.
        rows: Packed rows of a step.
        steps: Of the run.
        devices: JAX devices.
        chips: Chips that are paid for.
        peak: Operations per second of all devices.
        price: Dollars for an hour of one chip; 0.0 where none was given.
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
        """The step if all four go on at once and nothing else takes time: no run is faster."""
        return max(self.compute_s, self.hbm_s, self.ici_s, self.dcn_s)

    @property
    def serial_s(self) -> float:
        """The step if the four wait for each other."""
        return self.compute_s + self.hbm_s + self.ici_s + self.dcn_s

    @property
    def limit(self) -> str:
        """Which of the four is the longest."""
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
        """The most of the peak that can go into the step's real tokens."""
        return self.model_flops / (self.bound_s * self.peak)

    @property
    def hours(self) -> tuple[float, float]:
        """Of the whole run, at `bound_s` and at `serial_s` a step."""
        return self.steps * self.bound_s / 3600, self.steps * self.serial_s / 3600

    @property
    def dollars(self) -> tuple[float, float]:
        """For the chips, for both of `hours`."""
        low, high = self.hours
        return low * self.chips * self.price, high * self.chips * self.price


def train_cost(
    experiment: Experiment,
    topology: Topology,
    answer: CompileResult,
    train: Compiled,
    *,
    fill: float = FILL,
    price: float = 0.0,
) -> RunCost:
    """What a step and the run take.

    Args:
        experiment: The run.
        topology: The devices.
        answer: What the compiler said of them.
        train: The compiled step.
        fill: Share of the slots that hold real tokens.
        price: Dollars for an hour of one chip.
    """
    chip = topology.chip
    peak = answer.peak if chip is None else chip.peak / chip.devices
    hardware = hardware_flops(experiment)
    hbm_s = ici_s = dcn_s = 0.0
    if chip is not None:
        hbm_s = least_traffic(experiment, answer, train) / (chip.hbm_bandwidth / chip.devices)
        ici_s = math.fsum(
            crossing.within / (crossing.links * chip.ici_link / chip.devices)
            for crossing in train.traffic
            if crossing.links
        )
        across = math.fsum(crossing.across for crossing in train.traffic if crossing.slices > 1)
        dcn_s = across / (chip.dcn / chip.devices)
    slots = experiment.tokens.source_length + experiment.tokens.target_length
    return RunCost(
        model_flops=row_flops(experiment, fill),
        hardware_flops=hardware,
        compute_s=hardware / (peak * answer.devices),
        hbm_s=hbm_s,
        ici_s=ici_s,
        dcn_s=dcn_s,
        tokens=fill * experiment.train.batch_size * slots,
        rows=experiment.train.batch_size,
        steps=experiment.train.steps,
        devices=answer.devices,
        chips=topology.chips or answer.devices,
        peak=peak * answer.devices,
        price=price,
    )


def least_traffic(experiment: Experiment, answer: CompileResult, train: Compiled) -> float:
    """Bytes that a step cannot but move through one device's memory.

    The state is read and written, its gradients are too; frozen weights are read; what the
    backward pass finds is written and read; and the weights of every layer, in the compute dtype
    and gathered over `fsdp`, are read by each pass over each part of the batch.
    """
    model, memory = experiment.model, train.memory
    size = 2 if model.compute == "bfloat16" else 4
    all_weights = trained = memory.parameters
    if experiment.lora.rank:
        weights = weight_bytes(experiment, answer.mesh)
        all_weights, trained = weights.model, weights.trained
    frozen = memory.parameters - trained
    whole = all_weights * answer.mesh["fsdp"] / 4 * size
    passes = experiment.train.accumulate * (3 if model.remat == "full" else 2)
    state = 2 * (trained + memory.optimizer) + 2 * trained + frozen
    return state + 2 * memory.temporary + passes * whole
