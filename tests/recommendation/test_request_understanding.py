"""Requests whose conditions are read: with a model that knows the roles, and with a run's files."""

import dataclasses
import shutil

import numpy as np
import pytest

from irec_jax import Recommender, UnderstandingMode
from irec_jax.cli.main import main
from irec_jax.errors import InputError
from irec_jax.log.simulate import SimulateConfig
from irec_jax.recommendation.request_extras import Extras
from irec_jax.recommendation.request_understanding import MAX_SPANS, ROLES, Understanding
from irec_jax.recommendation.request_warnings import WarningKind
from irec_jax.run_checksums import Sources, write_checksums
from irec_jax.understanding.lexicon import LEXICON_FILE
from irec_jax.understanding.roles import RequestRole
from irec_jax.understanding.spans import ASKED

CUES = {
    "not": RequestRole.EXCLUDED,
    "without": RequestRole.EXCLUDED,
    "under": RequestRole.BELOW,
    "over": RequestRole.ABOVE,
    "maybe": RequestRole.OPEN,
    "from": RequestRole.LEAST,
}


def scores_by_cue(self, prompts):
    """The role that the word before the asked span means, as a well-tuned model would say."""
    scores = np.full((len(prompts), len(ROLES)), -9.0, np.float32)
    for row, prompt in enumerate(prompts):
        words = prompt.split()
        before = words[words.index(ASKED) - 1]
        scores[row, ROLES.index(CUES.get(before, RequestRole.WANTED))] = 0.0
    return scores


@pytest.fixture(scope="module")
def run(tiny_experiment, make_run, tmp_path_factory):
    experiment = dataclasses.replace(
        tiny_experiment,
        data=dataclasses.replace(
            tiny_experiment.data, simulate=SimulateConfig(users=600, items=400)
        ),
        instructions=dataclasses.replace(tiny_experiment.instructions, understanding=0.15),
    )
    folder = tmp_path_factory.mktemp("understanding") / "run"
    make_run(folder, experiment)
    return folder


@pytest.fixture
def recommender(run, monkeypatch):
    monkeypatch.setattr(Recommender, "_role_scores", scores_by_cue)
    return Recommender.load(run)


def understood(recommender, text: str) -> Understanding:
    found = recommender.understand(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a lamp", 'categories contains "lamp"'),
        ("LAMPS", 'categories contains "lamp"'),
        ("a LMAP", 'categories contains "lamp"'),
        ("a lamp under 60 dollars", 'categories contains "lamp" and price < 60.0'),
        ("a lamp , not navy", 'categories contains "lamp" and not attributes contains "navy"'),
        ("maybe navy", ""),
        ("something by torvald", 'brand = "Torvald"'),
        ("rain-proof boots", None),
        ("what a nice day", ""),
    ],
)
def test_every_answer_meets_what_was_understood(text, where, recommender):
    answer = recommender.recommend(instruction=text, k=5)
    if where is not None:
        assert answer.understood.where == where
    meets = recommender.catalog.mask(answer.understood.where or None)
    assert len(answer) == min(5, meets.sum())
    assert all(meets[item.number] for item in answer)
    assert (answer.allowed == meets).all()
    assert not answer.warnings


def test_what_was_understood_can_be_switched_off_edited_and_joined(recommender):
    text = "a lamp , not navy"
    off = Extras(understanding=UnderstandingMode.OFF)
    free = recommender.recommend(instruction=text, k=50, extras=off)
    assert free.understood is None
    assert len(free) == 50
    edited = understood(recommender, text).where.replace("navy", "crimson")
    answer = recommender.recommend(instruction=text, k=50, where=edited, extras=off)
    assert {item.number for item in answer} <= set(np.flatnonzero(recommender.catalog.mask(edited)))
    both = recommender.recommend(instruction=text, k=50, where="price > 60")
    expected = recommender.catalog.mask(f"({both.understood.where}) and price > 60")
    assert (both.allowed == expected).all()


