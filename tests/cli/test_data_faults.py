"""Tables with faults, through the command line in this process."""

import datetime
import gzip
import json

import polars as pl
import pytest

from irec_jax.cli.main import main
from irec_jax.log.events import BehaviorLog
from irec_jax.log.readers import lines, unpacking

pytestmark = pytest.mark.fast

ITEMS = "item,title\na,Red shoe\nb,Green hat\n"
EVENTS = "user,item,time\nu0,a,1\nu1,b,2\n"


def write(folder, name, content):
    """Writes text, bytes, or a table as parquet."""
    folder.mkdir(exist_ok=True)
    if isinstance(content, pl.DataFrame):
        content.write_parquet(folder / name)
    else:
        content = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(content)
    return folder / name


@pytest.fixture
def prepare(tmp_path, capsys):
    """Prepares a folder of the given files; gives the exit code and what was printed."""

    def run(files, *options, source="table"):
        for name, content in files.items():
            write(tmp_path / "raw", name, content)
        words = ["data", "prepare", source, str(tmp_path / "raw"), "--out", str(tmp_path / "log")]
        return main([*words, *options]), capsys.readouterr()

    return run


@pytest.fixture
def refused(prepare, tmp_path):
    """Prepares a folder, which must end in one message of these parts and write nothing."""

    def run(files, *parts, options=(), source="table"):
        code, printed = prepare(files, *options, source=source)
        assert code == 2, printed
        assert printed.err.count("irec: error:") == 1
        assert "Traceback" not in printed.err
        for part in parts:
            assert part in printed.err
        assert not (tmp_path / "log").exists()

    return run


def times(*values):
    rows = "".join(f'u,a,"{value}"\n' for value in values)
    return {"items.csv": ITEMS, "interactions.csv": f"user,item,time\n{rows}"}


@pytest.mark.parametrize(
    "value", ["01/02/2024", "2.1.2024 10:00", "2024/01/02", "Jan 2, 2024", "2024-02-30"]
)
def test_times_of_other_forms_are_not_guessed(refused, value):
    where = "interactions.csv, row 2: "
    refused(times("2024-01-05", value), where + f"time '{value}'", "--table.time-format '%d/%m/%Y'")


def test_dates_without_separators_are_not_taken_for_seconds(refused, prepare, tmp_path):
    refused(times("20240102", "20240103"), "look like dates", "--table.time-format '%Y%m%d'")
    assert prepare(times("20240102"), "--table.time-format", "%Y%m%d")[0] == 0
    assert BehaviorLog.load(tmp_path / "log").interactions["time"].to_list() == [1704153600]


def test_a_time_format_is_used_and_kept(prepare, tmp_path):
    form = "%d/%m/%Y %H:%M"
    code, _ = prepare(times("02/01/2024 10:30", "01/02/2024 00:00"), "--table.time-format", form)
    assert code == 0
    assert BehaviorLog.load(tmp_path / "log").interactions["time"].to_list() == [
        1704191400,
        1706745600,
    ]
    manifest = json.loads((tmp_path / "log" / "manifest.json").read_text())
    assert manifest["settings"]["time_format"] == form


def test_iso_8601_is_read_with_offsets(prepare, tmp_path):
    values = ("2024-01-02", "2024-01-02T10:00+02:00", "2024-01-02 10:00:30.5", "2024-01-02T11:00Z")
    assert prepare(times(*values))[0] == 0
    expected = [1704153600, 1704182400, 1704189630, 1704193200]
    assert BehaviorLog.load(tmp_path / "log").interactions["time"].to_list() == expected


@pytest.mark.parametrize(
    ("form", "options", "part"),
    [
        ("%Q", [], "table.time_format: '%Q' is not a format"),
        ("%H:%M", [], "no date can be read with it"),
        ("%Y-%m-%d %Z", [], "only offsets"),
        ("%d/%m/%Y", [], "row 1: time '2024-01-05' is not of the form '%d/%m/%Y'"),
        ("%d/%m/%Y", ["--table.columns.time", "row"], "there are no times to read with it"),
    ],
)
def test_a_time_format_that_does_not_fit_is_refused(refused, form, options, part):
    refused(times("2024-01-05"), part, options=["--table.time-format", form, *options])


