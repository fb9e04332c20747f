"""A run folder answers requests, and says clearly why it cannot."""

import dataclasses
import shutil

import numpy as np
import polars as pl
import pytest
import scipy.special

from irec_jax import Recommender
from irec_jax.batches.pipeline import encode_prompt
from irec_jax.decoding.beam import DecodeConfig
from irec_jax.decoding.exhaustive import catalog_scores
from irec_jax.decoding.score import score_items
from irec_jax.decoding.steps import PromptTokens
from irec_jax.errors import InputError
from irec_jax.instructions.forms import Intention, Preference, Scenario, TaskForm
from irec_jax.recommendation.recommender import Extras
from irec_jax.run_checksums import Sources, write_checksums

HISTORY = ["i3", "blue tent 12", 7]


def ids(answer):
    return [one.item for one in answer]


def order_by_score(recommender, scores, allowed):
    """Items as an answer should list them: by score, of equal titles only the first."""
    seen, listed = set(), []
    for item in sorted(np.flatnonzero(allowed).tolist(), key=lambda item: -scores[item]):
        if recommender.catalog.titles[item] not in seen:
            seen.add(recommender.catalog.titles[item])
            listed.append(f"i{item}")
    return listed


def test_an_answer_holds_new_distinct_items_best_first(recommender):
    answer = recommender.recommend(HISTORY, "something light", k=6, exclude=["i5"])
    assert len(answer) == len(set(ids(answer))) == 6
    assert not {"i3", "i12", "i7", "i5"} & set(ids(answer))
    assert [one.rank for one in answer] == [1, 2, 3, 4, 5, 6]
    assert (np.diff([one.score for one in answer]) <= 0).all()
    titles = recommender.catalog.table["title"].to_list()
    assert all(one.title == titles[one.number] for one in answer)


@pytest.mark.parametrize("method", ["beam", "exhaustive"])
def test_all_that_is_left_comes_in_the_order_of_the_full_ranking(run_of, kind, method):
    recommender = Recommender.load(run_of(kind), DecodeConfig(method, beams=8, batch=4))
    request = recommender.request(HISTORY)
    scores = recommender.rank([request]).scores[0]
    answer = recommender.recommend(HISTORY, k=50)
    assert ids(answer) == order_by_score(recommender, scores, np.isfinite(scores))
    assert len(answer) == 24 - 3 - 1, "all but the history and one of the two twins"
    best = [scores[one.number] for one in answer]
    np.testing.assert_allclose([one.score for one in answer], best, atol=1e-4)


def test_a_narrow_beam_widens_until_it_is_certain(run_of):
    recommender = Recommender.load(run_of("title"), DecodeConfig(beams=2, batch=4))
    for history in (["i1"], ["i20", "i4"], ["i9"]):
        scores = recommender.rank([recommender.request(history)]).scores[0]
        best = order_by_score(recommender, scores, np.isfinite(scores))
        answer = recommender.recommend(history, k=2)
        assert ids(answer) == best[:2]
        assert all(one.certain for one in answer)


def test_a_beam_that_may_not_widen_says_what_it_is_certain_of(run_of):
    recommender = Recommender.load(run_of("title"), DecodeConfig(beams=2, widest=2, batch=4))
    doubts = 0
    for item in range(12):
        scores = recommender.rank([recommender.request([item])]).scores[0]
        best = order_by_score(recommender, scores, np.isfinite(scores))
        answer = recommender.recommend([item], k=2)
        assert len(answer) == 2
        certain = [one.item for one in answer if one.certain]
        assert certain == best[: len(certain)]
        doubts += len(answer) - len(certain)
    assert doubts, "two beams of random weights cannot be certain of every answer"


@pytest.mark.parametrize(
    "where",
    [
        "price < 80",
        pl.col("price") < 80,
        lambda item: item["price"] is not None and item["price"] < 80,
    ],
    ids=["text", "polars", "function"],
)
def test_a_condition_is_honored_inside_the_search(recommender, where):
    answer = recommender.recommend(["i3"], k=7, where=where)
    assert sorted(ids(answer)) == ["i0", "i1", "i2", "i4", "i5", "i6", "i7"]


