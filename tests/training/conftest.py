"""A tiny model, tiny batches and short runs for the tests of this package."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from irec_jax.batches.batch import Batch
from irec_jax.model.config import T5Config
from irec_jax.model.params import Params
from irec_jax.training.config import TrainConfig
from irec_jax.training.init_weights import from_scratch
from irec_jax.training.inputs import TrainingInputs
from irec_jax.training.optimizer import OptimizerConfig
from irec_jax.training.sharding import MeshConfig, make_mesh

VOCABULARY = 32


class ToyBatches:
    """Random packed batches that depend only on their number."""

    def __init__(self) -> None:
        self.number = 0

    def __next__(self) -> Batch:
        rng = np.random.default_rng([5, self.number])
        self.number += 1
        sides = []
        for length in (12, 6):
            segments = np.sort(rng.integers(0, 3, (8, length)), axis=1)[:, ::-1].astype(np.int32)
            tokens = rng.integers(2, VOCABULARY, (8, length)).astype(np.int32)
            sides += [np.where(segments > 0, tokens, 0), segments]
        return Batch(*sides)

    def get_state(self) -> dict[str, int]:
        return {"number": self.number}

    def set_state(self, state: dict[str, int]) -> None:
        self.number = state["number"]


@pytest.fixture(scope="session")
def tiny(tiny_model) -> T5Config:
    return dataclasses.replace(tiny_model, vocabulary=VOCABULARY, dropout=0.2)


@pytest.fixture(scope="session")
def params(tiny) -> Params:
    """Random weights of the tiny model, as numpy arrays."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.device_get(from_scratch(tiny, 0)(device))


@pytest.fixture
def toy_batches() -> ToyBatches:
    return ToyBatches()


@pytest.fixture(scope="session")
def make_inputs(tiny, params) -> Callable[..., TrainingInputs]:
    """Return a function that makes the inputs of a short run; keywords replace its parts."""

    def build(run: Path, *, devices: int = 1, mesh: MeshConfig | None = None, **parts: Any):
        defaults = {
            "model": tiny,
            "init_weights": lambda shardings: jax.device_put(params, shardings),
            "batches": ToyBatches(),
            "mesh": make_mesh(mesh or MeshConfig(), jax.devices()[:devices]),
            "optimizer": OptimizerConfig(peak=1e-2),
            "train": TrainConfig(steps=6, batch_size=8, log_every=2, checkpoint_every=4),
        }
        return TrainingInputs(run, **{**defaults, **parts})

    return build
