"""`irec recommend` on a run of random weights, through the real command line."""

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from irec_jax.cli.main import main
from irec_jax.experiment.materials import Materials
from irec_jax.experiment.run_config import save_run
from irec_jax.run_checksums import Sources, write_checksums

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run_and_materials(tmp_path_factory, make_run, tiny_experiment) -> tuple[Path, Materials]:
    """A run folder, and the materials that it was made from."""
    run = tmp_path_factory.mktemp("runs") / "shop"
    return run, make_run(run, tiny_experiment)


def items_in(printed: str) -> list[str]:
    """The second column of the printed table."""
    return re.findall(r"^│ \d+ +│ (\S+)", printed, flags=re.MULTILINE)


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_it_prints_k_items_that_are_not_in_the_history(run_and_materials, capsys):
    run, materials = run_and_materials
    catalog = materials.split.catalog
    first, second = catalog["item"][0], catalog["title"][1]
    words = ["recommend", str(run), "--history", first, second, "--instruction", "a gift"]
    assert main([*words, "-k", "4"]) == 0
    printed = capsys.readouterr().out
    items = items_in(printed)
    assert len(items) == len(set(items)) == 4
    assert set(items) <= set(catalog["item"][2:])
    titles = dict(zip(catalog["item"], catalog["title"], strict=True))
    assert all(titles[item] in printed for item in items)


def test_a_condition_and_an_explanation(run_and_materials, capsys):
    run, materials = run_and_materials
    catalog = materials.split.catalog
    limit = catalog["price"].median()
    cheap = set(catalog.filter(catalog["price"] < limit)["item"])
    words = ["--instruction", "something [nice] for rain", "--where", f"price < {limit}"]
    assert main(["recommend", str(run), *words, "--k", "99", "--explain"]) == 0
    printed = capsys.readouterr().out
    titles = catalog.filter(catalog["price"] < limit)["title"]
    assert len(items_in(printed)) == titles.n_unique()
    assert set(items_in(printed)) <= cheap
    assert "something [nice] for rain" in printed
    assert f"{len(cheap)} items may be returned, {catalog.height - len(cheap)} may not" in printed
    shares = [float(share) for share in re.findall(r"│ +(\d+\.\d)% ", printed)]
    assert sum(shares) == pytest.approx(100, abs=3), "of equal titles only one is returned"


def test_a_user_of_the_log_is_given_by_number(run_and_materials, capsys):
    run, materials = run_and_materials
    split = materials.split
    assert main(["recommend", str(run), "--user", str(split.users[3]), "-k", "5"]) == 0
    history = split.catalog["item"][split.items[split.offsets[3] : split.offsets[4]]]
    items = items_in(capsys.readouterr().out)
    assert len(items) == 5
    assert not set(items) & set(history)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--history", "no such thing at all"], "no item with the id or title"),
        (["--where", "prize < 3", "--instruction", "x"], "no column 'prize'"),
        (["--user", "999999999"], "no user 999999999"),
        ([], "neither a history nor an instruction"),
        (["--instruction", "x", "-k", "0"], "k: must be between 1 and"),
    ],
)
def test_wrong_arguments_exit_with_2_and_one_message(run_and_materials, capsys, words, message):
    assert main(["recommend", str(run_and_materials[0]), *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "  Hint: " in captured.err
    assert not captured.out


def test_a_condition_never_reads_a_file(run_and_materials, tmp_path, capsys):
    secret = tmp_path / "secret.csv"
    secret.write_text("line\nPASSWORD\n")
    words = ["recommend", str(run_and_materials[0]), "--instruction", "x", "--where"]
    assert main([*words, f"item in (select line from read_csv('{secret}'))"]) == 2
    captured = capsys.readouterr()
    assert "where: cannot be read from character 10" in captured.err
    assert "PASSWORD" not in captured.out + captured.err


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("price<80 AND " * 6_000 + "price<80", "at most 4,096 are read"),
        ("(" * 2_000 + "price<80" + ")" * 2_000, "more than 64 levels"),
        ("not " * 1_000 + "price<80", "more than 64 levels"),
        ("title < 5", "column 'title' is a text and cannot be compared with the number 5"),
        ("categories = 'shoes'", "column 'categories' is a list"),
        ("price contains '5'", "column 'price' is a number, and `contains` needs"),
        ("price >= 2014-05-01", "cannot be compared with the date 2014-05-01"),
        ("", "the condition is empty"),
    ],
    ids=["long", "deep", "nots", "number", "list", "contains", "date", "empty"],
)
def test_a_condition_that_cannot_be_used_ends_in_one_message(
    run_and_materials, capsys, condition, message
):
    words = ["recommend", str(run_and_materials[0]), "--instruction", "x", "--where", condition]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "  Hint: " in error


def test_a_condition_of_every_form(run_and_materials, capsys):
    run, materials = run_and_materials
    catalog = materials.split.catalog
    category, price = catalog["categories"][0][0], catalog["price"][0]
    has = catalog["categories"].list.contains(category)
    expected = catalog.filter(has & ((catalog["price"] > price) | catalog["brand"].is_null()))
    condition = f"categories CONTAINS '{category}' and (price > {price} or brand is null)"
    words = ["recommend", str(run), "--instruction", "x", "-k", "99", "--where", condition]
    assert main(words) == 0
    items = items_in(capsys.readouterr().out)
    assert items
    assert set(items) <= set(expected["item"])
    assert len(items) == expected["title"].n_unique()


