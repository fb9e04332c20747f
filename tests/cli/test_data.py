"""The real command line, in processes of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from irec_jax.cli.main import main

ROOT = Path(__file__).parents[2]

ITEMS = "item,title,categories\na,Red shoe,shoes\nb,Green hat,hats\n"
EVENTS = "user,item,time,rating\n" + "".join(
    f"u{user},{'ab'[step % 2]},{step},3\n" for user in range(5) for step in range(5)
)


# Not a preexec_fn: that forks, which JAX warns of when another test has started it.
LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
runpy.run_module("irec_jax.cli.main", run_name="__main__")
"""


def irec(*words, limit=None, cwd=None):
    program = ["-c", LIMITED.format(limit=limit)] if limit else ["-m", "irec_jax.cli.main"]
    return subprocess.run(
        [sys.executable, *program, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "COLUMNS": "120"},
    )


def write(folder, items=ITEMS, interactions=EVENTS):
    folder.mkdir(exist_ok=True)
    for name, text in {"items": items, "interactions": interactions}.items():
        data = text if isinstance(text, bytes) else text.encode()
        (folder / f"{name}.csv").write_bytes(data)
    return folder


def refused(answer, *parts):
    assert answer.returncode == 2, answer.stderr
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr
    assert answer.stderr.count("irec: error:") == 1
    assert "Hint:" in answer.stderr
    for part in parts:
        assert part in answer.stderr


def test_prepare_and_describe_a_table(tmp_path):
    source = write(tmp_path / "raw")
    answer = irec("data", "prepare", "table", source, "--out", tmp_path / "log")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    assert "after the 5-core" in answer.stdout
    assert f"written to {tmp_path / 'log'}" in answer.stdout
    manifest = json.loads((tmp_path / "log" / "manifest.json").read_text())
    assert manifest["counts"]["interactions"] == 25
    assert "u0" not in (tmp_path / "log" / "manifest.json").read_text()

    answer = irec("data", "describe", tmp_path / "log")
    assert answer.returncode == 0, answer.stderr
    assert "5 / 2 / 25" in answer.stdout
    files = ["interactions.parquet", "items.parquet", "manifest.json"]
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == files
    picture = tmp_path / "there" / "picture.svg"
    answer = irec("data", "describe", tmp_path / "log", "--picture", picture)
    assert answer.returncode == 0, answer.stderr
    assert f"picture written to {picture}" in answer.stdout
    assert picture.read_text().startswith("<svg")


def test_prepare_simulated_gives_the_same_bytes_twice(tmp_path):
    small = ("--simulate.users", "40", "--simulate.items", "100")
    for name in ("one", "two"):
        answer = irec("data", "prepare", "simulated", "--out", tmp_path / name, *small)
        assert answer.returncode == 0, answer.stderr
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    assert json.loads((tmp_path / "one" / "manifest.json").read_text())["counts"]["users"] == 40


def test_prepare_movietweetings(tmp_path, shared):
    source = shared / "data" / "movietweetings-100k"
    answer = irec("data", "prepare", "movietweetings", source, "--out", tmp_path / "log")
    assert answer.returncode == 0, answer.stderr
    for figure in ("16,554", "10,506", "100,000", "4,333", "2,414", "68,055"):
        assert figure in answer.stdout


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"interactions": ""}, ["interactions.csv: the file is empty"]),
        (
            {"interactions": EVENTS.replace("user,", "usr,", 1)},
            ["interactions.csv: there is no column 'user'", "Did you mean 'usr'?"],
        ),
        ({"interactions": EVENTS + "u0,zz,9,3\n"}, ["row 26: unknown item 'zz'"]),
        ({"items": ITEMS + "b,Hat,hats\n"}, ["items.csv, row 2: duplicate item 'b' (2 such rows)"]),
        ({"items": ITEMS.encode() + b"c,Caf\xe9,x\n"}, ["items.csv, line 4: not UTF-8", "0xe9"]),
        ({"interactions": EVENTS + "u0,a,9,nan\n"}, ["row 26: rating nan is not finite"]),
        ({"interactions": EVENTS + "u0,a,9,inf\n"}, ["row 26: rating inf is not finite"]),
        ({"interactions": EVENTS + "u0,a,-9,3\n"}, ["row 26: negative time -9"]),
        ({"interactions": EVENTS + "u0,a,1365029107000,3\n"}, ["row 26: absurd time"]),
    ],
    ids=["empty", "column", "unknown", "twice", "encoding", "nan", "inf", "negative", "absurd"],
)
def test_bad_input_is_refused_and_nothing_is_written(tmp_path, change, parts):
    source = write(tmp_path / "raw", **change)
    refused(irec("data", "prepare", "table", source, "--out", tmp_path / "log"), *parts)
    assert sorted(os.listdir(tmp_path)) == ["raw"]


def test_a_folder_name_is_never_a_pattern(tmp_path):
    less = "\n".join(EVENTS.splitlines()[:6])
    for name, events in {"v1": EVENTS, "v[1]": less, "v*": less, "v?": less}.items():
        source = write(tmp_path / f"raw-{name}", interactions=events)
        answer = irec("data", "prepare", "table", source, "--out", tmp_path / name)
        assert answer.returncode == 0, answer.stderr
        answer = irec("data", "describe", tmp_path / name)
        assert answer.returncode == 0, answer.stderr
        assert ("5 / 2 / 25" if name == "v1" else "1 / 2 / 5") in answer.stdout, name


