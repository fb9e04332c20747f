"""The `irec` command: finds the sub-command, parses its arguments, maps errors to exit codes.

Exit codes (`irec_jax/exit_codes.py`):

* 0: done.
* 1: a check failed: a plan does not fit, an export differs, or a launch failed.
* 2: the input, the settings or the command line are wrong, or the disk is full.
* 75: another process of the run was lost; a scheduler may start the run again.
* 130: interrupted by Ctrl-C (SIGINT), with everything saved.
* 143: ended by SIGTERM, with everything saved.
"""

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from rich.table import Table

from irec_jax.api.process import set_up_process
from irec_jax.cli.command_flags import (
    flags_of_settings,
    normalize_switches,
    refuse_misspelled,
)
from irec_jax.errors import InputError
from irec_jax.exit_codes import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK
from irec_jax.files import DISK_FULL
from irec_jax.settings import check_text
from irec_jax.terminal import Console


class Command(NamedTuple):
    """A sub-command; its module is imported only when it is called, so that help is instant.

    Attributes:
        module: Module of `irec_jax.cli`.
        settings: Its settings class, or a function that returns the class for the arguments.
        summary: One line for `irec --help`.
        takes_overrides: Whether unknown arguments are settings of the experiment.
        by_arguments: Whether `settings` is such a function.
    """

    module: str
    settings: str
    summary: str
    takes_overrides: bool = False
    by_arguments: bool = False


COMMANDS = {
    "quickstart": Command("quickstart", "Quickstart", "all steps on a simulated log"),
    "data prepare": Command("data", "Prepare", "convert a source into a behavior log"),
    "data describe": Command("data", "Describe", "counts, lengths, ties and leaks of a log"),
    "new": Command("new", "New", "write a config file that suits a log"),
    "instruct": Command("instruct", "Instruct", "render and store an instruction set", True),
    "teach": Command("teach", "Teach", "generate preferences and queries with a model", True),
    "tune": Command("tune", "Tune", "train a model, or resume training", True),
    "launch status": Command("launch", "LaunchStatus", "state of a launch"),
    "launch stop": Command("launch", "LaunchStop", "save and end a launch"),
    "launch": Command(
        "launch", "launch_settings", "tune in the background, or on other machines", True, True
    ),
    "evaluate": Command("evaluate", "Evaluate", "rank the whole catalog and report"),
    "compare": Command("compare", "Compare", "evaluated runs side by side"),
    "recommend": Command("recommend", "Recommend", "recommend for a history and an instruction"),
    "plan": Command("plan", "PlanCommand", "memory, time and cost of a run on a TPU", True),
    "settings": Command("settings_help", "Settings", "list or search the settings of experiments"),
    "doctor": Command("doctor", "Doctor", "versions, devices, memory and speed of this machine"),
    "export": Command("export", "Export", "write a Hugging Face folder"),
}

GROUPS = {name.split()[0] for name in COMMANDS if " " in name}
EXAMPLES = {
    "data": "irec data prepare simulated --out logs/shop && irec data describe logs/shop",
    "launch": "irec launch configs/quickstart.py --on local && irec launch status runs/quickstart",
}
"""An example of each group of commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        arguments: Without the program's name; None takes those of this process.

    Returns:
        The exit code, as the module's docstring lists them. Some commands raise `SystemExit` with
        theirs instead.
    """
    command_line = list(sys.argv[1:] if arguments is None else arguments)
    set_up_process()
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        return _dispatch(command_line)
    except InputError as error:
        errors.print(f"irec: error: {error}", markup=False)
        return EXIT_BAD_INPUT
    except OSError as error:
        errors.print(f"irec: error: {_describe(error)}", markup=False)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        errors.print("irec: interrupted", markup=False)
        return EXIT_INTERRUPTED


def _describe(error: OSError) -> str:
    """Says what failed at which file; a writer's note says whether the old one is still there."""
    what = "the disk is full" if error.errno in DISK_FULL else str(error.strerror or error)
    place = f" ({error.filename})" if error.filename else ""
    return " ".join([f"{what}{place}.", *dict.fromkeys(getattr(error, "__notes__", ()))])


