"""An experiment that takes seconds, as a file."""

from pathlib import Path

import pytest

CONFIG = """
from irec_jax.experiment.config import Experiment
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.log.dataset import DataConfig
from irec_jax.log.simulate import SimulateConfig
from irec_jax.model.config import T5Config
from irec_jax.tokens.config import TokensConfig
from irec_jax.training.config import TrainConfig

experiment = Experiment(
    data=DataConfig(simulate=SimulateConfig(users=80, items=100)),
    instructions=InstructionsConfig(max_history=6),
    tokens=TokensConfig(vocabulary=512, source_length=64, target_length=16),
    model=T5Config(width=16, head_dim=8, heads=2, mlp_dim=32, encoder_layers=1, decoder_layers=1),
    train=TrainConfig(steps=6, batch_size=8, log_every=2, checkpoint_every=3),
)
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """Its folder has a space in its name, as users' folders have."""
    path = tmp_path_factory.mktemp("a config") / "small.py"
    path.write_text(CONFIG)
    return path