def test_a_folder_name_is_never_a_pattern(run_and_materials, tmp_path, capsys):
    for name in ("run[1]", "run1"):
        shutil.copytree(run_and_materials[0], tmp_path / name)
    catalog = pl.read_parquet(tmp_path / "run1" / "catalog.parquet")
    catalog.with_columns(title="run1 " + pl.col("item")).write_parquet(
        tmp_path / "run1" / "catalog.parquet"
    )
    assert main(["recommend", str(tmp_path / "run[1]"), "--instruction", "x", "-k", "3"]) == 0
    printed = capsys.readouterr().out
    assert len(items_in(printed)) == 3
    assert "run1 " not in printed


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.int_range(pl.len()).alias("title"), "column 'title' is Int64, not String"),
        (pl.lit(None, pl.String).alias("title"), "no title"),
        (pl.col("title").alias("categories"), "column 'categories' is String, not List(String)"),
        (pl.col("title").alias("price"), "column 'price' is String, not Float64"),
        (pl.lit(7).alias("item"), "column 'item' is Int32, not String"),
    ],
    ids=["title", "null", "categories", "price", "item"],
)
def test_a_catalog_of_other_types_is_refused(run_and_materials, tmp_path, capsys, column, message):
    run = tmp_path / "copy"
    shutil.copytree(run_and_materials[0], run)
    catalog = pl.read_parquet(run / "catalog.parquet").with_columns(column)
    catalog.write_parquet(run / "catalog.parquet")
    write_checksums(run, Sources(log={}, catalog="", teacher=""))
    assert main(["recommend", str(run), "--instruction", "x"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(run / "catalog.parquet") in error
    assert "Hint: Copy the whole run folder" in error


ESCAPE = "\x1b]0;owned\x07\x1b[31m\u202eevil"


def test_what_others_wrote_does_not_steer_the_terminal(run_and_materials, tmp_path, capsys):
    run = tmp_path / "copy"
    shutil.copytree(run_and_materials[0], run)
    catalog = pl.read_parquet(run / "catalog.parquet")
    catalog = catalog.with_columns(title=ESCAPE + pl.col("title"))
    catalog.write_parquet(run / "catalog.parquet")
    write_checksums(run, Sources(log={}, catalog="", teacher=""))
    words = ["recommend", str(run), "--instruction", ESCAPE, "--explain"]
    assert main([*words, "-k", "2", "--history", catalog["item"][0]]) == 0
    captured = capsys.readouterr()
    assert main([*words, "--history", ESCAPE]) == 2
    error = capsys.readouterr().err
    for text in (captured.out, captured.err, error):
        assert not set("\x1b\x07\u202e") & set(text)
    for shown in (r"\x1b]0;owned", r"\x1b[31m\u202eevil"):  # rich leaves out the bell
        assert shown in captured.out
        assert shown in error


def test_a_long_word_is_shortened_in_a_message(run_and_materials, capsys):
    assert main(["recommend", str(run_and_materials[0]), "--history", "long " * 20_000]) == 2
    error = capsys.readouterr().err
    assert "no item with the id or title 'long long" in error
    assert "characters ..." in error
    assert len(error) < 3_000


def test_a_run_without_a_file_is_refused_by_name(run_and_materials, tmp_path, capsys):
    assert main(["recommend", str(tmp_path / "none"), "--instruction", "x"]) == 2
    assert "no such run folder" in capsys.readouterr().err
    copy = tmp_path / "copy"
    shutil.copytree(run_and_materials[0], copy)
    shutil.rmtree(copy / "checkpoints")
    assert main(["recommend", str(copy), "--instruction", "x"]) == 2
    assert "no checkpoint" in capsys.readouterr().err


def test_help_has_an_example():
    command = [sys.executable, "-m", "irec_jax.cli.main", "recommend", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    assert "irec recommend runs/shop --history" in done.stdout
    assert done.stderr == ""


def test_the_run_alone_is_enough(run_and_materials, tmp_path, capsys):
    run, materials = run_and_materials
    gone = dataclasses.replace(materials.experiment.data, log=str(tmp_path / "gone"))
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    (moved / "config.json").unlink()
    moved_materials = dataclasses.replace(
        materials, experiment=dataclasses.replace(materials.experiment, data=gone)
    )
    save_run(moved, moved_materials)
    assert main(["recommend", str(moved), "--instruction", "a gift", "-k", "3"]) == 0
    assert len(items_in(capsys.readouterr().out)) == 3
    assert main(["recommend", str(moved), "--user", "0"]) == 2
    assert "gone" in capsys.readouterr().err


def test_preference_and_context_are_options(run_and_materials, capsys):
    run, _ = run_and_materials
    words = ["--preference", "likes red things", "--context", "on a winter evening", "--explain"]
    assert main(["recommend", str(run), *words, "-k", "3"]) == 0
    printed = capsys.readouterr().out
    assert "request: a stated preference, over the whole catalog" in printed
    assert "likes red things" in printed
    assert "on a winter evening" in printed
    assert main(["recommend", str(run), *words, "--language", "zh"]) == 2
    assert "no pack is in the language 'zh'" in capsys.readouterr().err
