"""The estimate of a long run, and the note that `irec tune` gives before it starts."""

import dataclasses

import pytest

from irec_jax.cli import tune
from irec_jax.experiment.config import Experiment
from irec_jax.planning.estimate import row_flops
from irec_jax.planning.host_speed import EFFICIENCY, estimate_hours, measure_flops


def test_hours_are_the_operations_of_all_steps_by_the_speed(tiny_experiment):
    seconds = tiny_experiment.train.steps * row_flops(tiny_experiment) / (EFFICIENCY * 1e9)
    assert estimate_hours(tiny_experiment, 1e9) == pytest.approx(seconds / 3_600)


def test_the_speed_is_plausible():
    assert 1e9 < measure_flops() < 1e14


@pytest.fixture
def reported(monkeypatch) -> list[str]:
    lines = []
    monkeypatch.setattr(tune, "report", lambda run, line: lines.append(line))
    monkeypatch.setattr(tune, "measure_flops", lambda: 1e11)
    return lines


def test_the_default_model_on_processors_is_noted_before_it_starts(reported, tmp_path):
    tune._report_long_run(Experiment(), tmp_path)
    (line,) = reported
    assert "hours on the processors of this machine" in line
    assert "irec new" in line


def test_a_short_run_is_not_noted(reported, tmp_path, tiny_experiment):
    tune._report_long_run(tiny_experiment, tmp_path)
    model = dataclasses.replace(tiny_experiment.model, width=64)
    tune._report_long_run(dataclasses.replace(tiny_experiment, model=model), tmp_path)
    assert reported == []
