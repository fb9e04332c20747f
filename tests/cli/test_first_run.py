"""The first run of a newcomer: a log, a task, and defaults for everything else."""

import os
import subprocess
import sys
import time

import polars as pl
import pytest

from irec_jax.log.events import BehaviorLog, LogManifest

pytestmark = pytest.mark.slow

CONFIG = """from irec_jax import DataConfig, Experiment, InstructionsConfig

experiment = Experiment(
    data=DataConfig(log="shop", core=1),
    instructions=InstructionsConfig(tasks=["sequential_recommendation"]),
)
"""
LIMIT_S = 120
ITEMS, USERS = 60, 80


def test_an_experiment_without_a_model_is_tuned_in_two_minutes(tmp_path):
    rows = [
        (user, step, (user * 7 + step * (1 + user % 3)) % ITEMS)
        for user in range(USERS)
        for step in range(8)
    ]
    events = pl.DataFrame(
        {
            "user": [user for user, _, _ in rows],
            "item": [f"i{item}" for *_, item in rows],
            "time": [step for _, step, _ in rows],
            "event": ["view"] * len(rows),
        }
    )
    items = pl.DataFrame(
        {
            "item": [f"i{n}" for n in range(ITEMS)],
            "title": [f"Lamp number {n}" for n in range(ITEMS)],
            "categories": [["lamp"]] * ITEMS,
        }
    )
    BehaviorLog.assemble(items, events, LogManifest(source="table")).save(tmp_path / "shop")
    (tmp_path / "first.py").write_text(CONFIG)
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", "irec_jax.cli.main", "tune", "first.py"]
    start = time.monotonic()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < LIMIT_S
