"""Every file in configs/ is a complete experiment whose model can be built."""

import ast
from pathlib import Path

import pytest

from irec_jax.experiment.config import Experiment
from irec_jax.experiment.loading import load_experiment
from irec_jax.model.params import abstract, count
from irec_jax.settings import from_json, to_json
from irec_jax.training.optimizer import make_optimizer

pytestmark = pytest.mark.fast

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_loads_and_survives_json(path: Path):
    experiment = load_experiment(path)
    assert from_json(Experiment, to_json(experiment)) == experiment
    assert count(abstract(experiment.model)) > 0
    make_optimizer(experiment.optimizer, experiment.train.steps)


@pytest.mark.parametrize("name", ["flan_t5_xl_v5e", "flan_t5_xxl_v5p"])
def test_a_config_for_a_pod_reads_packed_rows(name: str):
    path = CONFIGS[0].with_name(f"{name}.py")
    packed = load_experiment(path).train.packed
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert packed
    assert f"irec instruct configs/{path.name} --packed {packed}" in docstring


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_states_its_command_device_time_and_result(path: Path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    for label in ("Command:", "Device:", "Time:", "Result:"):
        assert label in docstring, f"{path} does not state its {label}"
