"""Damaged lines, headers and ids of tables, through the command line in this process."""

import datetime
import json

import polars as pl
import pytest

from tests.cli.test_data_faults import EVENTS, ITEMS, prepare, refused

__all__ = ["prepare", "refused"]
HEAD = "user,item,time,title\n"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (HEAD + "u,a,1,x\nu,b,2,x,y\n", "interactions.csv, line 3: 5 values, but the header has 4"),
        (HEAD + 'u,a,1,"x\ny"\nu,b,2,x,y\n', "interactions.csv, line 4: 5 values"),
        (HEAD + 'u,a,1,x\nu,b,2,55" TV\nu,a,3,z\n', "line 3: a quote that does not enclose"),
        (HEAD + 'u,a,1,x\r\nu,b,2,"x" y\r\n', "line 3: a quote that does not enclose"),
        (HEAD + 'u,a,1,x\nu,b,2,"x\n', "line 3: a quote that does not enclose"),
        (HEAD.replace("title", "user") + "u,a,1,v\n", "line 1: the header has the column 'user' 2"),
    ],
)
def test_a_damaged_line_of_csv_is_named(refused, text, part):
    refused({"items.csv": ITEMS, "interactions.csv": text}, part)


def test_a_damaged_line_of_tsv_is_named(refused):
    text = "user\titem\ttime\nu\ta\t1\nu\tb\t2\tx\n"
    refused({"items.csv": ITEMS, "interactions.tsv": text}, "tsv, line 3: 4 values, but the header")


GOOD = '{"user": "u", "item": "a", "time": 1}\n'


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ('{"user": "u", "item"', ["line 3: not JSON", "item"]),
        ("[1]", ["line 3: not a JSON object: '[1]'"]),
        ('{"user": "u", "item": "a", "time": NaN}', ["line 3: not JSON (NaN is not"]),
        ('{"user": ["u"], "item": "a"}', ["line 3: 'user' is a list here and text or a number in"]),
        ('{"user": "u", "item": {"a": 1}}', ["line 3: 'item' is an object here"]),
        ('{"user": "u", "time": true}', ["line 3: 'time' is true or false here"]),
        (
            '{"x": ' + "[" * 20_000 + "]" * 20_000 + "}",
            ["line 3: the values are nested too deeply"],
        ),
    ],
)
def test_a_damaged_line_of_jsonl_is_named(refused, line, parts):
    text = GOOD + "\n" + line + "\n" + GOOD
    refused({"items.csv": ITEMS, "interactions.jsonl": text}, "interactions.jsonl, ", *parts)


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("user", ["u"], "row 1: column 'user' holds List values, which cannot be user ids"),
        ("item", {"a": 1}, "row 1: column 'item' holds Struct values"),
        ("time", [1], "row 1: column 'time' holds List values"),
        ("rating", [1], "row 1: column 'rating' holds List values"),
        ("rating", True, "row 1: column 'rating' holds Boolean values"),
        ("event", ["view"], "row 1: column 'event' holds List values"),
        ("review", ["good"], "row 1: column 'review' holds List values"),
    ],
)
def test_cells_of_other_types_are_refused(refused, name, value, part):
    row = {"user": "u", "item": "a", "time": 1} | {name: value}
    files = {"items.csv": ITEMS, "interactions.jsonl": json.dumps(row) + "\n"}
    refused(files, f"interactions.jsonl, {part}", "Write ")


def test_items_of_other_types_are_refused(refused):
    row = {"item": "a", "title": ["x"], "categories": [["x"]]}
    files = {"items.jsonl": json.dumps(row) + "\n", "interactions.csv": EVENTS}
    refused(files, "items.jsonl, row 1: column 'title' holds List values")
    files["items.jsonl"] = json.dumps(row | {"title": "x"}) + "\n"
    refused(files, "items.jsonl, row 1: column 'categories' holds List values")


def users(*names):
    table = pl.DataFrame({"user": names, "item": ["a"] * len(names), "time": [1] * len(names)})
    return {"items.csv": ITEMS, "interactions.parquet": table}


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ((1.0, float("nan")), "row 2: user 'NaN' is a missing value"),
        (("u", "nan"), "row 2: user 'nan' is a missing value"),
        (("u", "a\x00b"), "row 2: user 'a\\x00b' has a NUL character"),
        ((True,), "row 1: column 'user' holds Boolean values"),
        ((datetime.time(1),), "row 1: column 'user' holds Time values"),
    ],
)
def test_users_that_are_not_ids_are_refused(refused, names, part):
    refused(users(*names), part)


def test_nul_characters_of_items_are_refused_and_of_titles_counted(refused, prepare, tmp_path):
    files = {"items.csv": ITEMS.replace("b,", "b\x00,"), "interactions.csv": EVENTS}
    refused(files, "items.csv, row 2: item 'b\\x00' has a NUL character")
    assert prepare({"items.csv": ITEMS.replace("Red ", "Red\x00")})[0] == 0
    manifest = json.loads((tmp_path / "log" / "manifest.json").read_text())
    assert manifest["dropped"] == {"text with NUL characters, which became blanks": 1}
    titles = pl.read_parquet(tmp_path / "log" / "items.parquet")["title"].to_list()
    assert titles == ["Red shoe", "Green hat"]


def test_two_files_of_the_same_table_are_refused(refused):
    files = {"items.csv": ITEMS, "interactions.csv": EVENTS, "interactions.tsv": EVENTS}
    parts = ("several files of interactions: interactions.tsv, interactions.csv", "Keep one")
    refused(files, *parts, "--table.interactions")
