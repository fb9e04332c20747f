import dataclasses
import gzip
import json

import polars as pl
import pytest

from irec_jax.errors import InputError
from irec_jax.log.events import TimeUnit
from irec_jax.log.readers import movietweetings
from irec_jax.log.readers.movietweetings import read_movietweetings
from irec_jax.log.readers.source import open_table
from irec_jax.log.readers.table import BLANK_TITLE, UNKNOWN_ITEM, Columns, TableConfig, read_table

ITEMS = (
    "item\ttitle\tcategories\tbrand\tprice\n007\tRed  shoe\tshoes| red\tAcme\t9.5\n08\tHat\t\t\t\n"
)
EVENTS = (
    "user\titem\ttime\trating\tquery\n"
    "zoe\t08\t20\t4\t\n"
    "zoe\t007\t10\t\tred shoe\n"
    "adam\t08\t5\t1\t\n"
)


def write(folder, items=ITEMS, interactions=EVENTS, suffix="tsv"):
    for name, text in {"items": items, "interactions": interactions}.items():
        data = text if isinstance(text, bytes) else text.encode()
        (folder / f"{name}.{suffix}").write_bytes(data)
    return folder


def read(folder, seed=0, **settings):
    return read_table(folder, TableConfig(**settings), seed)


def refused(folder, *parts, **settings):
    with pytest.raises(InputError) as caught:
        read(folder, **settings)
    for part in parts:
        assert part in str(caught.value)


def test_a_table_becomes_a_log(tmp_path):
    log = read(write(tmp_path), kind="purchase", license="CC0")
    assert log.items.rows() == [
        ("007", "Red shoe", ["shoes", "red"], "Acme", 9.5),
        ("08", "Hat", [], None, None),
    ]
    zoe, adam = (0, 1) if log.interactions["time"][0] == 10 else (1, 0)
    expected = [
        (zoe, "007", 10, "purchase", None, "red shoe"),
        (zoe, "08", 20, "purchase", 4.0, None),
        (adam, "08", 5, "purchase", 1.0, None),
    ]
    assert log.interactions.rows() == sorted(expected)
    assert log.manifest.license == "CC0"
    assert log.manifest.dropped == {}
    assert log.manifest.settings["unused_columns"] == {"items": [], "interactions": []}


def same_in(folder, form):
    """The tables of ITEMS and EVENTS in another format."""
    folder.mkdir()
    for name, text in {"items": ITEMS, "interactions": EVENTS}.items():
        table = pl.read_csv(text.encode(), separator="\t", infer_schema=False)
        path = folder / f"{name}.{form.removesuffix('.gz')}"
        if "csv" in form:
            table.write_csv(path, quote_style="always")
        elif "tsv" in form:
            table.write_csv(path, separator="\t", line_terminator="\r\n")
        elif "jsonl" in form:
            table.write_ndjson(path)
        else:
            typed = (
                table.cast({"time": pl.Int32, "rating": pl.Float32}) if "user" in table else table
            )
            typed.write_parquet(path)
        if form.endswith(".gz"):
            (folder / f"{name}.{form}").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    return folder


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "csv.gz", "tsv.gz", "jsonl.gz"])
def test_every_format_gives_the_same_log(tmp_path, form):
    plain = tmp_path / "plain"
    plain.mkdir()
    expected, log = read(write(plain)), read(same_in(tmp_path / "other", form))
    assert log.items.equals(expected.items)
    assert log.interactions.equals(expected.interactions)


def test_columns_and_files_can_be_called_anything(tmp_path):
    (tmp_path / "films.csv").write_text("movieId,name,genres\n1,Alien,Horror;SciFi\n")
    (tmp_path / "likes.csv").write_text("who,movieId,when,comment\nme,1,2013-05-01T10:00:00Z,ok\n")
    columns = Columns(
        user="who", item="movieId", title="name", categories="genres", time="when", review="comment"
    )
    settings = {"columns": columns, "category_separator": ";"}
    files = {"items": str(tmp_path / "films.csv"), "interactions": str(tmp_path / "likes.csv")}
    log = read(None, **settings, **files)
    assert log.items.rows() == [("1", "Alien", ["Horror", "SciFi"])]
    assert log.interactions.rows() == [(0, "1", 1367402400, "view", "ok")]
    assert log.manifest.time_unit is TimeUnit.SECONDS


@pytest.mark.parametrize(
    ("head", "values", "times", "unit"),
    [
        ("time", ["30", "10.9"], [10, 30], TimeUnit.SECONDS),
        ("time", ["2013-05-02", "2013-05-01"], [1367366400, 1367452800], TimeUnit.SECONDS),
        ("position", ["1", "0"], [0, 1], TimeUnit.POSITION),
        ("note", ["x", "y"], [0, 1], TimeUnit.POSITION),
    ],
)
def test_times(tmp_path, head, values, times, unit):
    rows = "".join(f"u\t08\t{value}\n" for value in values)
    log = read(write(tmp_path, interactions=f"user\titem\t{head}\n{rows}"))
    assert log.interactions["time"].to_list() == times
    assert log.manifest.time_unit is unit


