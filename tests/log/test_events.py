import dataclasses
import json
import math
import os

import polars as pl
import pytest

from irec_jax.errors import InputError
from irec_jax.log.events import BehaviorLog, EventKind, LogManifest, TimeUnit

pytestmark = pytest.mark.fast


def catalog(**columns):
    table = {"item": ["a", "b"], "title": ["A thing", "B thing"], "categories": [["x"], []]}
    return pl.DataFrame(
        table | columns,
        schema_overrides={"categories": pl.List(pl.String)},
    )


def events(**columns):
    table = {"user": [1, 0], "item": ["b", "a"], "time": [5, 9], "event": ["view", "purchase"]}
    return pl.DataFrame(table | columns)


def build(items=None, interactions=None):
    items = catalog() if items is None else items
    interactions = events() if interactions is None else interactions
    return BehaviorLog.assemble(items, interactions, LogManifest("test"))


def test_assemble_sorts_by_user_then_time_and_keeps_the_order_of_ties():
    table = pl.DataFrame(
        {
            "user": [1, 0, 0, 0],
            "item": ["b", "b", "a", "b"],
            "time": [1, 7, 7, 3],
            "event": ["view"] * 4,
        }
    )
    log = build(interactions=table)
    assert log.interactions.rows() == [
        (0, "b", 3, "view"),
        (0, "b", 7, "view"),
        (0, "a", 7, "view"),
        (1, "b", 1, "view"),
    ]
    assert log.item_rows().tolist() == [1, 1, 0, 1]
    assert log.manifest.time_unit is TimeUnit.SECONDS


def test_counts_hold_the_log_and_its_core():
    table = pl.DataFrame(
        {
            "user": [0] * 5 + [1],
            "item": ["a"] * 5 + ["b"],
            "time": range(6),
            "event": ["view"] * 6,
        }
    )
    counts = build(interactions=table).manifest.counts
    assert counts["users"] == counts["items"] == 2
    assert counts["interactions"] == 6
    assert counts["core5_users"] == counts["core5_items"] == 1
    assert counts["core5_interactions"] == 5


@pytest.mark.parametrize(
    ("items", "interactions", "message"),
    [
        (catalog(item=["a", "a"]), None, "items, row 1: duplicate item 'a' (2 such rows)"),
        (catalog(title=["A", " "]), None, "row 2: blank title of item 'b'"),
        (catalog(title=["A", None]), None, "row 2: no title"),
        (catalog(colour=["r", "g"]), None, "unknown column 'colour'"),
        (catalog(price=[1.0, math.nan]), None, "row 2: price nan is not a price"),
        (catalog(price=[1, 2]), None, "column 'price' is Int64, not Float64"),
        (catalog().drop("title"), None, "items: there is no column 'title'"),
        (catalog().clear(), None, "items: the table has no rows"),
        (None, events().clear(), "interactions: the table has no rows"),
        (None, events(item=["a", "z"]), "interactions, row 2: unknown item 'z'"),
        (None, events(item=["z", "z"]), "row 1: unknown item 'z' (2 such rows)"),
        (None, events(item=["z", None]), "row 2: no item"),
        (None, events(rating=[1.0, math.nan]), "row 2: rating nan is not finite"),
        (None, events(rating=[None, -math.inf]), "row 2: rating -inf is not finite"),
        (None, events(time=[3, -4]), "row 2: negative time -4"),
        (None, events(time=[3, 1_365_029_107_000]), "row 2: absurd time 1365029107000"),
        (None, events(event=["view", "buy"]), "row 2: unknown event 'buy'"),
        (None, events(intention=["vague", "maybe"]), "row 2: unknown intention 'maybe'"),
        (None, events(user=["u", "v"]), "column 'user' is String, not Int64"),
        (None, events(when=[1, 2]), "unknown column 'when'"),
    ],
)
def test_a_broken_table_is_refused_with_its_row(items, interactions, message):
    with pytest.raises(InputError) as caught:
        build(items, interactions)
    assert message in str(caught.value)


def test_a_missing_rating_is_no_error():
    assert build(interactions=events(rating=[None, 3.5])).interactions["rating"].null_count() == 1


def test_tables_that_are_not_sorted_are_refused_outside_assemble():
    with pytest.raises(InputError, match="not sorted"):
        BehaviorLog(catalog(), events(), LogManifest("test"))


def test_every_event_kind_is_allowed():
    kinds = [kind.value for kind in EventKind]
    table = pl.DataFrame({"user": [0] * 5, "item": ["a"] * 5, "time": range(5), "event": kinds})
    assert build(interactions=table).interactions["event"].to_list() == kinds


def test_a_saved_log_comes_back_and_the_same_log_gives_the_same_bytes(tmp_path):
    log = build(items=catalog(price=[1.0, None]), interactions=events(query=["red", None]))
    log.save(tmp_path / "one")
    log.save(tmp_path / "two")
    again = BehaviorLog.load(tmp_path / "one")
    assert again.items.equals(log.items)
    assert again.interactions.equals(log.interactions)
    assert dataclasses.replace(again.manifest, sha256={}) == log.manifest
    for name in ("items.parquet", "interactions.parquet", "manifest.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("name", ["items.parquet", "interactions.parquet", "manifest.json"])
def test_a_missing_file_is_named(tmp_path, name):
    build().save(tmp_path / "log")
    (tmp_path / "log" / name).unlink()
    with pytest.raises(InputError, match=name):
        BehaviorLog.load(tmp_path / "log")


def test_a_changed_file_and_a_broken_manifest_are_refused(tmp_path):
    folder = tmp_path / "log"
    build().save(folder)
    with (folder / "items.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="sha256 differs"):
        BehaviorLog.load(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        BehaviorLog.load(folder)
    (folder / "manifest.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(InputError, match="format 1"):
        BehaviorLog.load(folder)
    with pytest.raises(InputError, match="no such folder"):
        BehaviorLog.load(tmp_path / "nowhere")


def test_saving_replaces_a_log_and_nothing_else(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    build().save(folder)
    longer = build(interactions=events(rating=[1.0, 2.0]))
    longer.save(folder)
    assert "rating" in BehaviorLog.load(folder).interactions.columns
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a behavior log"):
        longer.save(other)
    assert (other / "chapter.txt").read_text() == "years of work"
    with pytest.raises(InputError, match="not a behavior log"):
        longer.save(other, overwrite=True)
    (folder / "notes.txt").write_text("not ours")
    with pytest.raises(InputError, match=r"not a behavior log: notes\.txt"):
        longer.save(folder)
    longer.save(folder, overwrite=True)
    assert sorted(os.listdir(folder)) == ["interactions.parquet", "items.parquet", "manifest.json"]
    with pytest.raises(InputError, match="a file, not a folder"):
        longer.save(folder / "manifest.json", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["log", "thesis"]
