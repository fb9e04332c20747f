"""Warnings of an answer: requests of a kind that was not trained, and letters that are unknown."""

import dataclasses
import json
import shutil

import pytest

from irec_jax.cli.main import main
from irec_jax.recommendation.recommender import Recommender
from irec_jax.recommendation.request_extras import Extras
from irec_jax.recommendation.request_warnings import WarningKind

NORMAL = [
    {"history": ["i3", "i4"]},
    {"instruction": "waterproof and light"},
    {"instruction": "tent, 2 persons!"},
    {"history": ["i3"], "instruction": "a blue hat"},
]


@pytest.fixture(scope="module")
def recommender(run_of):
    return Recommender.load(run_of("atomic"))


def kinds(answer) -> list[WarningKind]:
    return [warning.kind for warning in answer.warnings]


@pytest.mark.parametrize("request_of", NORMAL)
def test_a_normal_request_has_no_warning(request_of, recommender):
    assert kinds(recommender.recommend(**request_of, k=2)) == []


@pytest.mark.parametrize("instruction", ["帐篷", "палатка", "帐篷 tent 雨天防水夹克"])
def test_letters_that_the_run_does_not_know_are_named(instruction, recommender):
    answer = recommender.recommend(instruction=instruction, k=2)
    assert kinds(answer) == [WarningKind.UNKNOWN_LETTERS]
    assert instruction[0] in answer.warnings[0].message
    assert len(answer) == 2, "it answers all the same"


def test_a_task_that_the_run_was_not_tuned_on_is_named(recommender, run_of, tmp_path, capsys):
    answer = recommender.recommend(["i1"], k=2, extras=Extras(preference="quiet things"))
    assert kinds(answer) == [WarningKind.UNTRAINED_TASK]
    shutil.copytree(run_of("atomic"), tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["instructions"]["tasks"] = ["sequential_recommendation"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    only_next = Recommender.load(tmp_path / "run")
    assert kinds(only_next.recommend(["i1"], k=2)) == []
    search = only_next.recommend(instruction="a tent", k=2)
    assert kinds(search) == [WarningKind.UNTRAINED_TASK]
    assert "a specific query" in search.warnings[0].message
    assert search[:1].warnings == search.warnings
    assert main(["recommend", str(tmp_path / "run"), "--instruction", "a tent", "-k", "2"]) == 0
    assert f"warning: {search.warnings[0].message}" in capsys.readouterr().err


def test_warnings_are_data(recommender):
    warning = recommender.recommend(instruction="帐篷", k=1).warnings[0]
    assert dataclasses.asdict(warning)["kind"] == "unknown_letters"
