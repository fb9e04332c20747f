import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.log.events import BehaviorLog, LogManifest
from irec_jax.log.kcore import filter_core
from irec_jax.log.readers.movietweetings import read_movietweetings
from irec_jax.log.split import Role, SplitConfig, SplitProtocol, split_log

pytestmark = pytest.mark.fast

PROTOCOLS = list(SplitProtocol)


def make_log(triples, *, spare_items=0, unit="seconds", **columns):
    """A log of (user, item number, time) triples, in that order."""
    users, items, times = zip(*triples, strict=True)
    names = sorted({f"i{item}" for item in items} | {f"spare{n}" for n in range(spare_items)})
    catalog = pl.DataFrame(
        {
            "item": names,
            "title": [f"thing {name}" for name in names],
            "categories": [["x"]] * len(names),
        }
    )
    events = pl.DataFrame(
        {
            "user": users,
            "item": [f"i{item}" for item in items],
            "time": times,
            "event": ["view"] * len(users),
        }
        | columns
    )
    return BehaviorLog.assemble(catalog, events, LogManifest("test", settings={"time": unit}))


# Plain triples and not logs: building a log inside a strategy would draw random numbers there.
triples = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 20)), min_size=1, max_size=60
)


def try_split(log, config, seed=0):
    try:
        return split_log(log, config, seed)
    except InputError as error:
        if "no user is left" in error.problem or "no event is before" in error.problem:
            return None
        raise


configs = st.builds(
    SplitConfig,
    protocol=st.sampled_from(PROTOCOLS),
    core=st.integers(1, 3),
    cut=st.floats(0.3, 0.9),
)


def slow_core(pairs, core):
    """Drops one user or item at a time, the way the definition reads."""
    pairs = list(enumerate(pairs))
    while True:
        users = [u for _, (u, _) in pairs]
        items = [i for _, (_, i) in pairs]
        rare_user = next((u for u in users if users.count(u) < core), None)
        rare_item = next((i for i in items if items.count(i) < core), None)
        if rare_user is not None:
            pairs = [p for p in pairs if p[1][0] != rare_user]
        elif rare_item is not None:
            pairs = [p for p in pairs if p[1][1] != rare_item]
        else:
            return {place for place, _ in pairs}


@given(st.lists(st.tuples(st.integers(-3, 8), st.integers(0, 8)), max_size=50), st.integers(1, 4))
def test_core_equals_the_definition(pairs, core):
    users = np.array([u for u, _ in pairs], np.int64)
    items = np.array([i for _, i in pairs], np.int64)
    assert set(np.flatnonzero(filter_core(users, items, core))) == slow_core(pairs, core)


@settings(deadline=None)
@given(triples, configs)
def test_a_split_keeps_its_promises(triples, config):
    log = make_log(triples, spare_items=2)
    split = try_split(log, config)
    if split is None:
        return
    assert split.offsets[0] == 0
    assert split.offsets[-1] == len(split.items) == len(split.roles) == len(split.queries)
    assert (np.diff(split.offsets) > 0).all()
    assert (np.diff(split.users) > 0).all()
    assert split.catalog["item"].is_unique().all()
    assert ((split.items >= 0) & (split.items < split.num_items)).all()
    owners = split.event_users()
    same = owners[1:] == owners[:-1]
    assert (np.diff(split.times)[same] >= 0).all()
    # Every event is one of the log's, no more often than there.
    names = split.catalog["item"].to_list()
    mine = [
        (split.users[u], names[i], t)
        for u, i, t in zip(owners, split.items, split.times, strict=True)
    ]
    theirs = list(log.interactions.select("user", "item", "time").iter_rows())
    for row in set(mine):
        assert mine.count(row) <= theirs.count(row)
    # The roles are three disjoint parts of all events.
    parts = np.concatenate([split.targets(role) for role in Role])
    assert sorted(parts) == list(range(len(split.items)))


