"""Outputs of commands on a terminal of 80 columns: whole words, whole tables, no codes."""

import re

import pytest

from irec_jax.cli.main import main
from irec_jax.experiment.loading import load_experiment

TINY = ["--simulate.users", "40", "--simulate.items", "100"]
DESCRIBE = ["instruct", "CONFIG", "--describe"]
COMMANDS = {
    "overview": [],
    "help of a group": ["data", "--help"],
    "prepare": ["data", "prepare", "simulated", *TINY, "--out", "LOG2"],
    "describe": ["data", "describe", "LOG"],
    "coverage": DESCRIBE,
    "coverage in two languages": [*DESCRIBE, "--instructions.packs", "en", "zh"],
    "audit": ["instruct", "CONFIG", "--audit", "--records", "60"],
    "store": ["instruct", "CONFIG", "--out", "SET", "--records", "60"],
    "recommend": ["recommend", "RUN", "--instruction", "a blue mug", "-k", "3"],
    "explain": ["recommend", "RUN", "--user", "3", "-k", "3", "--explain"],
    "evaluate": ["evaluate", "RUN", "--max-requests", "5"],
    "settings": ["settings"],
    "doctor": ["doctor"],
}
FRAME = re.compile("[│┃━─┏┓]")
CODE = re.compile(r"\b(none|implicit|explicit)-(none|vague|specific)-|<item_\d|[a-z]+_search\b")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_config, make_run) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("narrow")
    log, run = folder / "log", folder / "run"
    assert main(["data", "prepare", "simulated", *TINY, "--out", str(log)]) == 0
    make_run(run, load_experiment(tiny_config))
    names = {"LOG": log, "LOG2": folder / "log2", "SET": folder / "set", "RUN": run}
    return {"CONFIG": str(tiny_config), **{name: str(path) for name, path in names.items()}}


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_cut_or_too_wide(name, folders, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([folders.get(word, word) for word in COMMANDS[name]]) == 0
    printed = capsys.readouterr().out
    assert printed.strip()
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed
    wide = [line for line in printed.splitlines() if len(line) > 80]
    assert not [line for line in wide if FRAME.search(line)]
    allowed = ("/", "irec ", "sha256")
    assert not [line for line in wide if not any(word in line for word in allowed)]
    if name not in ("settings", "overview"):
        assert not CODE.search(printed), CODE.search(printed)


def test_scores_are_explained(folders, capsys):
    assert main(["recommend", folders["RUN"], "--instruction", "a blue mug", "-k", "2"]) == 0
    assert "score: the natural logarithm of the probability" in capsys.readouterr().out


def test_a_page_of_samples_has_titles(folders, tmp_path):
    out = tmp_path / "set"
    assert main(["instruct", folders["CONFIG"], "--out", str(out), "--records", "20"]) == 0
    page = (out / "sample.html").read_text(encoding="utf-8")
    prompts = re.findall(r"<blockquote dir='auto'>(.*?)</blockquote>", page)
    assert len(prompts) == 40
    assert not [prompt for prompt in prompts if "item_" in prompt]
    assert sum("&quot;" in prompt for prompt in prompts) > 10
    assert not re.search(r"(none|implicit)-(none|vague|specific)-", page)
