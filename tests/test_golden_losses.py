"""Ten losses of a fixed tiny run, from the simulated log to the optimizer, as they were committed.

A difference means that some change altered the data, the model or the update. If that was the
aim, put the printed losses here in the same commit and say in the changelog that results change.
"""

from pathlib import Path

import numpy as np

from irec_jax.cli.tune import tune
from irec_jax.experiment.config import Experiment
from irec_jax.experiment.materials import prepare
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.log.dataset import DataConfig
from irec_jax.log.simulate import SimulateConfig
from irec_jax.model.config import T5Config
from irec_jax.tokens.config import TokensConfig
from irec_jax.training.config import TrainConfig
from irec_jax.training.metrics_logger import read_losses

EXPERIMENT = Experiment(
    data=DataConfig(simulate=SimulateConfig(users=80, items=100)),
    instructions=InstructionsConfig(max_history=6),
    tokens=TokensConfig(vocabulary=512, source_length=64, target_length=16),
    model=T5Config(width=16, head_dim=8, heads=2, mlp_dim=32, encoder_layers=1, decoder_layers=1),
    train=TrainConfig(steps=10, batch_size=8),
    seed=7,
)
LOSSES = [
    7.024255752563477,
    7.092159748077393,
    6.958230972290039,
    7.100427150726318,
    6.607698917388916,
    6.63501501083374,
    6.425336837768555,
    6.241039276123047,
    6.304349422454834,
    6.365898609161377,
]


def test_ten_losses_are_the_committed_ones(tmp_path: Path):
    tune(prepare(EXPERIMENT, tmp_path), tmp_path)
    losses = list(read_losses(tmp_path).values())
    # XLA fuses differently for each kind of CPU, which changes the last digits.
    np.testing.assert_allclose(losses, LOSSES, rtol=1e-4, err_msg=f"the losses are {losses}")
