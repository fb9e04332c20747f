"""Switches in all their forms, dashes and underscores, misspelled flags, and help of groups."""

import importlib

import pytest

from irec_jax.cli import main as cli
from irec_jax.cli.command_flags import flags_of_settings, normalize_switches
from irec_jax.cli.main import COMMANDS, main
from irec_jax.experiment.config import Experiment
from irec_jax.experiment.loading import load_experiment

from .hostile_flags import flags_of

pytestmark = pytest.mark.fast

FORMS = {
    "--{x}": True,
    "--{x} true": True,
    "--{x}=TRUE": True,
    "--no-{x} false": True,
    "--{no}": False,
    "--no-{x}": False,
    "--{x} false": False,
    "--{x}=false": False,
}

REQUIRED = {
    "quickstart": [],
    "data prepare": ["simulated", "--out", "log"],
    "data describe": ["log"],
    "new": ["x.py", "--log", "log"],
    "instruct": ["x.py"],
    "teach": ["x.py", "--by", "model", "--out", "texts"],
    "tune": ["x.py"],
    "launch status": ["run"],
    "launch stop": ["run"],
    "evaluate": ["run"],
    "recommend": ["run"],
    "plan": ["x.py", "--topology", "local"],
    "settings": [],
    "doctor": [],
    "export": ["run", "--out", "hf"],
}


def written(form: str, key: str) -> list[str]:
    section, dot, leaf = key.rpartition(".")
    return form.format(x=key, no=f"{section}{dot}no_{leaf}").split()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dashes", [True, False])
def test_a_switch_of_the_experiment_has_all_forms(form, dashes, tiny_config, monkeypatch):
    found = []

    def load(path, overrides, command):
        found.append(load_experiment(path, overrides, command))
        raise KeyboardInterrupt

    monkeypatch.setattr("irec_jax.cli.plan.load_experiment", load)
    words = written(form, "model.unroll_layers")
    words = [word.replace("_", "-") for word in words] if dashes else words
    assert main(["plan", str(tiny_config), *words, "--topology=local"]) == 130
    assert found[0].model.unroll_layers is FORMS[form]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"launch"}))
def test_every_switch_of_a_command_has_all_forms(command, form, monkeypatch):
    switches = [flag for flag in flags_of(command) if flag.kinds == {bool}]
    about = COMMANDS[command]
    settings = getattr(importlib.import_module(f"irec_jax.cli.{about.module}"), about.settings)
    own = {flag.key for flag in flags_of_settings(settings) if flag.is_switch}
    assert own <= {flag.name.removeprefix("--").replace("-", "_") for flag in switches}
    found = []
    monkeypatch.setattr(settings, "run", lambda self, overrides=(): found.append(self))
    for key in own:
        code = main([*command.split(), *REQUIRED[command], *written(form, key)])
        value = found.pop()
        for name in key.split("."):
            value = getattr(value, name)
        assert (code, value) == (0, FORMS[form])


@pytest.mark.parametrize("words", [["--dry-run", "true"], ["--dry_run=1x"], ["--no-dry-run"]])
def test_a_switch_of_a_launch(words, tiny_config, tmp_path, capsys):
    launch = ["launch", *words, str(tiny_config), "--on", "local", "--out", str(tmp_path / "run")]
    if words == ["--no-dry-run"]:
        launch += ["--dry-run"]  # the last one counts
    code = main([*launch, "--model.tied-head", "false"])
    printed = capsys.readouterr()
    if "=1x" in words[0]:
        assert code == 2
        assert "--dry_run: must be true or false, got '1x'" in printed.err
    else:
        assert code == 0
        assert "--model.no-tied-head" in printed.out
    assert not list(tmp_path.iterdir())


def test_a_word_behind_a_switch_is_left_alone():
    words = ["--profile", "configs/a.py", "--history", "true", "--a.b=false"]
    assert normalize_switches(words, {"profile"}) == words


def test_switches_are_the_booleans():
    switches = {flag.key for flag in flags_of_settings(Experiment) if flag.is_switch}
    assert switches == {flag.name[2:].replace("-", "_") for flag in _experiment_booleans()}
    assert "model.tied_head" in switches


def _experiment_booleans():
    return [f for f in flags_of("tune") if f.kinds == {bool} and "." in f.name]


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["tune", "CONFIG", "--prfile"], "--profile"),
        (["tune", "CONFIG", "--train.stepz", "3"], "--train.steps"),
        (["tune", "CONFIG", "--model.tied-hed", "true"], "--model.tied_head"),
        (["recommend", "run", "--expalin"], "--explain"),
        (["launch", "CONFIG", "--on", "local", "--dryrun"], "--dry-run"),
        (["data", "describe", "log", "--pictur", "x.svg"], "--picture"),
    ],
)
def test_a_misspelled_flag_is_answered_with_the_nearest(words, nearest, tiny_config, capsys):
    words = [str(tiny_config) if word == "CONFIG" else word for word in words]
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert nearest in capsys.readouterr().err


@pytest.mark.parametrize("words", [["data"], ["data", "--help"], ["data", "-h"], ["data", "help"]])
def test_the_help_of_a_group_lists_its_commands_with_an_example(words, capsys):
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "irec data prepare" in printed
    assert "Example: irec data prepare simulated" in printed


def test_the_help_of_launch_lists_its_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["launch", "--help"])
    assert stop.value.code == 0
    assert "irec launch stop" in capsys.readouterr().out


def test_every_group_has_an_example():
    assert set(cli.EXAMPLES) == cli.GROUPS


def test_an_unknown_command_of_a_group_is_answered_with_the_nearest(capsys):
    assert main(["data", "prepair"]) == 2
    assert "Did you mean 'irec data prepare'?" in capsys.readouterr().err
