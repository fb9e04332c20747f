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
    6.804226398468018,
    7.114267349243164,
    6.891279697418213,
    6.433928489685059,
    6.957492828369141,
    6.460226058959961,
    6.5681352615356445,
    6.628125190734863,
    6.379678726196289,
    6.404873847961426,
]


def test_ten_losses_are_the_committed_ones(tiny_experiment, tmp_path: Path):
    train = dataclasses.replace(tiny_experiment.train, steps=len(LOSSES), log_every=1)
    tune_materials(
        prepare(dataclasses.replace(tiny_experiment, train=train, seed=7), tmp_path), tmp_path
    )
    losses = list(read_losses(tmp_path).values())
    # XLA fuses differently for each kind of CPU, which changes the last digits.
    np.testing.assert_allclose(losses, LOSSES, rtol=1e-4, err_msg=f"the losses are {losses}")