def test_a_folder_of_a_source_is_never_a_pattern(tmp_path):
    header = "user_id:token\titem_id:token\ttimestamp:float\n"
    for name, users in {"ml1": 3, "ml[1]": 2}.items():
        (tmp_path / name).mkdir()
        lines = [f"u{user}\ti{item}\t{item}\n" for user in range(users) for item in range(2)]
        (tmp_path / name / "ml.inter").write_text(header + "".join(lines))
        names = "item_id:token\tmovie_title:token_seq\ni0\tone\ni1\ttwo\n"
        (tmp_path / name / "ml.item").write_text(names)
    answer = irec("data", "prepare", "recbole", tmp_path / "ml[1]", "--out", tmp_path / "log")
    assert answer.returncode == 0, answer.stderr
    counts = json.loads((tmp_path / "log" / "manifest.json").read_text())["counts"]
    assert counts["interactions"] == 4


def test_missing_sources_are_refused(tmp_path):
    out = ("--out", tmp_path / "log")
    refused(irec("data", "prepare", "table", tmp_path / "nowhere", *out), "no such folder")
    refused(irec("data", "prepare", "movietweetings", *out), "folder of the files is missing")
    refused(irec("data", "describe", tmp_path / "log"), "no such folder")
    assert os.listdir(tmp_path) == []


def test_a_wrong_source_is_refused_with_the_nearest(tmp_path):
    out = ("--out", tmp_path / "log")
    refused(irec("data", "prepare", "amzon", tmp_path, *out), "SOURCE", "Did you mean 'amazon'?")
    refused(irec("data", "prepare", "tfds:movielens/1m-ratings", *out), "PATH", "is missing")
    for source in ("movielens", "amazon", "mind", "recbole"):
        refused(irec("data", "prepare", source, tmp_path, *out), str(tmp_path))
    refused(irec("data", "prepare", "tfds:mnist", tmp_path, *out), "no reader", "tfds:mnist")


def test_the_other_sources_do_not_wait_for_tfds():
    program = "import sys, irec_jax.cli.data; sys.exit('tensorflow_datasets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60)
    assert done.returncode == 0


def test_a_wrong_option_is_refused_with_the_nearest(tmp_path):
    out = ("--out", tmp_path / "log")
    answer = irec("data", "prepare", "simulated", *out, "--simulate.usres", "9")
    assert answer.returncode == 2
    assert "--simulate.users" in answer.stderr
    assert "Traceback" not in answer.stderr
    answer = irec("data", "prepare", "simulated", *out, "--simulate.users", "-3")
    refused(answer, "simulate.users", "-3")
    assert os.listdir(tmp_path) == []


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    source, out = write(tmp_path / "raw"), tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.txt").write_text("years of work")
    words = ("data", "prepare", "table", source, "--out", out)
    for more in ((), ("--overwrite",)):
        refused(irec(*words, *more), "not a behavior log: chapter.txt")
    assert os.listdir(out) == ["chapter.txt"]
    (out / "chapter.txt").unlink()
    assert irec(*words).returncode == 0
    (out / "chapter.txt").write_text("more work")
    refused(irec(*words), "not a behavior log: chapter.txt", "--overwrite")
    assert irec(*words, "--overwrite").returncode == 0
    assert "chapter.txt" not in os.listdir(out)


def test_the_source_is_never_replaced(tmp_path):
    source = write(tmp_path / "raw")
    before = sorted(os.listdir(source))
    for out in (source, tmp_path):
        answer = irec("data", "prepare", "table", source, "--out", out, "--overwrite")
        refused(answer, "would be lost", "Write to another folder.")
    assert sorted(os.listdir(source)) == before


def test_a_full_disk_leaves_the_old_log(tmp_path):
    source, out = write(tmp_path / "raw"), tmp_path / "log"
    words = ("data", "prepare", "table", source, "--out", out)
    assert irec(*words).returncode == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    write(source, interactions=EVENTS + "u0,a,77,5\n")
    refused(irec(*words, limit=1_000), str(out), "what was there is unchanged")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert sorted(os.listdir(tmp_path)) == ["log", "raw"]


def test_no_user_left_after_the_core_is_refused(tmp_path):
    source = write(tmp_path / "raw")
    answer = irec("data", "prepare", "table", source, "--out", tmp_path / "log")
    assert answer.returncode == 0, answer.stderr
    experiment = tmp_path / "lonely.py"
    experiment.write_text(
        "from irec_jax.experiment.config import Experiment\n"
        "from irec_jax.log.dataset import DataConfig\n"
        f"experiment = Experiment(data=DataConfig(log={str(tmp_path / 'log')!r}, core=6))\n"
    )
    answer = irec("instruct", experiment, "--out", tmp_path / "set")
    refused(answer, "data.core: no user is left")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("name", ["prepare", "describe"])
def test_help_has_an_example(name):
    answer = irec("data", name, "--help")
    assert answer.returncode == 0
    assert f"irec data {name} " in answer.stdout
    assert "For example" in answer.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda fields: b"\xff", "manifest.json: not JSON"),
        (lambda fields: b"[" * 100_000, "manifest.json: not JSON"),
        (lambda fields: {**fields, "source": 3}, "manifest.json.source: expected str"),
        (lambda fields: {**fields, "sha256": ["x"]}, "manifest.json.sha256: expected an object"),
        (lambda fields: {**fields, "counts": {"users": "x"}}, "counts.users: expected int"),
        (lambda fields: {**fields, "settings": {"time": []}}, "settings.time must be one of"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path, capsys, change, said):
    log = tmp_path / "log"
    assert main(["data", "prepare", "table", str(write(tmp_path / "raw")), "--out", str(log)]) == 0
    changed = change(json.loads((log / "manifest.json").read_text()))
    text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    (log / "manifest.json").write_bytes(text)
    capsys.readouterr()
    assert main(["data", "describe", str(log)]) == 2
    assert said in capsys.readouterr().err