def test_if_no_item_fits_conditions_are_dropped_and_counted(recommender):
    text = "a lamp under 2 dollars"
    answer = recommender.recommend(instruction=text, k=3)
    assert [warning.kind for warning in answer.warnings] == [WarningKind.NO_ITEM]
    assert [str(dropped) for dropped in answer.understood.dropped] == ["price below 2"]
    lamps = recommender.catalog.mask("categories contains 'lamp'")
    assert f"{lamps.sum()} without 'price below 2'" in answer.warnings[0].message
    assert len(answer) == 3
    assert all(lamps[item.number] for item in answer)
    required = Extras(understanding=UnderstandingMode.REQUIRED)
    with pytest.raises(InputError, match="no item that may be returned meets what was understood"):
        recommender.recommend(instruction=text, k=3, extras=required)
    assert len(recommender.recommend(instruction="a lamp", k=3, extras=required)) == 3


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a lamp under 20 over 500", WarningKind.CONTRADICTION),
        ("a navy lamp not navy", WarningKind.CONTRADICTION),
        ("asdf qwer zxcv", WarningKind.UNKNOWN_WORDS),
        ("ich suche einen wasserdichten beutel", WarningKind.UNKNOWN_WORDS),
        ("палатка", WarningKind.UNKNOWN_LETTERS),
    ],
)
def test_requests_that_cannot_be_met_are_warned_of(text, kind, recommender):
    answer = recommender.recommend(instruction=text, k=3)
    assert kind in [warning.kind for warning in answer.warnings]
    assert len(answer) == 3, "it answers all the same"


def test_a_pasted_page_is_answered(recommender):
    page = " ".join(["a navy lamp by Torvald under 900 dollars and a tent , not red ."] * 300)
    assert len(understood(recommender, page).constraints) == MAX_SPANS
    assert len(recommender.recommend(instruction=page, k=1)) == 1


def test_a_correction_is_said_and_used(recommender):
    found = understood(recommender, "a watrproof lamp")
    assert str(found) == "waterproof; category lamp; read 'watrproof' as 'waterproof'"
    assert found.text == "a waterproof lamp"


def test_an_uncertain_role_stays_soft(run, monkeypatch):
    def undecided(self, prompts):
        return np.zeros((len(prompts), len(ROLES)), np.float32)

    monkeypatch.setattr(Recommender, "_role_scores", undecided)
    found = Recommender.load(run).understand("a lamp")
    assert found is not None
    assert found.where == ""
    assert not found.constraints[0].is_hard
    assert found.constraints[0].probability == pytest.approx(1 / 3)


def test_the_model_of_the_run_is_asked(run):
    found = Recommender.load(run).understand("a navy lamp under 60 dollars")
    assert found is not None
    assert [constraint.words for constraint in found.constraints] == ["navy", "lamp", "60"]
    assert all(0 < constraint.probability <= 1 for constraint in found.constraints)


def test_a_run_without_a_lexicon_reads_no_conditions(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "tokens" / LEXICON_FILE).unlink()
    write_checksums(tmp_path / "run", Sources(log={}, catalog="", teacher=""))
    recommender = Recommender.load(tmp_path / "run")
    assert recommender.understand("a lamp") is None
    assert recommender.recommend(instruction="a lamp", k=1).understood is None


def test_the_commands_say_what_was_understood(run, capsys):
    arguments = ["recommend", str(run), "--instruction", "a LAMP", "-k", "2"]
    assert main(arguments) == 0
    assert "understood: " in capsys.readouterr().err
    assert main([*arguments, "--understanding", "off"]) == 0
    assert "understood: " not in capsys.readouterr().err


def test_the_command_says_how_many_items_meet_the_conditions(recommender, run, capsys):
    lamps = int(recommender.catalog.mask("categories contains 'lamp'").sum())
    for k, expected in ((lamps + 1, True), (lamps, False)):
        assert main(["recommend", str(run), "--instruction", "a lamp", "-k", str(k)]) == 0
        assert (f"items that meet this: {lamps}" in capsys.readouterr().err) == expected


def test_a_suite_is_asked_from_the_command_line(run, tmp_path, capsys):
    suite = tmp_path / "mine.toml"
    suite.write_text(
        'language = "en"\n[[request]]\ntext = "a lamp"\nability = "category"\n'
        'where = "categories contains \'lamp\'"\n[[request]]\ntext = "asdf qwer zxcv"\n'
        'ability = "flagged"\nwarning = "unknown_words"\n'
    )
    assert main(["evaluate", str(run), "--requests", str(suite)]) == 0
    printed = capsys.readouterr().out
    assert "1 of 1 requests that need one have it; 0 of the others" in printed
    assert (run / "reports" / "requests_mine.json").is_file()
    assert main(["evaluate", str(run), "--requests", "shop"]) == 2
    assert "shop_en" in capsys.readouterr().err
