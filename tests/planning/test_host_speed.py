"""The estimate of a long run; tests/api tests the note that `tune` makes of it."""

import pytest

from irec_jax.planning.estimate import row_flops
from irec_jax.planning.host_speed import EFFICIENCY, estimate_hours, measure_flops


def test_hours_are_the_operations_of_all_steps_by_the_speed(tiny_experiment):
    seconds = tiny_experiment.train.steps * row_flops(tiny_experiment) / (EFFICIENCY * 1e9)
    assert estimate_hours(tiny_experiment, 1e9) == pytest.approx(seconds / 3_600)


def test_the_speed_is_plausible():
    assert 1e9 < measure_flops() < 1e14