def test_the_order_of_rows_is_used_when_asked_for(tmp_path):
    log = read(write(tmp_path), columns=Columns(time="row"))
    assert log.interactions.filter(pl.col("rating") == 4)["time"].to_list() == [0]
    assert log.manifest.settings["unused_columns"]["interactions"] == ["time"]


def test_native_dates_and_lists_of_parquet(tmp_path):
    pl.DataFrame({"item": [1], "title": ["A"], "categories": [["x", ""]]}).write_parquet(
        tmp_path / "items.parquet"
    )
    events = pl.DataFrame({"user": [5], "item": [1], "time": ["2013-05-01"]})
    events.with_columns(pl.col("time").str.to_date()).write_parquet(
        tmp_path / "interactions.parquet"
    )
    log = read(tmp_path)
    assert log.items["categories"].to_list() == [["x"]]
    assert log.interactions["time"].to_list() == [1367366400]


def test_blank_titles_are_written_from_what_else_is_known(tmp_path):
    rows = ["a\t\tx|y\tAcme", "b\t\t\tAcme", "c\t \t\t", "08\tHat\t\t", "007\tH\t\t"]
    items = "\n".join(["item\ttitle\tcategories\tbrand", *rows])
    log = read(write(tmp_path, items=items))
    assert log.items["title"].to_list() == ["Acme y", "Acme", "untitled", "Hat", "H"]
    assert log.manifest.dropped == {BLANK_TITLE: 3}


def test_unknown_items_are_dropped_only_when_asked(tmp_path):
    write(tmp_path, interactions=EVENTS + "eve\t9\t1\t\t\neve\t8\t1\t\t\n")
    refused(tmp_path, "interactions.tsv, row 4: unknown item '9' (2 such rows)")
    log = read(tmp_path, unknown_items="drop")
    assert log.interactions.height == 3
    assert log.manifest.dropped == {UNKNOWN_ITEM: 2}


def test_where_a_user_was_is_kept(tmp_path):
    rows = "user\titem\ttime\tcity\nzoe\t08\t1\tSão  Paulo\nzoe\t08\t2\t \n"
    log = read(write(tmp_path, interactions=rows), columns=Columns(place="city"))
    assert log.interactions["place"].to_list() == ["São Paulo", None]


def test_users_are_pseudonyms_of_the_seed(tmp_path):
    users = [f"user{number}" for number in range(50)]
    rows = "".join(f"{user}\t08\t{number}\n" for number, user in enumerate(users))
    write(tmp_path, interactions=f"user\titem\ttime\n{rows}")
    orders = {tuple(read(tmp_path, seed=seed).interactions["time"]) for seed in (0, 1)}
    assert len(orders) == 2
    assert sorted(read(tmp_path).interactions["user"]) == list(range(50))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"interactions": ""}, ["interactions.tsv: the file is empty"]),
        ({"items": "\n \n"}, ["items.tsv: the file is empty"]),
        ({"items": "item\ttitle\n"}, ["items.tsv: the table has a header and no rows"]),
        (
            {"interactions": EVENTS.replace("user", "users")},
            ["interactions.tsv: there is no column 'user'", "Did you mean 'users'?"],
        ),
        (
            {"interactions": EVENTS.replace("time", "timestamp")},
            ["no column 'time'", "Did you mean 'timestamp'?", "--table.columns.time"],
        ),
        ({"items": ITEMS + "08\tHat\t\t\t\n"}, ["items.tsv, row 2: duplicate item '08' (2 such"]),
        ({"items": ITEMS.replace("9.5", "cheap")}, ["row 1: price 'cheap' is not a number"]),
        ({"interactions": EVENTS.replace("\t4\t", "\tNaN\t")}, ["row 1: rating nan is not finite"]),
        ({"interactions": EVENTS.replace("\t1\t", "\t-inf\t")}, ["row 3: rating -inf is not"]),
        (
            {"interactions": EVENTS.replace("\t4\t", "\tgood\t")},
            ["row 1: rating 'good' is not a n"],
        ),
        ({"interactions": EVENTS.replace("\t20\t", "\t-20\t")}, ["row 1: negative time -20"]),
        (
            {"interactions": EVENTS.replace("\t5\t", "\t1365029107000\t")},
            ["row 3: absurd time 1365029107000", "milliseconds"],
        ),
        (
            {"interactions": EVENTS.replace("\t5\t", "\tsoon\t")},
            ["row 3: time 'soon' is neither a number"],
        ),
        ({"interactions": EVENTS.replace("\t5\t", "\tNaN\t")}, ["row 3: time 'NaN' is neither"]),
        ({"interactions": EVENTS.replace("adam", "")}, ["interactions.tsv, row 3: no user"]),
        ({"interactions": EVENTS + "eve\t08\t1\t\t\tx\n"}, ["interactions.tsv, line 5: 6 values"]),
        (
            {"items": ITEMS.encode() + b"9\tCaf\xe9\t\t\t\n"},
            [
                f"items.tsv, line 4: not UTF-8: byte 0xe9 at offset {len(ITEMS.encode()) + 5}",
                "iconv",
            ],
        ),
        (
            {"items": ITEMS.encode("utf-16")},
            ["items.tsv, line 1: this is UTF-16 text"],
        ),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path, change, parts):
    refused(write(tmp_path, **change), *parts)