def stamped(values, dtype=None):
    time = pl.Series(values, dtype=dtype)
    events = pl.DataFrame({"user": ["u"] * len(time), "item": ["a"] * len(time), "time": time})
    return {"items.csv": ITEMS, "interactions.parquet": events}


@pytest.mark.parametrize(
    ("values", "dtype", "parts"),
    [
        ([None, datetime.time(1)], None, ["row 2: column 'time' holds Time values"]),
        ([datetime.timedelta(1)], None, ["row 1: column 'time' holds Duration values"]),
        ([[1]], None, ["row 1: column 'time' holds List values"]),
        ([True], None, ["row 1: column 'time' holds Boolean values"]),
        ([b"x"], None, ["row 1: column 'time' holds Binary values"]),
        ([5, 2**63], pl.UInt64, ["row 2: time 9223372036854775808 is not in seconds"]),
        ([datetime.datetime(9999, 1, 1)], pl.Datetime("ms"), ["row 1: absurd time"]),
    ],
)
def test_parquet_times_of_other_types_are_refused(refused, values, dtype, parts):
    refused(stamped(values, dtype), "interactions.parquet, ", *parts)


@pytest.fixture
def small_machine(monkeypatch):
    """A machine whose quarter of memory is one MiB."""
    monkeypatch.setattr(unpacking, "largest_file", lambda: 1 << 20)
    monkeypatch.setattr(unpacking, "LONGEST_LINE", 1 << 20)


def test_a_gz_file_that_unpacks_to_more_than_memory_is_refused(refused, small_machine):
    bomb = gzip.compress(EVENTS.encode() + b"u0,a,1\n" * 2**20)
    assert len(bomb) < 100_000
    files = {"items.csv": ITEMS, "interactions.csv.gz": bomb}
    refused(files, "interactions.csv.gz: more than 1.0 MiB unpacked", "Split the file")


def test_a_parquet_file_of_more_rows_than_memory_is_refused(refused, small_machine):
    rows = pl.select(user=pl.repeat(1, 2**20), item=pl.lit("a"), time=pl.lit(5))
    files = {"items.csv": ITEMS, "interactions.parquet": rows}
    refused(files, "interactions.parquet: 1,048,576 rows of 3 columns: more than 1.0 MiB")


def test_a_plain_file_larger_than_memory_is_refused(refused, small_machine):
    files = {"items.csv": ITEMS + "c,x\n" * 2**18, "interactions.csv": EVENTS}
    refused(files, "items.csv: more than 1.0 MiB unpacked")


@pytest.mark.parametrize("reviews", ["reviews_X_5.json.gz", "ratings_X.csv.gz"])
def test_a_gz_file_of_one_line_is_refused(refused, monkeypatch, reviews):
    for module in (unpacking, lines):
        monkeypatch.setattr(module, "LONGEST_LINE", 1 << 20)
    files = {reviews: gzip.compress(b" " * 2**22), "meta_X.json": '{"asin": "a", "title": "A"}\n'}
    refused(files, reviews, "a line is longer than 1 MiB", source="amazon")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("packed", [False, True])
def test_utf_16_is_named_with_the_way_to_convert_it(refused, encoding, packed):
    data, name = EVENTS.encode(encoding), "interactions.csv" + ".gz" * packed
    files = {"items.csv": ITEMS, name: gzip.compress(data) if packed else data}
    kind = encoding[:6].upper()
    refused(files, f"{name}, line 1: this is {kind} text, not UTF-8", f"iconv -f {kind}")


def test_lines_that_end_in_cr_are_named(refused):
    files = {"items.csv": ITEMS, "interactions.csv": EVENTS.replace("\n", "\r")}
    refused(files, "interactions.csv, line 1: the lines end in CR only", "tr '\\r' '\\n' <")


def test_the_text_of_other_sources_is_named_too(refused):
    inter = "user_id:token\titem_id:token\n1\ta\n"
    files = {"x.inter": inter.encode("utf-16"), "x.item": "item_id:token\ttitle:token\na\tA\n"}
    refused(files, "x.inter, line 1: this is UTF-16 text", source="recbole")
    files["x.inter"] = inter.replace("\n", "\r").encode()
    refused(files, "x.inter, line 1: the lines end in CR only", source="recbole")


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
