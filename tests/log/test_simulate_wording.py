"""The likelihood of a query is exact: it equals brute force over everything that can be said."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
from scipy import stats

from irec_jax.log.domain import DomainData, parse_domain
from irec_jax.log.query_grammar import TITLE_FORM_PROBABILITY, QueryGrammar
from irec_jax.log.simulate import SimulateConfig, SimulatedWorld
from irec_jax.log.simulated_catalog import SimulatedCatalog, build_catalog

# Small enough to list all texts; "red box" is one color, or a color and a noun, and "good for home"
# is said of a size and a group, or of an occasion: some texts can be read in two ways.
TINY = {
    "prefix": "T",
    "event": "view",
    "repeat": 0.0,
    "brands": ["Red", "Zed"],
    "lines": ["One", "Two"],
    "titles": ["{brand} {color} {size} {noun}"],
    "queries": {
        "specific": ["{facet} {noun}", "{brand} {facet} and {facet}", "{noun} {facet} {facet}"],
        "group": ["{facet} for {group}"],
        "occasion": ["{occasion}", "good for {occasion}"],
    },
    "reviews": {"good": ["nice {noun}"], "bad": ["not {facet}"]},
    "slots": [
        {
            "name": "color",
            "follow": "same",
            "values": [["red", "rosy", "red box"], ["blue", "sky"]],
        },
        {"name": "size", "follow": "next", "values": [["big", "large"], ["small", "tiny", "good"]]},
    ],
    "departments": [
        {
            "forms": ["home", "red"],
            "categories": [
                {"forms": ["box", "crate", "chest"], "price": 3, "next": ["bag"]},
                {"forms": ["bag", "sack"], "price": 4, "next": ["box"]},
            ],
        },
        {"forms": ["work"], "categories": [{"forms": ["pen", "biro"], "next": ["box"]}]},
    ],
    "occasions": [
        {"forms": ["moving", "home"], "categories": ["box", "bag"], "values": ["red", "big"]},
        {"forms": ["exams"], "categories": ["pen", "box"], "values": ["small"]},
    ],
}
SPECIFIC = 0.6


@pytest.fixture(scope="module")
def grammar() -> QueryGrammar:
    return QueryGrammar(build_catalog(parse_domain(TINY), 12, seed=5), SPECIFIC)


def form_chances(forms: tuple[str, ...], in_title: int) -> dict[str, float]:
    rest = (1 - TITLE_FORM_PROBABILITY) / (len(forms) - 1)
    return {
        text: TITLE_FORM_PROBABILITY if form == in_title else rest
        for form, text in enumerate(forms)
    }


def everything_sayable(
    catalog: SimulatedCatalog, domain: DomainData, item: int
) -> dict[str, float]:
    """All queries of an item with their probabilities, by listing every choice."""
    category = domain.categories[catalog.categories[item]]
    noun = form_chances(category.forms, catalog.forms[item, -1])
    facets = [
        form_chances(slot.values[catalog.values[item, n]], catalog.forms[item, n])
        for n, slot in enumerate(domain.slots)
    ]
    group = domain.departments[category.department]
    needs = [
        form
        for need in domain.occasions
        if catalog.categories[item] in need.categories
        and any((slot, catalog.values[item, slot]) in need.values for slot in (0, 1))
        for form in need.forms
    ]
    vague = {"occasion": 0.5, "group": 0.5} if needs else {"group": 1.0}
    kinds = {"specific": SPECIFIC} | {kind: (1 - SPECIFIC) * p for kind, p in vague.items()}
    said: dict[str, float] = defaultdict(float)
    orders = list(itertools.permutations(range(len(facets))))
    for kind, share in kinds.items():
        for pattern in domain.queries[kind]:
            for order in orders:
                remaining = iter(order)
                choices = []
                for word in pattern.split():
                    choices.append(
                        {
                            "{noun}": lambda: noun,
                            "{facet}": lambda left=remaining: facets[next(left)],
                            "{brand}": lambda: {domain.brands[catalog.brands[item]].lower(): 1.0},
                            "{group}": lambda: {form: 1 / len(group) for form in group},
                            "{occasion}": lambda: {form: 1 / len(needs) for form in needs},
                        }.get(word, lambda word=word: {word: 1.0})()
                    )
                chance = share / len(domain.queries[kind]) / len(orders)
                for words in itertools.product(*(choice.items() for choice in choices)):
                    text = " ".join(text for text, _ in words)
                    said[text] += chance * float(np.prod([p for _, p in words]))
    return said


def test_the_likelihood_of_every_query_of_every_item_is_exact(grammar: QueryGrammar):
    catalog = grammar.catalog
    tables = [everything_sayable(catalog, catalog.domain, item) for item in range(12)]
    texts = sorted(set().union(*tables))
    assert len(texts) > 100
    total = np.zeros(12)
    for text in texts:
        likelihood = np.exp(grammar.log_likelihood(text))
        expected = [table.get(text, 0.0) for table in tables]
        np.testing.assert_allclose(likelihood, expected, rtol=1e-5, atol=1e-9, err_msg=text)
        total += likelihood
    np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_queries_are_drawn_with_their_likelihood(grammar: QueryGrammar):
    rng = np.random.default_rng(0)
    for item in range(3):
        draws = rng.random((20_000, grammar.max_draws)).tolist()
        counts = Counter(grammar.query(item, chance)[0] for chance in draws)
        expected = everything_sayable(grammar.catalog, grammar.catalog.domain, item)
        assert set(counts) <= set(expected)
        texts = [text for text, p in expected.items() if p * 20_000 >= 10]
        seen = np.array([counts[text] for text in texts] + [0])
        p = np.array([expected[text] for text in texts] + [0.0])
        seen[-1], p[-1] = 20_000 - seen.sum(), 1 - p.sum()
        keep = p > 1e-9
        assert stats.chisquare(seen[keep], 20_000 * p[keep]).pvalue > 1e-3


def test_all_readings_of_a_text_are_summed(grammar: QueryGrammar):
    text = "good for home"  # a group and something of it, or an occasion
    catalog = grammar.catalog
    both = [
        item
        for item in range(12)
        if catalog.occasions[item, 0]
        and catalog.departments[item] == 0
        and "good" in catalog.domain.slots[1].values[catalog.values[item, 1]]
    ]
    assert both, "the tiny catalog has an item with both readings"
    wordings = 2 + catalog.occasions[both, 1]
    occasion_alone = (1 - SPECIFIC) * 0.5 / 2 / wordings
    assert (np.exp(grammar.log_likelihood(text))[both] > occasion_alone * 1.01).all()


@pytest.mark.parametrize("domain", ["shop", "content", "social", "finance"])
def test_drawn_queries_can_be_about_their_item_and_narrow_the_catalog(domain: str):
    world = SimulatedWorld.build(SimulateConfig(domain=domain, users=25, items=1_000))
    events = world.log().interactions.drop_nulls("query")
    column = {item: place for place, item in enumerate(world.item_ids)}
    fits: dict[str, list[int]] = {"specific": [], "vague": []}
    for item, query, intention in events.select("item", "query", "intention").iter_rows():
        likelihood = world.query_log_likelihood(query)
        assert np.isfinite(likelihood[column[item]]), query
        assert likelihood.max() <= 0
        fits[intention].append(int(np.isfinite(likelihood).sum()))
    assert np.median(fits["specific"]) <= 10
    assert 20 <= np.median(fits["vague"]) <= 100


def test_specific_queries_nearly_find_their_item():
    """Product search: the best ranking without a history has NDCG@10 above .7."""
    world = SimulatedWorld.build(SimulateConfig(users=60))
    events = world.log().interactions
    events = events.filter(events["intention"] == "specific")
    column = {item: place for place, item in enumerate(world.item_ids)}
    gains = []
    for item, query in events.select("item", "query").iter_rows():
        scores = world.prior_log_probability() + world.query_log_likelihood(query)
        rank = int((scores > scores[column[item]]).sum())
        gains.append(1 / np.log2(rank + 2) if rank < 10 else 0)
    assert np.mean(gains) > 0.7


@pytest.mark.parametrize("text", ["", "   ", "hello world", "{facet} {noun}", "kettle"])
def test_a_text_outside_the_grammar_is_impossible(text: str):
    likelihood = SimulatedWorld.build(SimulateConfig(users=1, items=100)).query_log_likelihood(text)
    assert likelihood.shape == (100,)
    assert (likelihood == -np.inf).all()


def test_capitals_and_spaces_do_not_matter(grammar: QueryGrammar):
    text = grammar.query(0, [0.1] * grammar.max_draws)[0]
    loud = "  " + text.upper().replace(" ", "   ")
    np.testing.assert_array_equal(grammar.log_likelihood(loud), grammar.log_likelihood(text))