def test_missing_and_damaged_files_are_named(tmp_path):
    refused(tmp_path / "nowhere", "nowhere: there is no such folder")
    refused(tmp_path, "there is no interactions.tsv in it", "--table.interactions")
    refused(None, "table.interactions: there is no interactions file")
    refused(tmp_path, "gone.csv: there is no such file", interactions="gone.csv", items="x.csv")
    refused(
        write(tmp_path), "names no readable format", "Did you mean 'tsv'?", interactions="log.tsvv"
    )
    for data in (b"not gzip", gzip.compress(EVENTS.encode())[:-10]):
        (tmp_path / "x.tsv.gz").write_bytes(data)
        refused(tmp_path, "x.tsv.gz: damaged gzip", interactions=str(tmp_path / "x.tsv.gz"))
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    refused(tmp_path, "x.parquet: not parquet", interactions=str(tmp_path / "x.parquet"))
    (tmp_path / "x.jsonl").write_text('{"user": 1, "item": "08"}\n{"user": ')
    refused(tmp_path, "x.jsonl, line 2: not JSON", interactions=str(tmp_path / "x.jsonl"))
    (tmp_path / "y.jsonl").write_bytes(b'{"user": 1, "item": "08"}\n{"user": "\xe9"}')
    refused(tmp_path, "y.jsonl, line 2: not UTF-8", interactions=str(tmp_path / "y.jsonl"))


def test_a_column_that_was_named_must_be_there(tmp_path):
    write(tmp_path)
    refused(tmp_path, "no column 'raiting'", "'rating'", columns=Columns(rating="raiting"))


@pytest.mark.parametrize(
    ("key", "make"),
    [
        ("table.columns.user", lambda: Columns(user="")),
        ("table.category_separator", lambda: TableConfig(category_separator="")),
    ],
)
def test_impossible_settings_are_refused_with_their_key(key, make):
    with pytest.raises(InputError, match=key):
        make()


def test_a_blank_last_line_is_no_row(tmp_path):
    write(tmp_path, interactions=EVENTS + "\n", items="\ufeff" + ITEMS + "\r\n\n")
    assert open_table(tmp_path / "items.tsv").table.height == 2
    assert read(tmp_path).interactions.height == 3


def test_movietweetings_is_what_was_published(shared):
    log = read_movietweetings(shared / "data" / "movietweetings-100k", seed=0)
    assert log.manifest.counts == movietweetings.SNAPSHOT_COUNTS
    first = log.items.row(by_predicate=pl.col("item") == "0002844", named=True)
    assert first["released"] == "1913"
    assert first["categories"] == ["Crime", "Drama"]
    assert log.items["item"].str.len_chars().min() == 7
    assert log.items["title"].is_duplicated().sum() == 401
    assert log.interactions["event"].unique().to_list() == ["rating"]
    assert log.interactions["rating"].is_between(0, 10).all()


def test_a_snapshot_with_other_counts_is_refused(shared, tmp_path):
    source = shared / "data" / "movietweetings-100k"
    for name in ("items", "interactions"):
        data = gzip.decompress((source / f"{name}.tsv.gz").read_bytes())
        if name == "interactions":
            # As many rows as published, one of them of somebody else.
            head, first, rest = data.split(b"\n", 2)
            data = b"\n".join([head, b"x" + first, rest])
        (tmp_path / f"{name}.tsv.gz").write_bytes(gzip.compress(data, 1))
    with pytest.raises(InputError, match="16,555 users, published are 16,554"):
        read_movietweetings(tmp_path, seed=0)


def test_another_snapshot_of_movietweetings_is_welcome(tmp_path):
    rows = "user\titem\trating\ttimestamp\n1\t0000123\t7\t1365029107\n"
    films = "item\ttitle\tcategories\tyear\n0000123\tThe Bank\tComedy|Short\t1915\n"
    log = read_movietweetings(write(tmp_path, items=films, interactions=rows), seed=0)
    assert log.items.row(0) == ("0000123", "The Bank", ["Comedy", "Short"], "1915")
    assert json.loads(log.manifest.to_json())["license"].startswith("MIT")
    assert dataclasses.asdict(log.manifest)["seed"] is None