def test_ranking_scores_each_request_as_if_it_were_alone(recommender):
    asked = [
        recommender.request(HISTORY),
        recommender.request((), "a blue jacket"),
        recommender.request(["i1"], "lighter, for the family"),
        recommender.request(list(range(20)), "long " * 30),
        recommender.request(["i2"]),
    ]
    ranking = recommender.rank(asked)
    index = recommender._writer.index
    longest = int(np.diff(index.offsets).max())
    sequences = np.zeros((1, 24, longest), np.int32)
    for item in range(24):
        sequences[0, item, : len(index.sequence(item))] = index.sequence(item)
    for request, scores in zip(asked, ranking.scores, strict=True):
        text = recommender._wording.prompt(request)
        prompt = np.array([encode_prompt(text, recommender._writer, 64)], np.int32)
        padded = np.pad(prompt, ((0, 0), (0, 64 - prompt.shape[1])))
        prompts = PromptTokens(padded, (np.arange(64)[None] < prompt.shape[1]).astype(np.int32))
        truth = score_items(recommender._structure, recommender._params, prompts, sequences)
        allowed = np.isin(np.arange(24), request.exclude, invert=True)
        np.testing.assert_allclose(scores[allowed], np.asarray(truth[0])[allowed], atol=1e-4)
        assert np.isneginf(scores[~allowed]).all()


def test_ranking_compiles_a_few_shapes_whatever_is_asked(run_of):
    recommender = Recommender.load(run_of("atomic"))
    catalog_scores.clear_cache()
    rng = np.random.default_rng(0)
    requests = [
        recommender.request(rng.integers(0, 24, rng.integers(1, 20)).tolist(), "light " * length)
        for length in range(1, 40)
    ]
    assert recommender.rank(requests).scores.shape == (39, 24)
    for request in requests[:5]:
        recommender.rank([request])
    assert catalog_scores._cache_size() <= 6, "3 lengths of prompts times 2 sizes of batches"
    assert recommender.rank([]).scores.shape == (0, 24)


def test_what_is_given_decides_the_scenario(recommender):
    def scenario(**given):
        return recommender.request(**given).scenario

    assert scenario(history=["i1"]) == Scenario(
        Preference.IMPLICIT, Intention.NONE, TaskForm.MATCHING
    )
    assert scenario(instruction="a hat").preference is Preference.NONE
    both = scenario(history=["i1"], instruction="a hat")
    assert both == Scenario(Preference.IMPLICIT, Intention.SPECIFIC, TaskForm.MATCHING)
    with pytest.raises(InputError, match="neither a history nor an instruction"):
        recommender.request((), " \n ")


def test_diversity_changes_the_list_and_keeps_it_legal(run_of):
    run = run_of("atomic")
    plain = Recommender.load(run).recommend(["i3"], k=6)
    mixed = Recommender.load(run, DecodeConfig(beams=8, batch=4, diversity=0.9))
    answer = mixed.recommend(["i3"], k=6)
    categories = mixed.catalog.categories

    def kinds(listed):
        return len({name for one in listed for name in categories[one.number]})

    assert len(set(ids(answer))) == 6
    assert answer[0] == plain[0]
    assert kinds(answer) >= kinds(plain)


def test_an_explanation_accounts_for_all_probability(recommender):
    answer = recommender.recommend(["i3", "i4"], "a blue hat", k=50)
    told = recommender.explain(answer, ["i3", "i4"], "a blue hat")
    assert "a blue hat" in told.prompt
    assert told.scenario == "implicit-specific-matching"
    assert (told.allowed, told.excluded) == (22, 2)
    scores = recommender.rank([recommender.request(["i3", "i4"], "a blue hat")]).scores[0]
    scores = scores.astype(np.float64)
    share = scipy.special.softmax(scores)
    assert 0 < told.mass < 1
    np.testing.assert_allclose(told.mass, np.exp(scores).sum(), rtol=1e-4)
    for one, reason in zip(answer, told.reasons, strict=True):
        np.testing.assert_allclose(reason.share, share[one.number], rtol=1e-3)
        np.testing.assert_allclose(reason.log_probability, one.score, atol=1e-4)
        assert reason.place == 1 + (scores > scores[one.number]).sum()
    by_item = {one.item: reason for one, reason in zip(answer, told.reasons, strict=True)}
    assert by_item["i7"].shared_categories == ("black", "shoe")
    assert by_item["i21"].shared_categories == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"history": ["blue tent 13"]}, r"Did you mean 'blue tent 12' \(i12\)"),
        ({"history": ["i99"]}, "no item with the id or title 'i99'"),
        ({"history": [24]}, "no item number 24"),
        ({"history": ["green tea pot 22"]}, "2 items are titled [^~]* i22, i23"),
        ({"history": ["i1"], "exclude": ["hut"]}, "exclude: there is no item"),
        ({"history": ["i1"], "where": "prize < 80"}, "no column 'prize'[^~]*'price'"),
        ({"history": ["i1"], "where": "price <"}, "where: the condition ends too early"),
        ({"history": ["i1"], "where": "price"}, "where: the condition ends too early"),
        ({"history": ["i1"], "where": pl.col("price")}, "must be of type `Boolean`"),
        ({"history": ["i1"], "where": "price > 9000"}, "no item may be returned: 0 of 24"),
        ({"history": ["i1"], "k": 0}, "0 recommendations"),
        ({"instruction": ""}, "neither a history nor an instruction"),
    ],
)
def test_a_request_that_cannot_be_answered_is_told_so(run_of, given, message):
    with pytest.raises(InputError, match=message):
        Recommender.load(run_of("atomic")).recommend(**given)


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        ("config.json", "the run has no config.json"),
        ("catalog.parquet", "catalog.parquet: the file is missing"),
        ("tokens", "the file is missing"),
        ("tokens/index.npz", r"index.npz: the file is missing"),
        ("checksums.json", "the run has no checksums.json"),
        ("checkpoints", "checkpoints: no checkpoint"),
    ],
)
def test_a_run_without_one_of_its_pieces_is_refused(run_of, tmp_path, piece, message):
    run = tmp_path / "run"
    shutil.copytree(run_of("title"), run)
    gone = run / piece
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(InputError, match=message) as error:
        Recommender.load(run)
    assert error.value.hint