@settings(deadline=None)
@given(triples, configs)
def test_a_history_is_what_the_user_did_before(triples, config):
    log = make_log(triples, spare_items=2)
    split = try_split(log, config)
    if split is None:
        return
    owners = split.event_users()
    for position in range(len(split.items)):
        before = np.flatnonzero(owners[:position] == owners[position])
        assert split.history(position).tolist() == split.items[before].tolist()
        assert (split.times[before] <= split.times[position]).all()


@settings(deadline=None)
@given(triples, configs, st.integers(0, 3))
def test_the_same_seed_gives_the_same_bytes(triples, config, seed):
    log = make_log(triples, spare_items=2)
    one, two = try_split(log, config, seed), try_split(log, config, seed)
    if one is None:
        return
    for name in ("users", "offsets", "items", "times", "intentions", "roles"):
        left, right = getattr(one, name), getattr(two, name)
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes()
    assert one.catalog.equals(two.catalog)
    assert one.queries == two.queries


@settings(deadline=None)
@given(triples, st.integers(1, 3))
def test_leave_one_out_takes_the_last_two(triples, core):
    log = make_log(triples, spare_items=2)
    split = try_split(log, SplitConfig(core=core))
    if split is None:
        return
    for start, end in zip(split.offsets[:-1], split.offsets[1:], strict=True):
        roles = split.roles[start:end].tolist()
        if len(roles) < 3:
            assert set(roles) == {Role.TRAIN}
        else:
            assert roles == [Role.TRAIN] * (len(roles) - 2) + [Role.VALIDATION, Role.TEST]
    assert np.bincount(split.items, minlength=split.num_items).min() >= core
    assert np.diff(split.offsets).min() >= core


@settings(deadline=None)
@given(triples, st.integers(1, 3), st.floats(0.3, 0.9))
def test_temporal_never_trains_on_what_comes_after_the_cut(triples, core, cut):
    log = make_log(triples, spare_items=2)
    split = try_split(log, SplitConfig(SplitProtocol.TEMPORAL, core=core, cut=cut))
    if split is None:
        return
    roles, times = split.roles, split.times
    latest = {role: times[roles == role].max(initial=-1) for role in Role}
    assert all(latest[Role.TRAIN] < t for t in times[roles == Role.VALIDATION])
    assert all(
        max(latest[Role.TRAIN], latest[Role.VALIDATION]) < t for t in times[roles == Role.TEST]
    )
    every = np.sort(log.interactions["time"].to_numpy())
    moment = every[int(len(every) * cut)]
    assert (times[roles == Role.TEST] >= moment).all()
    assert (times[roles != Role.TEST] < moment).all()
    assert split.num_items == log.items.height
    # The k-core is that of the part before the cut: what comes later cannot rescue anyone.
    before = roles != Role.TEST
    assert np.bincount(split.event_users()[before], minlength=split.num_users).min() >= core
    used = np.bincount(split.items[before], minlength=split.num_items)
    assert ((used == 0) | (used >= core)).all()


def test_temporal_takes_shares_of_the_events():
    log = make_log([(time % 2, time % 3, time) for time in range(100)])
    split = split_log(log, SplitConfig(SplitProtocol.TEMPORAL, core=5, cut=0.8), 0)
    for role, first, end in [(0, 0, 72), (1, 72, 80), (2, 80, 100)]:
        assert sorted(split.times[split.targets(Role(role))]) == list(range(first, end))


def test_temporal_targets_may_be_cold():
    early = [(user, item, 10 * user + item) for user in range(5) for item in range(5)]
    log = make_log([*early, *((user, 9, 900 + user) for user in range(5))])
    split = split_log(log, SplitConfig(SplitProtocol.TEMPORAL, core=5, cut=0.84), 0)
    new = split.catalog["item"].to_list().index("i9")
    assert split.items[split.targets(Role.TEST)].tolist() == [new] * 5
    assert split.warm_items().sum() == 5
    assert not split.warm_items()[new]


