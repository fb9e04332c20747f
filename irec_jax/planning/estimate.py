"""Estimates of a step without a compiler, to choose the programs worth compiling."""

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


class StepMemory(NamedTuple):
    """Estimated memory of a training step on one device, in bytes.

    Attributes:
        parameters: Weights in float32.
        optimizer: Optimizer state.
        gradients: In float32, twice if they are accumulated; and the weights in the compute
            dtype. With adapters: gradients of the adapted weights, and these once more, merged.
        activations: Residuals of the backward pass, and the work space of one layer.
        logits: Logits of the device's rows and their gradient.
    """

    parameters: int
    optimizer: int
    gradients: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(self)


def estimate_memory(experiment: Experiment, mesh: Mapping[str, int]) -> StepMemory:
    """Estimates the memory of a training step.

    The estimate was 0.6 to 1.2 times the compiler's figure for six programs.

    Args:
        experiment: The run.
        mesh: Devices along each axis.
    """
    model, train = experiment.model, experiment.train
    parameters, optimizer = state_bytes(experiment, mesh)
    weights = weight_bytes(experiment, mesh)
    width = 2 if model.compute == "bfloat16" else 4
    gradients = weights.differentiated + weights.model * width // 4
    gradients += weights.trained if train.accumulate > 1 else 0
    gradients += weights.differentiated if experiment.lora.rank else 0  # merged
    rows = train.batch_size / (mesh["replica"] * mesh["data"] * mesh["fsdp"]) / train.accumulate
    source, target = experiment.tokens.source_length, experiment.tokens.target_length
    sides = (
        (model.encoder_layers, source, source * source),
        (model.decoder_layers, target, target * (source + target)),
    )
    residuals = sum(
        layers * _layer_bytes(model, model.remat, rows, tokens, pairs, mesh["tensor"])
        for layers, tokens, pairs in sides
    )
    if model.remat != "none":
        residuals += _layer_bytes(model, "none", rows, source, source * source, mesh["tensor"])
    logits = 3 * 4 * rows * target * model.vocabulary / mesh["tensor"]
    return StepMemory(parameters, optimizer, gradients, int(residuals), int(logits))


def _layer_bytes(
    model: Seq2SeqConfig, remat: str, rows: float, tokens: int, pairs: int, tensor: int
) -> float:
    """Computes the residuals of one layer; counted in compiled programs of each remat policy."""
    size = 2 if model.compute == "bfloat16" else 4
    inner, mlp = model.heads * model.head_dim / tensor, model.mlp_dim / tensor
    per_token = {
        # Float32 in norms, one byte per dropout mask entry, probabilities in both dtypes.
        "none": (22 + size) * model.width + 4 * size * inner + (8 * size + 1) * mlp,
        "dots": size * (3 * model.width + 3 * inner + 2 * mlp),
        "full": size * model.width,
    }[remat]
    attention = (5 + size) * model.heads / tensor * pairs if remat == "none" else 0.0
    return rows * (tokens * per_token + attention)


def state_bytes(experiment: Experiment, mesh: Mapping[str, int]) -> tuple[int, int]:
    """Computes the bytes of weights and of optimizer state on one device, by their shardings.

    Frozen weights are weights; the optimizer has state for trained weights only.
    """
    weights = weight_bytes(experiment, mesh)
    settings = (experiment.model, experiment.lora, experiment.optimizer, experiment.train.steps)
    trained = _weights(experiment.model, experiment.lora)[1]
    optimizer = _device_bytes(_optimizer_state(*settings), mesh, trained)
    return weights.frozen + weights.trained, optimizer


class WeightBytes(NamedTuple):
    """Bytes of float32 weights on one device.

    Attributes:
        model: All weights of the model.
        trained: Adapters, and weights that are trained whole.
        frozen: Weights that the optimizer does not change.
        differentiated: Weights of the model whose gradient is computed.
    """

    model: int
    trained: int
    frozen: int
    differentiated: int


def weight_bytes(experiment: Experiment, mesh: Mapping[str, int]) -> WeightBytes:
    """Computes the bytes of weights on one device, by their shardings."""
    trees = _weights(experiment.model, experiment.lora)
    return WeightBytes(*(_device_bytes(tree, mesh) for tree in trees))


