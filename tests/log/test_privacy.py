import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.log.events import BehaviorLog, LogManifest
from irec_jax.log.privacy import FORGOTTEN, forget_user, pseudonyms
from irec_jax.log.readers.table import TableConfig, read_table

pytestmark = pytest.mark.fast


@given(st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=40), st.integers(0, 5))
def test_pseudonyms_are_a_relabeling(names, seed):
    series = pl.Series("u", names, dtype=pl.String)
    users = pseudonyms(series, seed)
    assert users.dtype == pl.Int64
    assert users.is_null().to_list() == series.is_null().to_list()
    pairs = {(name, user) for name, user in zip(names, users, strict=True) if name is not None}
    known = {name for name in names if name is not None}
    assert len(pairs) == len(known)
    assert {user for _, user in pairs} == set(range(len(known)))


@pytest.mark.parametrize("names", [["bob", "eve"] * 50, [7, 3] * 50, [1.5, 2.5] * 50])
def test_names_of_any_type_and_any_order_of_rows(names):
    series = pl.Series(names)
    users = pseudonyms(series, 1)
    assert users.equals(pseudonyms(series, 1))
    assert users.reverse().equals(pseudonyms(series.reverse(), 1))


def test_the_seed_deals_and_order_says_nothing():
    names = pl.Series(range(1_000))
    one, two = pseudonyms(names, 1).to_numpy(), pseudonyms(names, 2).to_numpy()
    assert (one == two).mean() < 0.05
    assert abs(np.corrcoef(names.to_numpy(), one)[0, 1]) < 0.15


def test_no_user_name_is_written(tmp_path):
    (tmp_path / "items.csv").write_text("item,title\na,A thing\n")
    (tmp_path / "interactions.csv").write_text("user,item\nmallory@x.org,a\ntrent@x.org,a\n")
    log = read_table(tmp_path, TableConfig(), seed=4)
    log.save(tmp_path / "log")
    manifest = json.loads((tmp_path / "log" / "manifest.json").read_text())
    assert manifest["seed"] is None
    for file in (tmp_path / "log").iterdir():
        assert b"mallory" not in file.read_bytes()
    assert "mallory" not in str(BehaviorLog.load(tmp_path / "log").interactions.rows())


def test_a_forgotten_user_is_gone_and_counted():
    items = pl.DataFrame({"item": ["a", "b"], "title": ["A", "B"], "categories": [["x"], ["y"]]})
    events = pl.DataFrame(
        {"user": [0, 1, 1], "item": ["a", "a", "b"], "time": [1, 2, 3], "event": ["view"] * 3}
    )
    log = BehaviorLog.assemble(
        items, events, LogManifest("test", dropped={FORGOTTEN: 4, "other": 1})
    )
    left = forget_user(log, 1)
    assert left.interactions["user"].to_list() == [0]
    assert left.manifest.counts["interactions"] == left.manifest.counts["users"] == 1
    assert left.manifest.counts["items"] == 2
    assert left.manifest.dropped == {FORGOTTEN: 6, "other": 1}
    assert log.interactions.height == 3
    with pytest.raises(InputError, match="no user 9"):
        forget_user(log, 9)
    with pytest.raises(InputError, match="only one"):
        forget_user(left, 0)
