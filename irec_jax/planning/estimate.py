"""Rough figures of a step without a compiler, to choose what is worth compiling."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from irec_jax.experiment.config import Experiment
from irec_jax.model.lora import LoraConfig, abstract_adapters, frozen_part, reached_part
from irec_jax.model.params import abstract
from irec_jax.model.seq2seq import Seq2SeqConfig
from irec_jax.planning.topology import Chip
from irec_jax.training.optimizer import OptimizerConfig, make_optimizer
from irec_jax.training.sharding import partition_specs


class Held(NamedTuple):
    """Bytes on one device, as a formula has them.

    Attributes:
        parameters: Weights, float32.
        optimizer: What the optimizer remembers.
        gradients: Float32, once, or twice where they are summed over parts; and the weights in
            the compute dtype. With adapters: of the weights that these change, and those once
            more, merged.
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
    weights = weight_bytes(experiment, mesh)
    width = 2 if model.compute == "bfloat16" else 4
    gradients = weights.reached + weights.model * width // 4
    gradients += weights.trained if train.accumulate > 1 else 0
    gradients += weights.reached if experiment.lora.rank else 0  # as they are merged
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
    model: Seq2SeqConfig, remat: str, rows: float, tokens: int, pairs: int, tensor: int
) -> float:
    """What one layer keeps for the backward pass; counted in compiled programs of each policy."""
    size = 2 if model.compute == "bfloat16" else 4
    inner, hidden = model.heads * model.head_dim / tensor, model.mlp_dim / tensor
    kept = {
        # Float32 within the norms, masks of dropout as bytes, probabilities in both dtypes.
        "none": (22 + size) * model.width + 4 * size * inner + (8 * size + 1) * hidden,
        "dots": size * (3 * model.width + 3 * inner + 2 * hidden),
        "full": size * model.width,
    }[remat]
    attention = (5 + size) * model.heads / tensor * pairs if remat == "none" else 0.0
    return rows * (tokens * kept + attention)


def state_bytes(experiment: Experiment, mesh: Mapping[str, int]) -> tuple[int, int]:
    """Weights and optimizer state of one device, by the rules that place them.

    Frozen weights count among the weights; the optimizer remembers what is trained.
    """
    weights = weight_bytes(experiment, mesh)
    settings = (experiment.model, experiment.lora, experiment.optimizer, experiment.train.steps)
    trained = _weights(experiment.model, experiment.lora)[1]
    return weights.frozen + weights.trained, _part(_remembered(*settings), mesh, trained)


class WeightBytes(NamedTuple):
    """Bytes of weights on one device, float32.

    Attributes:
        model: All that the model has.
        trained: What the optimizer changes: adapters, and weights that are trained whole.
        frozen: What it does not.
        reached: Weights of the model whose gradient is computed.
    """

    model: int
    trained: int
    frozen: int
    reached: int


def weight_bytes(experiment: Experiment, mesh: Mapping[str, int]) -> WeightBytes:
    """Weights of one device, by the rules that place them."""
    trees = _weights(experiment.model, experiment.lora)
    return WeightBytes(*(_part(tree, mesh) for tree in trees))


def _part(tree: Any, mesh: Mapping[str, int], params: Any = None) -> int:
    specs = partition_specs(mesh, tree, params)
    return sum(
        leaf.dtype.itemsize
        * math.prod(leaf.shape)
        // math.prod(mesh[axis] for axis in spec if axis is not None)
        for leaf, spec in zip(jax.tree.leaves(tree), jax.tree.leaves(specs), strict=True)
    )


@functools.lru_cache(maxsize=16)
def _weights(model: Seq2SeqConfig, lora: LoraConfig) -> tuple[Any, Any, Any, Any]:
    """In the order of `WeightBytes`, as shapes."""
    whole = abstract(model)
    if not lora.rank:
        return whole, whole, {}, whole
    return (
        whole,
        abstract_adapters(whole, lora),
        frozen_part(whole, lora),
        reached_part(whole, lora),
    )


@functools.lru_cache(maxsize=16)
def _remembered(
    model: Seq2SeqConfig, lora: LoraConfig, optimizer: OptimizerConfig, steps: int
) -> Any:
    return jax.eval_shape(make_optimizer(optimizer, steps).init, _weights(model, lora)[1])


def seconds(experiment: Experiment, mesh: Mapping[str, int], chip: Chip) -> float:
    """Estimates the time of a step: arithmetic and exchanges one after the other.

    Args:
        experiment: The run.
        mesh: Devices along each axis.
        chip: The datasheet.
    """
    model, train = experiment.model, experiment.train
    weights = weight_bytes(experiment, dict.fromkeys(mesh, 1))
    computed, reached = (
        size / 4 * (2 if model.compute == "bfloat16" else 4)
        for size in (weights.model, weights.reached)
    )
    passes = train.accumulate * (3 if model.remat == "full" else 2)
    fsdp = (mesh["fsdp"] - 1) / mesh["fsdp"] * computed / mesh["tensor"]
    exchanged = fsdp * (passes + train.accumulate * reached / computed)
    near = reached / mesh["fsdp"] / mesh["tensor"]
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
    return experiment.model.training_flops(source, target, experiment.lora)


def hardware_flops(experiment: Experiment) -> float:
    """What the devices compute in a step: padding is computed too, and some of it twice."""
    model, tokens, rows = experiment.model, experiment.tokens, experiment.train.batch_size
    whole = row_flops(experiment)
    forward = row_flops(dataclasses.replace(experiment, lora=LoraConfig())) / 3
    source, target = tokens.source_length, tokens.target_length
    if model.remat == "full":
        head = 2.0 * rows * target * model.width * model.vocabulary
        return whole + forward - head
    if model.remat == "dots":
        pairs = model.encoder_layers * source**2
        pairs += model.decoder_layers * (target**2 + source * target)
        return whole + 4.0 * rows * model.heads * model.head_dim * pairs
    return whole
