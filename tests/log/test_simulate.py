"""The log that a world gives: the same again from the same seed, and like a real one."""

import dataclasses
import io
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from irec_jax.errors import InputError
from irec_jax.log.domain import load_domain
from irec_jax.log.event_times import draw_counts, draw_times
from irec_jax.log.events import BehaviorLog
from irec_jax.log.simulate import SimulateConfig, SimulatedWorld
from irec_jax.log.taste import DAY, START, EffectStrengths

pytestmark = pytest.mark.fast

DOMAINS = ("shop", "content", "social", "finance")
SMALL = SimulateConfig(users=150, items=120, seed=3)


def table_bytes(log: BehaviorLog) -> bytes:
    memory = io.BytesIO()
    log.items.write_ipc(memory)
    log.interactions.write_ipc(memory)
    return memory.getvalue()


@pytest.fixture(scope="module")
def log() -> BehaviorLog:
    return SimulatedWorld.build(SMALL).log()


def test_the_same_seed_gives_the_same_bytes(log: BehaviorLog):
    assert table_bytes(SimulatedWorld.build(SMALL).log()) == table_bytes(log)


def test_another_seed_gives_another_log(log: BehaviorLog):
    other = SimulatedWorld.build(dataclasses.replace(SMALL, seed=4)).log()
    assert other.items["title"].to_list() != log.items["title"].to_list()
    assert other.interactions["time"].to_list() != log.interactions["time"].to_list()


def test_a_world_is_rebuilt_from_the_manifest_of_a_saved_log(log: BehaviorLog, tmp_path):
    log.save(tmp_path / "log")
    manifest = BehaviorLog.load(tmp_path / "log").manifest
    assert manifest.source == "simulated"
    world = SimulatedWorld.build(SimulateConfig(**manifest.settings["simulate"]))
    assert world.item_ids == tuple(log.items["item"])
    assert table_bytes(world.log()) == table_bytes(log)


def test_more_users_leave_the_catalog_as_it_is():
    other = SimulatedWorld.build(dataclasses.replace(SMALL, users=10))
    assert other.items().equals(SimulatedWorld.build(SMALL).items())


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("items", [100, 3_000])
def test_titles_are_distinct_and_of_4_to_15_words(domain: str, items: int):
    config = SimulateConfig(domain=domain, users=1, items=items)
    titles = SimulatedWorld.build(config).catalog.titles
    assert len(set(titles)) == items
    lengths = [len(title.split()) for title in titles]
    assert 4 <= min(lengths) <= max(lengths) <= 15
    assert not any(character in title for title in titles for character in "{}\n")
    assert all(title == " ".join(title.split()) and title[0].isupper() for title in titles)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_gives_a_log(domain: str):
    log = SimulatedWorld.build(SimulateConfig(domain=domain, users=40, items=100)).log()
    counts = log.interactions.group_by("user").len()["len"]
    assert counts.len() == 40
    assert counts.min() >= 8
    assert counts.max() <= 60
    assert all(len(path) == 2 for path in log.items["categories"])
    assert set(log.interactions["event"]) == {load_domain(domain).event, "review"}


@pytest.mark.parametrize("domain", DOMAINS)
def test_words_of_a_domain_mean_one_thing_each(domain: str):
    data = load_domain(domain)
    facets = [form.lower() for slot in data.slots for forms in slot.values for form in forms]
    nouns = [form.lower() for leaf in data.categories for form in leaf.forms]
    assert len(set(facets + nouns)) == len(facets + nouns)
    assert all(len(forms) >= 5 for slot in data.slots for forms in slot.values)
    assert all(leaf.next and number not in leaf.next for number, leaf in enumerate(data.categories))


@pytest.mark.parametrize("domain", DOMAINS)
def test_queries_do_not_repeat_the_title(domain: str):
    world = SimulatedWorld.build(SimulateConfig(domain=domain, users=300, items=300))
    data = world.catalog.domain
    patterns = [word for lines in data.queries.values() for line in lines for word in line.split()]
    empty = {"the", "a", "of", "for", "in", "on", "and", "to", "with", "my", *patterns}
    titles = dict(zip(world.item_ids, world.catalog.titles, strict=True))
    asked = world.log().interactions.drop_nulls("query")
    repeated = total = 0
    for item, query in asked.select("item", "query").iter_rows():
        title = set(titles[item].lower().replace(",", "").replace(":", "").split())
        content = [word for word in query.split() if word not in empty]
        repeated += sum(word in title for word in content)
        total += len(content)
    assert total > 3 * asked.height * 0.9
    assert repeated / total <= 0.25


