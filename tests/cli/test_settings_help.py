"""`irec settings` and the help of commands that take settings: complete, current, searchable."""

from pathlib import Path

import pytest

from irec_jax.cli.main import main
from irec_jax.experiment.config import Experiment
from irec_jax.experiment.setting_list import find_settings, list_settings
from irec_jax.settings import flatten, to_json

ROOT = Path(__file__).parents[2]
KEYS = flatten(to_json(Experiment()))


def listed() -> dict[str, str]:
    return {setting.key: setting.text for group in list_settings() for setting in group.settings}


def test_every_setting_is_listed_once_with_an_explanation():
    keys = [setting.key for group in list_settings() for setting in group.settings]
    assert sorted(keys) == sorted(KEYS)
    assert all(text.endswith(".") for text in listed().values())


def test_the_page_of_the_docs_is_current(capsys):
    assert main(["settings", "--markdown"]) == 0
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == page, "run `irec settings --markdown > docs/settings.md`"


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("batch-size", "train.batch_size"),
        ("--train.batch-size", "train.batch_size"),
        ("LEARNING rate", "optimizer.peak"),
        ("muon", "optimizer.kind"),
    ],
)
def test_a_word_finds_names_values_and_explanations(word, key):
    found = [setting.key for group in find_settings(word, list_settings()) for setting in group[2]]
    assert key in found
    assert len(found) < len(KEYS) / 4


def test_an_unknown_word_is_answered_with_the_nearest_name(capsys):
    assert main(["settings", "batchsiz"]) == 2
    assert "Did you mean 'train.batch_size'?" in capsys.readouterr().err


def test_a_file_gives_the_values(tiny_config, capsys):
    assert main(["settings", "batch_size", "--experiment", str(tiny_config)]) == 0
    assert "--train.batch_size 8  [int]" in capsys.readouterr().out


def test_the_help_of_a_command_lists_every_setting_with_the_values_of_the_file(
    tiny_config, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        main(["tune", str(tiny_config), "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    in_file_only = {"instructions.own_tasks", "evaluation.baselines"}
    for key in KEYS:
        flag = f"{key} (config file)" if key in in_file_only else f"--{key} "
        assert flag in printed
    assert "--train.steps 6  [int]" in printed
    settings = printed[printed.index("--seed") :]
    assert max(map(len, settings.splitlines())) <= 80


def test_a_wrong_setting_names_the_command(tiny_config, capsys):
    with pytest.raises(SystemExit):
        main(["instruct", str(tiny_config), "--train.stepz", "3", "--audit"])
    assert "irec instruct" in capsys.readouterr().err
