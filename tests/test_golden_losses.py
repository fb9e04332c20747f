"""Ten losses of a fixed tiny run, from the simulated log to the optimizer, as they were committed.

A difference means that some change altered the data, the model or the update. If that was the
aim, put the printed losses here in the same commit and say in the changelog that results change.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from irec_jax.api.tune_run import tune_materials
from irec_jax.experiment.materials import prepare
from irec_jax.training.metrics_logger import read_losses

pytestmark = pytest.mark.fast

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


def test_ten_losses_are_the_committed_ones(tiny_experiment, tmp_path: Path):
    train = dataclasses.replace(tiny_experiment.train, steps=len(LOSSES), log_every=1)
    tune_materials(
        prepare(dataclasses.replace(tiny_experiment, train=train, seed=7), tmp_path), tmp_path
    )
    losses = list(read_losses(tmp_path).values())
    # XLA fuses differently for each kind of CPU, which changes the last digits.
    np.testing.assert_allclose(losses, LOSSES, rtol=1e-4, err_msg=f"the losses are {losses}")