def test_no_user_gets_an_item_twice_and_times_rise(log: BehaviorLog):
    events = log.interactions
    assert not events.select("user", "item").is_duplicated().any()
    rising = events.group_by("user").agg((pl.col("time").diff().drop_nulls() > 0).all())
    assert rising["time"].all()
    assert events["time"].min() >= START
    assert events["time"].max() < START + SMALL.days * DAY


def test_shares_of_queries_reviews_and_intentions_follow_the_config():
    config = dataclasses.replace(SMALL, query_share=0.4, review_share=0.2)
    events = SimulatedWorld.build(config).log().interactions
    asked = events["query"].is_not_null()
    assert asked.mean() == pytest.approx(0.4, abs=0.03)
    assert (events.filter(asked)["intention"] == "specific").mean() == pytest.approx(0.5, abs=0.04)
    assert events["review"].is_not_null().mean() == pytest.approx(0.2, abs=0.03)
    assert events["review"].is_null().equals(events["rating"].is_null())
    assert events.filter(~asked)["intention"].null_count() == (~asked).sum()
    assert set(events["rating"].drop_nulls()) <= {1.0, 2.0, 3.0, 4.0, 5.0}


def test_ratings_rise_with_the_match_of_taste_and_item():
    world = SimulatedWorld.build(dataclasses.replace(SMALL, users=600, review_share=1.0))
    events = world.log().interactions
    column = {item: place for place, item in enumerate(world.item_ids)}
    items = np.array([column[item] for item in events["item"]])
    users = events["user"].to_numpy()
    taste = world.dynamics.taste(world.tastes, users, events["time"].to_numpy())
    joy = np.take_along_axis(taste, world.dynamics.features[items], axis=1).sum(1)
    assert np.corrcoef(joy, events["rating"].to_numpy())[0, 1] > 0.6


def test_numbers_of_events_have_the_mean_and_sessions_are_short():
    rng = np.random.default_rng(0)
    counts = draw_counts(rng, 20_000, 20.0)
    assert counts.mean() == pytest.approx(20, abs=0.5)
    assert (counts.min(), counts.max()) == (8, 60)
    times = draw_times(rng, counts, 730)
    same_user = np.diff(np.repeat(np.arange(20_000), counts)) == 0
    gaps = np.diff(times)[same_user]
    assert gaps.min() >= 1
    assert 0.4 < (gaps < 1_800).mean() < 0.7, "about half of the events are within a session"
    months = np.unique((times - START) // (30 * DAY))
    assert len(months) >= 24, "the log is spread over two years"


def test_extreme_settings_still_give_a_log():
    strengths = EffectStrengths(taste=3.0, continuation=3.0, popularity=3.0, season=3.0)
    strong = SimulateConfig(users=30, items=100, events_per_user=40.0)
    log = SimulatedWorld.build(strong, strengths).log()
    assert not log.interactions.select("user", "item").is_duplicated().any()
    silent = SimulateConfig(
        users=1, items=100, events_per_user=8.0, query_share=0.0, review_share=0.0
    )
    events = SimulatedWorld.build(silent).log().interactions
    assert events.height == 8
    assert events["query"].null_count() == events["review"].null_count() == 8


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("users", 0),
        ("items", 50),
        ("events_per_user", 3.0),
        ("events_per_user", float("nan")),
        ("events_per_user", 100.0),
        ("query_share", 1.5),
        ("seed", -1),
    ],
)
def test_impossible_settings_are_refused_by_name(setting: str, value: object):
    with pytest.raises(InputError, match=rf"data\.simulate\.{setting}"):
        SimulateConfig(**{setting: value})  # pyright: ignore[reportArgumentType]


def test_an_unknown_domain_is_refused_with_the_nearest_name():
    # Outside of tests no annotation is checked, so the setting itself must refuse.
    program = (
        "from irec_jax.errors import InputError\n"
        "from irec_jax.log.simulate import SimulateConfig\n"
        "try: SimulateConfig(domain='contents')\n"
        "except InputError as error: print(error)"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert process.stdout.startswith("data.simulate.domain: 'contents' is not possible")
    assert "Did you mean 'content'?" in process.stdout
