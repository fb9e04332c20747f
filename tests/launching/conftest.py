"""A small experiment, and a process's environment of one device."""

import os
from pathlib import Path

import pytest

CONFIG = """
from irec_jax.experiment import Experiment
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.log.dataset import DataConfig
from irec_jax.log.simulate import SimulateConfig
from irec_jax.model.config import T5Config
from irec_jax.tokens.text import TokensConfig
from irec_jax.training.config import TrainConfig

experiment = Experiment(
    data=DataConfig(simulate=SimulateConfig(users=80, items=100)),
    instructions=InstructionsConfig(max_history=6),
    tokens=TokensConfig(vocabulary=512, source_length=64, target_length=16),
    model=T5Config(width=16, head_dim=8, heads=2, hidden=32, encoder_layers=1, decoder_layers=1),
    train=TrainConfig(steps=6, batch_size=8, log_every=2, checkpoint_every=3),
)
"""


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="session")
def alone(tmp_path_factory) -> dict[str, str]:
    """One device, and compiled programs that the processes of all tests share."""
    return {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
    }
