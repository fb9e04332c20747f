"""Rough figures of a step without a compiler, to choose what is worth compiling."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from irec_jax.experiment import Experiment
from irec_jax.model.config import T5Config
from irec_jax.model.params import abstract
from irec_jax.planning.topology import Chip
from irec_jax.training.optimizer import OptimizerConfig, make_optimizer
from irec_jax.training.sharding import partition
from irec_jax.training.work import training_flops


class Held(NamedTuple):
    """Bytes on one device, as a formula has them.

    Attributes:
        parameters: Weights, float32.
        optimizer: What the optimizer remembers.
        gradients: Float32, once, or twice where they are summed over parts; and the weights in
            the compute dtype.
        activations: What the backward pass finds, and one layer's work space.
        logits: Of the device's rows and their gradient.
    """

    parameters: int
    optimizer: int
    gradients: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


def held(experiment: Experiment, mesh: Mapping[str, int]) -> Held:
    """Estimates the memory of a training step.

    It was 0.6 to 1.2 times what the compiler said of six programs, and decides nothing alone.

    Args:
        experiment: The run.
        mesh: Devices along each axis.
    """
    model, train = experiment.model, experiment.train
    parameters, optimizer = state_bytes(experiment, mesh)
    width = 2 if model.compute == "bfloat16" else 4
    gradients = parameters * (2 if train.accumulate > 1 else 1) + parameters * width // 4
    rows = train.batch_size / (mesh["replica"] * mesh["data"] * mesh["fsdp"]) / train.accumulate
    source, target = experiment.tokens.source_length, experiment.tokens.target_length
    sides = (
        (model.encoder_layers, source, source * source),
        (model.decoder_layers, target, target * (source + target)),
    )
    kept = sum(
        layers * _layer_bytes(model, model.remat, rows, tokens, pairs, mesh["tensor"])
        for layers, tokens, pairs in sides
    )
    if model.remat != "none":
        kept += _layer_bytes(model, "none", rows, source, source * source, mesh["tensor"])
    logits = 3 * 4 * rows * target * model.vocabulary / mesh["tensor"]
    return Held(parameters, optimizer, gradients, int(kept), int(logits))


def _layer_bytes(
    model: T5Config, remat: str, rows: float, tokens: int, pairs: int, tensor: int
) -> float:
    """What one layer keeps for the backward pass; counted in compiled programs of each policy."""
    size = 2 if model.compute == "bfloat16" else 4
    inner, hidden = model.heads * model.head_dim / tensor, model.hidden / tensor
    kept = {
        # Float32 within the norms, masks of dropout as bytes, probabilities in both dtypes.
        "none": (22 + size) * model.width + 4 * size * inner + (8 * size + 1) * hidden,
        "dots": size * (3 * model.width + 3 * inner + 2 * hidden),
        "full": size * model.width,
    }[remat]
    attention = (5 + size) * model.heads / tensor * pairs if remat == "none" else 0.0
    return rows * (tokens * kept + attention)


def state_bytes(experiment: Experiment, mesh: Mapping[str, int]) -> tuple[int, int]:
    """Weights and optimizer state of one device, by the rules that place them."""
    shapes = _shapes(experiment.model, experiment.optimizer, experiment.train.steps)

    def part(tree: Any) -> int:
        flat, _ = jax.tree_util.tree_flatten_with_path(tree)
        return sum(
            leaf.dtype.itemsize
            * math.prod(leaf.shape)
            // math.prod(
                mesh[axis] for axis in partition(path, tuple(leaf.shape), mesh) if axis is not None
            )
            for path, leaf in flat
        )

    return part(shapes[0]), part(shapes[1])


@functools.lru_cache(maxsize=16)
def _shapes(model: T5Config, optimizer: OptimizerConfig, steps: int) -> tuple[Any, Any]:
    params = abstract(model)
    return params, jax.eval_shape(make_optimizer(optimizer, steps).init, params)


def seconds(experiment: Experiment, mesh: Mapping[str, int], chip: Chip) -> float:
    """Estimates the time of a step: arithmetic and exchanges one after the other.

    Args:
        experiment: The run.
        mesh: Devices along each axis.
        chip: The datasheet.
    """
    model, train = experiment.model, experiment.train
    parameters, _ = state_bytes(experiment, dict.fromkeys(mesh, 1))
    computed = parameters / 4 * (2 if model.compute == "bfloat16" else 4)
    passes = train.accumulate * (3 if model.remat == "full" else 2)
    fsdp = (mesh["fsdp"] - 1) / mesh["fsdp"] * computed / mesh["tensor"]
    exchanged = fsdp * (passes + train.accumulate)
    near = computed / mesh["fsdp"] / mesh["tensor"]
    exchanged += 2 * (mesh["data"] - 1) / mesh["data"] * near * train.accumulate
    rows = train.batch_size / (mesh["replica"] * mesh["data"] * mesh["fsdp"])
    tokens = experiment.tokens.source_length * model.encoder_layers
    tokens += experiment.tokens.target_length * model.decoder_layers
    tensor = 2 * (mesh["tensor"] - 1) / mesh["tensor"]
    exchanged += tensor * 4 * rows * tokens * model.width * 2
    bandwidth = chip.ici_link * chip.ici_links / 2 / chip.devices
    across = 2 * (mesh["replica"] - 1) / mesh["replica"] * near / (chip.dcn / chip.devices)
    flops = hardware_flops(experiment) / math.prod(mesh.values())
    return flops / (chip.peak / chip.devices) + exchanged / bandwidth + across


def row_flops(experiment: Experiment, fill: float = 1.0) -> float:
    """Operations of a step whose rows are filled so far, each row one example: no padding."""
    rows, tokens = experiment.train.batch_size, experiment.tokens
    source, target = (
        np.full(rows, round(fill * length), np.int64)
        for length in (tokens.source_length, tokens.target_length)
    )
    return training_flops(experiment.model, source, target)


def hardware_flops(experiment: Experiment) -> float:
    """What the devices compute in a step: padding is computed too, and some of it twice."""
    model, tokens, rows = experiment.model, experiment.tokens, experiment.train.batch_size
    whole = row_flops(experiment)
    source, target = tokens.source_length, tokens.target_length
    if model.remat == "full":
        head = 6.0 * rows * target * model.width * model.vocabulary
        return whole + (whole - head) / 3
    if model.remat == "dots":
        pairs = model.encoder_layers * source**2
        pairs += model.decoder_layers * (target**2 + source * target)
        return whole + 4.0 * rows * model.heads * model.head_dim * pairs
    return whole
