"""Recommendations of a run folder, and its errors."""

import dataclasses
import shutil

import numpy as np
import polars as pl
import pytest
import scipy.special

from irec_jax import Recommender
from irec_jax.batches.pipeline import encode_prompt
from irec_jax.decoding.config import DecodeConfig
from irec_jax.decoding.exhaustive import catalog_scores
from irec_jax.decoding.score import score_items
from irec_jax.decoding.steps import PromptTokens
from irec_jax.errors import InputError
from irec_jax.instructions.forms import Intention, Preference, Scenario, TaskForm
from irec_jax.recommendation.request_extras import Extras
from irec_jax.run_checksums import Sources, write_checksums

HISTORY = ["i3", "blue tent 12", 7]


def ids(answer):
    return [recommendation.item for recommendation in answer]


def order_by_score(recommender, scores, allowed):
    """Expected items of an answer: by score, of equal titles only the first."""
    seen, expected = set(), []
    for item in sorted(np.flatnonzero(allowed).tolist(), key=lambda item: -scores[item]):
        if recommender.catalog.titles[item] not in seen:
            seen.add(recommender.catalog.titles[item])
            expected.append(f"i{item}")
    return expected


def test_an_answer_holds_new_distinct_items_best_first(recommender):
    answer = recommender.recommend(HISTORY, "something light", k=6, exclude=["i5"])
    assert len(answer) == len(set(ids(answer))) == 6
    assert not {"i3", "i12", "i7", "i5"} & set(ids(answer))
    assert [item.rank for item in answer] == [1, 2, 3, 4, 5, 6]
    assert (np.diff([item.score for item in answer]) <= 0).all()
    titles = recommender.catalog.table["title"].to_list()
    assert all(item.title == titles[item.number] for item in answer)


@pytest.mark.parametrize("method", ["beam", "exhaustive"])
def test_all_allowed_items_are_recommended_in_the_order_of_the_full_ranking(run_of, kind, method):
    recommender = Recommender.load(run_of(kind), DecodeConfig(method, beams=8, batch=4))
    request = recommender.request(HISTORY)
    scores = recommender.rank([request]).scores[0]
    answer = recommender.recommend(HISTORY, k=50)
    assert ids(answer) == order_by_score(recommender, scores, np.isfinite(scores))
    assert len(answer) == 24 - 3 - 1, "all but the history and one of two equal titles"
    best = [scores[item.number] for item in answer]
    np.testing.assert_allclose([item.score for item in answer], best, atol=1e-4)


def test_a_narrow_beam_widens_until_it_is_certain(run_of):
    recommender = Recommender.load(run_of("title"), DecodeConfig(beams=2, batch=4))
    for history in (["i1"], ["i20", "i4"], ["i9"]):
        scores = recommender.rank([recommender.request(history)]).scores[0]
        best = order_by_score(recommender, scores, np.isfinite(scores))
        answer = recommender.recommend(history, k=2)
        assert ids(answer) == best[:2]
        assert all(item.is_certain for item in answer)


def test_a_beam_that_may_not_widen_marks_what_is_certain(run_of):
    recommender = Recommender.load(run_of("title"), DecodeConfig(beams=2, widest=2, batch=4))
    uncertain = 0
    for item in range(12):
        scores = recommender.rank([recommender.request([item])]).scores[0]
        best = order_by_score(recommender, scores, np.isfinite(scores))
        answer = recommender.recommend([item], k=2)
        assert len(answer) == 2
        certain = [item.item for item in answer if item.is_certain]
        assert certain == best[: len(certain)]
        uncertain += len(answer) - len(certain)
    assert uncertain, "two beams of random weights cannot be certain of every answer"


@pytest.mark.parametrize(
    "where",
    [
        "price < 80",
        pl.col("price") < 80,
        lambda item: item["price"] is not None and item["price"] < 80,
    ],
    ids=["text", "polars", "function"],
)
def test_a_condition_is_applied_inside_the_search(recommender, where):
    answer = recommender.recommend(["i3"], k=7, where=where)
    assert sorted(ids(answer)) == ["i0", "i1", "i2", "i4", "i5", "i6", "i7"]


def test_ranking_scores_each_request_as_alone(recommender):
    requests = [
        recommender.request(HISTORY),
        recommender.request((), "a blue jacket"),
        recommender.request(["i1"], "lighter, for the family"),
        recommender.request(list(range(20)), "long " * 30),
        recommender.request(["i2"]),
    ]
    ranking = recommender.rank(requests)
    index = recommender._writer.index
    longest = int(np.diff(index.offsets).max())
    sequences = np.zeros((1, 24, longest), np.int32)
    for item in range(24):
        sequences[0, item, : len(index.sequence(item))] = index.sequence(item)
    for request, scores in zip(requests, ranking.scores, strict=True):
        text = recommender._prompt_writer.prompt(request)
        prompt = np.array([encode_prompt(text, recommender._writer, 64)], np.int32)
        padded = np.pad(prompt, ((0, 0), (0, 64 - prompt.shape[1])))
        prompts = PromptTokens(padded, (np.arange(64)[None] < prompt.shape[1]).astype(np.int32))
        expected = score_items(recommender._structure, recommender._params, prompts, sequences)
        allowed = np.isin(np.arange(24), request.exclude, invert=True)
        np.testing.assert_allclose(scores[allowed], np.asarray(expected[0])[allowed], atol=1e-4)
        assert np.isneginf(scores[~allowed]).all()