def _dispatch(command_line: list[str]) -> int:
    for number, argument in enumerate(command_line, start=1):
        check_text(argument, f"argument {number}")
    if not command_line or command_line[0] in ("-h", "--help", "help"):
        _print_overview()
        return EXIT_OK
    if command_line[0] == "--version":
        from irec_jax import __version__

        sys.stdout.write(f"irec-jax {__version__}\n")
        return EXIT_OK
    name = next(
        (name for name in COMMANDS if command_line[: len(name.split())] == name.split()), None
    )
    if name is None:
        if command_line[0] in GROUPS and set(command_line[1:]) <= {"-h", "--help", "help"}:
            _print_group(command_line[0])
            return EXIT_OK
        raise _unknown_command(command_line)
    command, rest = COMMANDS[name], command_line[len(name.split()) :]
    settings = getattr(importlib.import_module(f"irec_jax.cli.{command.module}"), command.settings)
    if command.by_arguments:
        settings = settings(rest)
    _run(name, settings, rest)
    return EXIT_OK


def _run(name: str, settings: Any, arguments: list[str]) -> None:
    """Parses the arguments of a command and runs it."""
    switches = {flag.key for flag in flags_of_settings(settings) if flag.is_switch}
    if not COMMANDS[name].takes_overrides:
        words = normalize_switches(arguments, switches)
        tyro.cli(settings, prog=f"irec {name}", args=words).run()
        return
    from irec_jax.experiment.config import Experiment

    switches |= {flag.key for flag in flags_of_settings(Experiment) if flag.is_switch}
    words = normalize_switches(arguments, switches)
    try:
        parsed, overrides = tyro.cli(
            settings, prog=f"irec {name}", args=words, return_unknown_args=True
        )
    except SystemExit as stop:
        if stop.code == EXIT_OK:  # help was asked for and is printed
            if name in GROUPS:
                _print_group(name)
            _print_settings(arguments)
        raise
    if not COMMANDS[name].by_arguments:
        refuse_misspelled(name, settings, overrides, Experiment.__dataclass_fields__)
    parsed.run(overrides)


def _print_settings(arguments: Sequence[str]) -> None:
    """Prints the settings of the experiment that is among the arguments, or the defaults."""
    from irec_jax.cli.settings_help import print_settings
    from irec_jax.experiment.loading import load_experiment
    from irec_jax.experiment.setting_list import list_settings

    files = [path for path in map(Path, arguments) if path.suffix == ".py" and path.is_file()]
    experiment = load_experiment(files[0]) if files else None
    print_settings(list_settings(experiment), whole_texts=False)


def _unknown_command(command_line: list[str]) -> InputError:
    given = " ".join(command_line[:2] if command_line[0] in GROUPS else command_line[:1])
    close = difflib.get_close_matches(given, COMMANDS, n=1, cutoff=0.5)
    guess = f"Did you mean 'irec {close[0]}'? " if close else ""
    return InputError(f"unknown command '{given}'", hint=f"{guess}Run `irec --help` for a list.")


def _print_overview() -> None:
    table = Table("command", "purpose", title="irec: instruction-tuned recommenders in JAX")
    for name, command in COMMANDS.items():
        table.add_row(f"irec {name}", command.summary)
    console = Console()
    console.print(table)
    console.print("Start with `irec quickstart`; `irec COMMAND --help` explains each command.")


def _print_group(group: str) -> None:
    """Prints the commands that start with a word, and an example."""
    table = Table("command", "purpose", title=f"commands of irec {group}")
    for name, command in COMMANDS.items():
        if name.split()[0] == group:
            table.add_row(f"irec {name}", command.summary)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"Example: {EXAMPLES[group]}", soft_wrap=True)
    console.print("`irec COMMAND --help` explains each command.")


if __name__ == "__main__":
    sys.exit(main())
