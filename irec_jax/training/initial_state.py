"""The train state before the first step of an attempt: restored, or initialized."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from irec_jax.errors import InputError
from irec_jax.model.params import Params, abstract
from irec_jax.settings import to_json
from irec_jax.training.checkpoint import Checkpoints, TrainState, model_fingerprint
from irec_jax.training.frozen import init_adapters, load_frozen, save_frozen
from irec_jax.training.inputs import TrainingInputs
from irec_jax.training.optimizer import make_optimizer, path_name
from irec_jax.training.sharding import state_shardings
from irec_jax.training.step import TrainStep

DROPOUT = 1
"""Folded into the seed's key, so that dropout and the initial weights draw different numbers."""


def restore_or_initialize(
    inputs: TrainingInputs, train_step: TrainStep, checkpoints: Checkpoints
) -> tuple[int, TrainState, tuple[Params, ...]]:
    """Restore the newest good checkpoint of the run; without one, initialize the state.

    Args:
        inputs: The run. Its batches are set to the position of the checkpoint.
        train_step: The step, for the shapes and shardings of the state.
        checkpoints: The checkpoints of the run.

    Returns:
        The number of steps done, the state, and the frozen weights: one tree with LoRA, else
        none.

    Raises:
        InputError: The run's checkpoints or the initial weights do not fit the model.
    """
    restored = checkpoints.restore(train_step.target)
    if restored is not None:
        inputs.batches.set_state(restored.data)
        frozen = () if train_step.frozen is None else (load_frozen(inputs.run, train_step.frozen),)
        return restored.step, restored.state, frozen
    if train_step.frozen is None:
        return 0, init_state(inputs, train_step.target), ()
    shapes = abstract(inputs.model)
    base = inputs.init_weights(state_shardings(inputs.mesh, shapes))
    _check_shapes(base, shapes)
    frozen = (save_frozen(inputs.run, base, inputs.lora),)
    adapters = functools.partial(init_adapters, base, inputs.lora, inputs.seed)
    inputs = dataclasses.replace(inputs, init_weights=adapters)
    return 0, init_state(inputs, train_step.target), frozen


def init_state(inputs: TrainingInputs, target: TrainState) -> TrainState:
    """Initialize the state before the first step.

    Args:
        inputs: The run, whose `init_weights` makes the trained parameters.
        target: The state as `jax.ShapeDtypeStruct` leaves with shardings.

    Raises:
        InputError: The initial weights do not fit the model.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    params = inputs.init_weights(shardings.params)
    _check_shapes(params, target.params)
    optimizer = make_optimizer(inputs.optimizer, inputs.train.steps)
    optimizer_state = jax.jit(optimizer.init, out_shardings=shardings.optimizer_state)(params)
    step = jax.device_put(np.int32(0), shardings.step)
    return TrainState(step, params, optimizer_state)


def dropout_key(inputs: TrainingInputs) -> Key[Array, ""]:
    """Return the run's dropout key, replicated over the mesh.

    It is an argument of the step, so that runs with different seeds share one program.
    """
    key = jax.random.fold_in(jax.random.key(inputs.seed), DROPOUT)
    replicated = NamedSharding(inputs.mesh, PartitionSpec())
    # By way of the host: an array of this process's device cannot be put on those of others.
    return jax.random.wrap_key_data(
        jax.device_put(jax.device_get(jax.random.key_data(key)), replicated)
    )


def fingerprint_of(inputs: TrainingInputs) -> dict[str, Any]:
    """Return the settings that a checkpoint must share with the run to be resumed from."""
    fingerprint = {
        "model": model_fingerprint(inputs.model),
        "optimizer": {"kind": inputs.optimizer.kind},
        "train": {"batch_size": inputs.train.batch_size},
        "seed": inputs.seed,
        **inputs.fingerprint,
    }
    # Absent without adapters, as in checkpoints that are older than the setting.
    return fingerprint | ({"lora": to_json(inputs.lora)} if inputs.lora.rank else {})


def _check_shapes(params: Params, target: Params) -> None:
    found, expected = (
        {path_name(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (params, target)
    )
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            problem = f"the weights have {name} {found.get(name)}, the model {expected.get(name)}"
            hint = "Use the config that the weights were made with."
            raise InputError(problem, where="model", hint=hint)