def test_parts_of_different_runs_are_refused(run_of, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_of("title"), run)
    pl.read_parquet(run / "catalog.parquet").head(20).write_parquet(run / "catalog.parquet")
    write_checksums(run, Sources(log={}, catalog="", teacher=""))
    with pytest.raises(InputError, match=r"24 items in tokens/, 20 in catalog\.parquet"):
        Recommender.load(run)
    (run / "catalog.parquet").write_bytes(b"PAR1 no")
    write_checksums(run, Sources(log={}, catalog="", teacher=""))
    with pytest.raises(InputError, match="cannot be read"):
        Recommender.load(run)
    (run / "config.json").write_text("{}")
    with pytest.raises(InputError, match="sections instructions, tokens, model, decode"):
        Recommender.load(run)
    with pytest.raises(InputError, match="there is no such run folder"):
        Recommender.load(tmp_path / "runn")


def test_settings_can_be_replaced_when_loading(run_of):
    recommender = Recommender.load(run_of("atomic"), DecodeConfig(beams=3))
    assert recommender.settings.decode == dataclasses.replace(DecodeConfig(), beams=3)


def test_a_taste_that_is_told_and_a_moment_are_in_the_prompt(recommender):
    told = Extras(preference="likes\n quiet colors", context="on a winter evening")
    request = recommender.request(HISTORY, "I want a hat", told=told)
    assert request.scenario == Scenario(Preference.EXPLICIT, Intention.SPECIFIC, TaskForm.MATCHING)
    answer = recommender.recommend(HISTORY, "I want a hat", k=3, told=told)
    prompt = recommender.explain(answer, HISTORY, "I want a hat", told=told).prompt
    assert "likes quiet colors" in prompt
    assert "the shopper wants a hat" in prompt, "in the third person, as the model reads it"
    alone = recommender.request((), told=Extras(context="on a winter evening", preference="hats"))
    assert alone.scenario.intention is Intention.NONE
    recommender.recommend((), told=Extras(preference="hats"))
    with pytest.raises(InputError, match="no pack is in the language 'zh'"):
        recommender.recommend(HISTORY, told=Extras(language="zh"))


def test_a_request_with_candidates_ranks_those_alone(recommender):
    scenario = Scenario(Preference.IMPLICIT, Intention.NONE, TaskForm.RERANKING)
    request = recommender.request(HISTORY)
    offered = dataclasses.replace(request, scenario=scenario, candidates=(9, 2, 17))
    scores = recommender.rank([offered, request]).scores
    assert np.flatnonzero(np.isfinite(scores[0])).tolist() == [2, 9, 17]
    assert np.isfinite(scores[1]).sum() == 21
    asked = dataclasses.replace(scenario, form=TaskForm.POINTWISE)
    with pytest.raises(InputError, match="pointwise request ranks nothing"):
        recommender.rank([dataclasses.replace(offered, scenario=asked, candidates=(9,))])