def test_ties_and_item_numbers_follow_the_seed():
    log = make_log([(0, item, 7) for item in range(30)])
    config = SplitConfig(core=1)
    orders, numbers = set(), set()
    for seed in range(3):
        split = split_log(log, config, seed)
        names = split.catalog["item"].to_list()
        numbers.add(tuple(names))
        orders.add(tuple(names[item] for item in split.items))
    assert len(orders) == len(numbers) == 3
    # Two sources of chance: the order of ties says nothing about the numbers.
    assert split.items.tolist() != sorted(split.items.tolist())


def test_real_times_outrank_the_shuffle():
    split = split_log(make_log([(0, item, item) for item in range(30)]), SplitConfig(core=1), 0)
    names = split.catalog["item"].to_list()
    assert [names[item] for item in split.items] == [f"i{item}" for item in range(30)]


def test_queries_and_intentions_travel_with_their_events():
    log = make_log(
        [(0, 1, 3), (0, 2, 1), (0, 3, 2), (0, 4, 4)],
        query=["red shoe", None, " ", "gift"],
        intention=["specific", None, "vague", "vague"],
    )
    split = split_log(log, SplitConfig(core=1), 0)
    assert split.queries == ["", "", "red shoe", "gift"]
    assert split.intentions.tolist() == [0, 0, 2, 1]


def test_a_query_of_unknown_kind_is_specific():
    split = split_log(
        make_log([(0, 1, 3), (0, 2, 1)], query=["shoe", None]), SplitConfig(core=1), 0
    )
    assert split.intentions.tolist() == [0, 2]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_user_left_is_one_clear_error(protocol):
    log = make_log([(user, user, user) for user in range(20)])
    with pytest.raises(InputError, match=r"data\.core: no user is left"):
        split_log(log, SplitConfig(protocol), 0)


def test_temporal_needs_times():
    log = make_log([(user, item, item) for user in range(5) for item in range(5)], unit="position")
    with pytest.raises(InputError, match="only sequence positions"):
        split_log(log, SplitConfig(SplitProtocol.TEMPORAL), 0)
    same = make_log([(user, item, 3) for user in range(5) for item in range(5)])
    with pytest.raises(InputError, match="no event is before the cut"):
        split_log(same, SplitConfig(SplitProtocol.TEMPORAL), 0)


@pytest.mark.parametrize("wrong", [{"core": 0}, {"cut": 0.0}, {"cut": 1.0}])
def test_impossible_settings_are_refused_with_their_key(wrong):
    with pytest.raises(InputError, match=rf"data\.{next(iter(wrong))}"):
        SplitConfig(**wrong)


def test_a_history_asks_for_an_event_that_exists():
    split = split_log(make_log([(0, 1, 3), (0, 2, 1)]), SplitConfig(core=1), 0)
    with pytest.raises(IndexError):
        split.history(2)


def test_movietweetings_gives_the_published_core_fast(shared):
    log = read_movietweetings(shared / "data" / "movietweetings-100k", seed=0)
    start = time.process_time()
    split = split_log(log, SplitConfig(), 0)
    # Some 0.06 s; far above it, something has stopped being vectorized.
    assert time.process_time() - start < 5
    assert (split.num_users, split.num_items, len(split.items)) == (4_333, 2_414, 68_055)
    assert len(split.targets(Role.TEST)) == len(split.targets(Role.VALIDATION)) == 4_333


def test_a_split_knows_where_users_were():
    triples = [(0, 1, 3), (0, 2, 1), (1, 1, 7), (1, 3, 8)]
    log = make_log(triples, place=["Kyoto ", None, "Rīga", "\U0001f3e0 בית"])
    split = split_log(log, SplitConfig(core=1), seed=3)
    assert split.places == ["", "Kyoto", "Rīga", "\U0001f3e0 בית"]
    assert split_log(make_log(triples), SplitConfig(core=1), seed=3).places == []
