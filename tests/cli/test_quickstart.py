"""`irec quickstart` as a process in an empty folder."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASELINES = ("chance", "popularity", "recent popularity", "markov", "bm25")
GIB_IN_KIB = 2**20


@pytest.mark.slow
def test_the_tuned_model_is_above_every_baseline_and_prints_examples(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "irec_jax.cli.main", "quickstart"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "COLUMNS": "150"},
        capture_output=True,
        text=True,
        timeout=1_200,
    )
    assert done.returncode == 0, done.stderr
    report = tmp_path / "runs/quickstart/reports/leave_one_out/report.json"
    tasks = {task["task"]: task["rows"] for task in json.loads(report.read_text())["tasks"]}
    assert set(tasks) == {"sequential_recommendation", "product_search"}
    for rows in tasks.values():
        figures = {row["ranker"]: row["figures"] for row in rows if row["group"] == "all"}
        for metric in ("recall@10", "ndcg@10"):
            tuned, best = figures["tuned model"][metric], figures["best possible"][metric]
            for baseline in BASELINES:
                assert tuned["low"] > figures[baseline][metric]["high"], (metric, baseline)
            assert tuned["high"] < best["high"]
    for number in range(1, 6):
        assert f"\n{number}. " in done.stdout
    assert "stays dry for camping" in done.stdout
    assert done.stdout.count("not above") == 0
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 4 * GIB_IN_KIB
