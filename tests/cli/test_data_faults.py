"""Tables with faults, through the command line in this process."""

import datetime
import gzip
import json

import polars as pl
import pytest

from irec_jax.cli.main import main
from irec_jax.log.events import BehaviorLog
from irec_jax.log.readers import lines, unpacking

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