def _device_bytes(tree: Any, mesh: Mapping[str, int], params: Any = None) -> int:
    specs = partition_specs(mesh, tree, params)
    return sum(
        leaf.dtype.itemsize
        * math.prod(leaf.shape)
        // math.prod(mesh[axis] for axis in spec if axis is not None)
        for leaf, spec in zip(jax.tree.leaves(tree), jax.tree.leaves(specs), strict=True)
    )


@functools.lru_cache(maxsize=16)
def _weights(model: Seq2SeqConfig, lora: LoraConfig) -> tuple[Any, Any, Any, Any]:
    """Returns abstract weights, in the order of `WeightBytes`."""
    weights = abstract(model)
    if not lora.rank:
        return weights, weights, {}, weights
    return (
        weights,
        abstract_adapters(weights, lora),
        frozen_part(weights, lora),
        reached_part(weights, lora),
    )


@functools.lru_cache(maxsize=16)
def _optimizer_state(
    model: Seq2SeqConfig, lora: LoraConfig, optimizer: OptimizerConfig, steps: int
) -> Any:
    return jax.eval_shape(make_optimizer(optimizer, steps).init, _weights(model, lora)[1])


def estimate_step_time(experiment: Experiment, mesh: Mapping[str, int], chip: Chip) -> float:
    """Estimates the seconds of a step: arithmetic and collectives one after the other.

    Args:
        experiment: The run.
        mesh: Devices along each axis.
        chip: The datasheet.
    """
    model, train = experiment.model, experiment.train
    weights = weight_bytes(experiment, dict.fromkeys(mesh, 1))
    computed, differentiated = (
        size / 4 * (2 if model.compute == "bfloat16" else 4)
        for size in (weights.model, weights.differentiated)
    )
    passes = train.accumulate * (3 if model.remat == "full" else 2)
    fsdp = (mesh["fsdp"] - 1) / mesh["fsdp"] * computed / mesh["tensor"]
    exchanged = fsdp * (passes + train.accumulate * differentiated / computed)
    device_part = differentiated / mesh["fsdp"] / mesh["tensor"]
    exchanged += 2 * (mesh["data"] - 1) / mesh["data"] * device_part * train.accumulate
    rows = train.batch_size / (mesh["replica"] * mesh["data"] * mesh["fsdp"])
    tokens = experiment.tokens.source_length * model.encoder_layers
    tokens += experiment.tokens.target_length * model.decoder_layers
    tensor = 2 * (mesh["tensor"] - 1) / mesh["tensor"]
    exchanged += tensor * 4 * rows * tokens * model.width * 2
    bandwidth = chip.ici_link * chip.ici_links / 2 / chip.devices
    dcn_s = 2 * (mesh["replica"] - 1) / mesh["replica"] * device_part / (chip.dcn / chip.devices)
    flops = hardware_flops(experiment) / math.prod(mesh.values())
    return flops / (chip.peak / chip.devices) + exchanged / bandwidth + dcn_s


def row_flops(experiment: Experiment, fill: float = 1.0) -> float:
    """Computes the model FLOPs of a step with one example per row, filled to the share `fill`."""
    rows, tokens = experiment.train.batch_size, experiment.tokens
    source, target = (
        np.full(rows, round(fill * length), np.int64)
        for length in (tokens.source_length, tokens.target_length)
    )
    return experiment.model.training_flops(source, target, experiment.lora)


def hardware_flops(experiment: Experiment) -> float:
    """Computes the FLOPs of the devices in a step, with padding and rematerialization."""
    model, tokens, rows = experiment.model, experiment.tokens, experiment.train.batch_size
    without_remat = row_flops(experiment)
    forward = row_flops(dataclasses.replace(experiment, lora=LoraConfig())) / 3
    source, target = tokens.source_length, tokens.target_length
    if model.remat == "full":
        head = 2.0 * rows * target * model.width * model.vocabulary
        return without_remat + forward - head
    if model.remat == "dots":
        pairs = model.encoder_layers * source**2
        pairs += model.decoder_layers * (target**2 + source * target)
        return without_remat + 4.0 * rows * model.heads * model.head_dim * pairs
    return without_remat