def test_ranking_compiles_a_few_shapes_for_any_requests(run_of):
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


def test_the_arguments_decide_the_scenario(recommender):
    def scenario(**arguments):
        return recommender.request(**arguments).scenario

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

    def distinct_categories(items):
        return len({name for item in items for name in categories[item.number]})

    assert len(set(ids(answer))) == 6
    assert answer[0] == plain[0]
    assert distinct_categories(answer) >= distinct_categories(plain)


def test_an_explanation_accounts_for_all_probability(recommender):
    answer = recommender.recommend(["i3", "i4"], "a blue hat", k=50)
    explanation = recommender.explain(answer)
    assert "a blue hat" in explanation.prompt
    assert "a blue hat" in explanation.readable_prompt
    assert "<item_" not in explanation.readable_prompt
    assert explanation.scenario == "implicit-specific-matching"
    assert (explanation.allowed, explanation.excluded) == (22, 2)
    scores = recommender.rank([recommender.request(["i3", "i4"], "a blue hat")]).scores[0]
    scores = scores.astype(np.float64)
    share = scipy.special.softmax(scores)
    assert 0 < explanation.mass < 1
    np.testing.assert_allclose(explanation.mass, np.exp(scores).sum(), rtol=1e-4)
    for item, details in zip(answer, explanation.items, strict=True):
        np.testing.assert_allclose(details.share, share[item.number], rtol=1e-3)
        np.testing.assert_allclose(details.log_probability, item.score, atol=1e-4)
        assert details.rank == 1 + (scores > scores[item.number]).sum()
    by_item = dict(zip(ids(answer), explanation.items, strict=True))
    assert by_item["i7"].shared_categories == ("black", "shoe")
    assert by_item["i21"].shared_categories == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
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
        ({"history": ["i1"], "k": 0}, "k: must be at least 1, got 0"),
        ({"instruction": ""}, "neither a history nor an instruction"),
    ],
)
def test_an_impossible_request_is_refused(run_of, arguments, message):
    with pytest.raises(InputError, match=message):
        Recommender.load(run_of("atomic")).recommend(**arguments)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("config.json", "the run has no config.json"),
        ("catalog.parquet", "catalog.parquet: the file is missing"),
        ("tokens", "the file is missing"),
        ("tokens/index.npz", r"index.npz: the file is missing"),
        ("checksums.json", "the run has no checksums.json"),
        ("checkpoints", "checkpoints: no checkpoint"),
    ],
)
def test_a_run_without_one_of_its_parts_is_refused(run_of, tmp_path, part, message):
    run = tmp_path / "run"
    shutil.copytree(run_of("title"), run)
    path = run / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
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
    with pytest.raises(
        InputError, match="sections instructions, tokens, model, decode are missing"
    ):
        Recommender.load(run)
    with pytest.raises(InputError, match="there is no such run folder"):
        Recommender.load(tmp_path / "runn")


def test_settings_can_be_replaced_when_loading(run_of):
    recommender = Recommender.load(run_of("atomic"), DecodeConfig(beams=3))
    assert recommender.settings.decode == dataclasses.replace(DecodeConfig(), beams=3)


def test_preference_and_context_are_in_the_prompt(recommender):
    extras = Extras(preference="likes\n quiet colors", context="on a winter evening")
    request = recommender.request(HISTORY, "I want a hat", extras=extras)
    assert request.scenario == Scenario(Preference.EXPLICIT, Intention.SPECIFIC, TaskForm.MATCHING)
    answer = recommender.recommend(HISTORY, "I want a hat", k=3, extras=extras)
    prompt = recommender.explain(answer).prompt
    assert "likes quiet colors" in prompt
    assert "I want a hat" in prompt, "in the user's own words"
    alone = recommender.request((), extras=Extras(context="on a winter evening", preference="hats"))
    assert alone.scenario.intention is Intention.NONE
    recommender.recommend((), extras=Extras(preference="hats"))
    with pytest.raises(InputError, match="no pack is in the language 'zh'"):
        recommender.recommend(HISTORY, extras=Extras(language="zh"))


def test_a_request_with_candidates_ranks_them_alone(recommender):
    scenario = Scenario(Preference.IMPLICIT, Intention.NONE, TaskForm.RERANKING)
    request = recommender.request(HISTORY)
    reranking = dataclasses.replace(request, scenario=scenario, candidates=(9, 2, 17))
    scores = recommender.rank([reranking, request]).scores
    assert np.flatnonzero(np.isfinite(scores[0])).tolist() == [2, 9, 17]
    assert np.isfinite(scores[1]).sum() == 21
    pointwise = dataclasses.replace(scenario, form=TaskForm.POINTWISE)
    with pytest.raises(InputError, match="a pointwise request has no ranking"):
        recommender.rank([dataclasses.replace(reranking, scenario=pointwise, candidates=(9,))])


@pytest.mark.parametrize("item", ["i3", "blue tent 12", 7])
def test_one_item_needs_no_list(recommender, item):
    assert recommender.recommend(item, k=3) == recommender.recommend([item], k=3)
    answer = recommender.recommend(instruction="something light", exclude=item, k=20)
    assert answer == recommender.recommend(instruction="something light", exclude=[item], k=20)
