"""The next item comes from the distribution that the world states, and nothing ranks better."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax

from irec_jax.errors import InputError
from irec_jax.log.item_draws import sample_items
from irec_jax.log.simulate import SimulateConfig, SimulatedWorld
from irec_jax.log.taste import (
    BRAND_FOLLOWS,
    CATEGORY_FOLLOWS,
    DAY,
    START,
    VALUE_FOLLOWS,
    EffectStrengths,
)

CONFIG = SimulateConfig(users=500, items=200, seed=11)
STRENGTHS = EffectStrengths(season=1.0, drift=0.3)


class Played:
    """A world and its log as arrays, with the stated distribution at every event."""

    def __init__(self, config: SimulateConfig) -> None:
        self.world = SimulatedWorld.build(config, STRENGTHS)
        events = self.world.log().interactions
        column = {item: place for place, item in enumerate(self.world.item_ids)}
        self.items = np.array([column[item] for item in events["item"]])
        self.users = events["user"].to_numpy()
        self.times = events["time"].to_numpy()
        self.queries = events["query"].to_list()
        starts = np.searchsorted(self.users, self.users)
        self.histories = [
            self.items[first:event] for event, first in zip(range(len(starts)), starts, strict=True)
        ]
        self.truth = self.world.next_item_log_probability(self.users, self.histories, self.times)

    @property
    def of_drawn(self) -> np.ndarray:
        return self.truth[np.arange(len(self.items)), self.items]


@pytest.fixture(scope="module")
def played() -> Played:
    return Played(CONFIG)


def naive_log_probability(
    world: SimulatedWorld, user: int, history: list[int], time: int
) -> np.ndarray:
    """The definition, item by item and part by part."""
    strengths, catalog, domain = world.strengths, world.catalog, world.catalog.domain
    progress = (time - START) / (world.config.days * DAY)
    likes = (1 - progress) * world.tastes.first[user] + progress * world.tastes.last[user]
    scores = []
    for item in range(len(catalog.ids)):
        category, brand = catalog.categories[item], catalog.brands[item]
        score = strengths.popularity * catalog.log_popularity[item]
        score += likes[category] + likes[len(domain.categories) + brand]
        first = len(domain.categories) + len(domain.brands)
        for number, slot in enumerate(domain.slots):
            score += likes[first + catalog.values[item, number]]
            first += len(slot.values)
        leaf = domain.categories[category]
        if leaf.peak:
            months = (time - START) / (365.25 * DAY) * 12 - (leaf.peak - 0.5)
            score += strengths.season * np.cos(2 * np.pi * months / 12)
        for earlier, share in zip(history[::-1], (1, 0.5, 0.25), strict=False):
            bond = 0.0
            if category == catalog.categories[earlier]:
                bond += domain.repeat
            if category in domain.categories[catalog.categories[earlier]].next:
                bond += CATEGORY_FOLLOWS
            bond += BRAND_FOLLOWS * (brand == catalog.brands[earlier])
            for number, slot in enumerate(domain.slots):
                wanted = catalog.values[earlier, number] + (slot.follow == "next")
                bond += VALUE_FOLLOWS * (wanted % len(slot.values) == catalog.values[item, number])
            score += strengths.continuation * share * bond
        scores.append(-np.inf if item in history else score)
    return log_softmax(np.array(scores))


def test_the_distribution_is_the_one_of_its_definition(played: Played):
    for event in (0, 1, 2, 7, 200, 4_000):
        expected = naive_log_probability(
            played.world,
            int(played.users[event]),
            played.histories[event].tolist(),
            int(played.times[event]),
        )
        np.testing.assert_allclose(played.truth[event], expected, atol=2e-4)


def test_probabilities_sum_to_one_and_the_history_has_none(played: Played):
    np.testing.assert_allclose(np.exp(played.truth).sum(1), 1, rtol=1e-5)
    for row, history in zip(played.truth, played.histories, strict=True):
        assert (row[history] == -np.inf).all()
        assert np.isfinite(row).sum() == len(row) - len(history)


def test_drawn_items_are_as_surprising_as_the_entropy_says(played: Played):
    p = np.exp(played.truth)
    logs = np.where(p > 0, played.truth, 0)
    entropy = -(p * logs).sum(1)
    spread = (p * logs**2).sum(1) - entropy**2
    z = (-played.of_drawn - entropy).sum() / np.sqrt(spread.sum())
    assert abs(z) < 3.5


def test_drawn_items_lie_evenly_in_the_cumulative_distribution(played: Played):
    p = np.exp(played.truth.astype(np.float64))
    rows = np.arange(len(p))
    upto = np.cumsum(p, axis=1)[rows, played.items]
    luck = np.random.default_rng(0).random(len(p))
    assert stats.kstest(upto - luck * p[rows, played.items], "uniform").pvalue > 1e-3


@pytest.mark.parametrize("items", [1, 31, 32, 33, 200])
def test_picks_follow_the_odds(items: int):
    rng = np.random.default_rng(items)
    odds = rng.gamma(0.5, size=items).astype(np.float32)
    odds[::7] = 0
    odds[-1] = 1
    exact = odds.astype(np.float64)
    luck = rng.random(100_000).astype(np.float32)
    drawn, whole = sample_items(np.repeat(odds[:, None], len(luck), axis=1), luck)
    np.testing.assert_allclose(whole, odds.sum(), rtol=1e-5)
    counts = np.bincount(drawn, minlength=items)
    assert (counts[odds == 0] == 0).all()
    likely = odds > 1e-4
    if likely.sum() > 1:
        share = exact[likely] / exact[likely].sum()
        assert stats.chisquare(counts[likely], share * counts[likely].sum()).pvalue > 1e-3


def test_a_pick_at_either_end_has_odds():
    odds = np.zeros((100, 2), np.float32)
    odds[[5, 70], :] = [[1.0], [3e-7]]
    drawn, _ = sample_items(odds, np.array([0.0, 1.0], np.float32))
    assert drawn[0] == 5
    assert drawn[1] in (5, 70)


def mean_reciprocal_rank(scores: np.ndarray, items: np.ndarray) -> float:
    target = scores[np.arange(len(items)), items][:, None]
    return float((1 / (1 + (scores > target).sum(1))).mean())


def test_nothing_ranks_better_than_the_truth(played: Played):
    best = mean_reciprocal_rank(played.truth, played.items)
    rng = np.random.default_rng(1)
    for scale in (0.5, 1.0, 2.0):
        noisy = played.truth + rng.normal(0, scale, played.truth.shape)
        assert mean_reciprocal_rank(noisy, played.items) < best
    world, users, times = played.world, played.users, played.times
    stranger = world.next_item_log_probability((users + 1) % 500, played.histories, times)
    assert mean_reciprocal_rank(stranger, played.items) < 0.5 * best
    half_a_year = np.where(times < START + 365 * DAY, times + 182 * DAY, times - 182 * DAY)
    off = world.next_item_log_probability(users, played.histories, half_a_year)
    assert mean_reciprocal_rank(off, played.items) < best
    shuffled = [rng.permutation(history) for history in played.histories]
    mixed = world.next_item_log_probability(users, shuffled, times)
    assert mean_reciprocal_rank(mixed, played.items) < 0.9 * best


def test_history_and_query_together_are_calibrated(played: Played):
    asked = [event for event, query in enumerate(played.queries) if query][:1_500]
    likelihood = np.stack([played.world.query_log_likelihood(played.queries[e]) for e in asked])
    both = log_softmax(played.truth[asked].astype(np.float64) + likelihood, axis=1)
    p = np.exp(both)
    logs = np.where(p > 0, both, 0)
    entropy = -(p * logs).sum(1)
    spread = (p * logs**2).sum(1) - entropy**2
    surprise = -both[np.arange(len(asked)), played.items[asked]]
    assert abs((surprise - entropy).sum() / np.sqrt(spread.sum())) < 3.5
    best = mean_reciprocal_rank(both, played.items[asked])
    assert best > mean_reciprocal_rank(played.truth[asked], played.items[asked])
    assert best > mean_reciprocal_rank(likelihood, played.items[asked])


def test_the_prior_is_the_population_of_any_log(played: Played):
    prior = played.world.prior_log_probability()
    assert np.exp(prior).sum() == pytest.approx(1, rel=1e-4)
    counts = np.bincount(played.items, minlength=len(prior))
    assert np.corrcoef(np.exp(prior), counts)[0, 1] > 0.95
    assert prior[played.items].mean() > -np.log(len(prior)) + 0.1
    again = SimulatedWorld.build(CONFIG, STRENGTHS).prior_log_probability()
    np.testing.assert_array_equal(again, prior)


def test_what_follows_is_not_symmetric():
    nothing_else = EffectStrengths(taste=0.0, popularity=0.0, season=0.0)
    world = SimulatedWorld.build(CONFIG, nothing_else)
    names = [leaf.forms[0] for leaf in world.catalog.domain.categories]
    phones, cases = (
        np.nonzero(world.catalog.categories == names.index(name))[0]
        for name in ("phone", "phone case")
    )
    users = np.arange(200)

    def mass(last: np.ndarray, following: np.ndarray) -> float:
        histories = [[int(last[user % len(last)])] for user in users]
        times = np.full(200, START)
        p = np.exp(world.next_item_log_probability(users, histories, times))
        return float(p[:, following].sum(1).mean() / len(following))

    assert mass(phones, cases) > 3 * mass(cases, phones)


def test_seasons_and_popularity_can_be_switched_off():
    world = SimulatedWorld.build(
        SimulateConfig(users=50, items=150), EffectStrengths(season=0.0, drift=0.0, popularity=0.0)
    )
    users, nothing = np.arange(50), [[]] * 50
    january = world.next_item_log_probability(users, nothing, np.full(50, START))
    july = world.next_item_log_probability(users, nothing, np.full(50, START + 180 * DAY))
    np.testing.assert_allclose(january, july, atol=1e-5)
    plain = SimulatedWorld.build(
        SimulateConfig(users=2, items=150), EffectStrengths(taste=0.0, season=0.0, popularity=0.0)
    )
    flat = plain.next_item_log_probability(np.arange(2), [[], []], np.full(2, START))
    np.testing.assert_allclose(flat, -np.log(150), atol=1e-4)


def test_now_is_the_end_of_the_log(played: Played):
    users, history = np.array([4]), [[1, 2]]
    end = START + CONFIG.days * DAY
    np.testing.assert_array_equal(
        played.world.next_item_log_probability(users, history, np.array([-1])),
        played.world.next_item_log_probability(users, history, np.array([end])),
    )


@pytest.mark.parametrize(("user", "history"), [(500, []), (-1, []), (0, [200]), (0, [-1])])
def test_strangers_and_unknown_items_are_refused(played: Played, user: int, history: list[int]):
    with pytest.raises(InputError, match="not in this world"):
        played.world.next_item_log_probability(np.array([user]), [history], np.array([START]))


def test_defaults_make_a_good_instrument():
    """Taste over content decides: counting gets less than half of what can be had."""
    played = Played(SimulateConfig(users=2_000))
    last = np.nonzero(np.diff(played.users, append=-1))[0]
    targets = played.items[last]
    train = np.delete(np.arange(len(played.items)), np.concatenate([last, last - 1]))
    popular = np.bincount(played.items[train], minlength=1_000).astype(float)
    pairs = np.zeros((1_000, 1_000))
    for gap in range(1, 11):
        earlier, later = train[:-gap], train[gap:]
        same = (played.users[earlier] == played.users[later]) & (later - earlier == gap)
        np.add.at(pairs, (played.items[earlier[same]], played.items[later[same]]), 1 / gap)
    markov = sum(pairs[played.items[last - back]] / back for back in (1, 2, 3)) + 1e-6 * popular
    recall = {}
    tables = {"truth": played.truth[last], "markov": markov, "popular": popular[None] + 0 * markov}
    for name, scores in tables.items():
        scores = np.where(np.isfinite(played.truth[last]), scores, -np.inf)
        target = scores[np.arange(len(last)), targets][:, None]
        recall[name] = float(((scores > target).sum(1) < 10).mean())
    assert 0.5 < recall["truth"] < 0.68, recall
    assert recall["truth"] / 4 < recall["markov"] < recall["truth"] / 2, recall
    assert recall["popular"] < recall["markov"] / 2, recall
