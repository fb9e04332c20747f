"""The `irec` command: finds the sub-command, reads its arguments, turns errors into exit codes."""

import difflib
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import tyro
from rich.table import Table

from irec_jax.errors import InputError
from irec_jax.files import DISK_FULL
from irec_jax.model.host_memory import keep_freed_memory
from irec_jax.planning.topology import libtpu_arguments
from irec_jax.settings import check_text
from irec_jax.terminal import Console

LIBTPU = "LIBTPU_INIT_ARGS"
EXIT_OK, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 2, 130


class Command(NamedTuple):
    """Where a sub-command lives; imported only when it is called, so that help is instant."""

    module: str
    settings: str
    summary: str
    takes_overrides: bool = False


COMMANDS = {
    "quickstart": Command("quickstart", "Quickstart", "the whole path on a simulated log"),
    "data prepare": Command("data", "Prepare", "make a behavior log from a source"),
    "data describe": Command("data", "Describe", "counts, lengths, ties and leaks of a log"),
    "instruct": Command("instruct", "Instruct", "render and store an instruction set", True),
    "teach": Command("teach", "Teach", "have a model write preferences and queries", True),
    "tune": Command("tune", "Tune", "train a model, or resume training", True),
    "launch status": Command("launch", "LaunchStatus", "show the state of a launch"),
    "launch stop": Command("launch", "LaunchStop", "have a launch save and leave"),
    "launch": Command("launch", "Launch", "tune in the background, or on other machines", True),
    "evaluate": Command("evaluate", "Evaluate", "rank the whole catalog and report"),
    "recommend": Command("recommend", "Recommend", "one answer for a history and a wish"),
    "plan": Command("plan", "PlanCommand", "does it fit, and what would it take", True),
    "export": Command("export", "Export", "write a Hugging Face folder"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code.

    0: done; 1: a plan does not fit, an export does not agree, or a launch failed; 2: the input,
    the settings or the command line are wrong, or nothing more can be written; 130: interrupted
    by Ctrl-C. A process that SIGTERM ended exits with 143, one that lost the others of its run
    with 75, which a scheduler may start again.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ[LIBTPU] = libtpu_arguments(os.environ.get(LIBTPU, ""))
    keep_freed_memory()
    logging.getLogger("absl").setLevel(logging.ERROR)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        return _dispatch(words)
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


def _dispatch(words: list[str]) -> int:
    for number, word in enumerate(words, start=1):
        check_text(word, f"argument {number}")
    if not words or words[0] in ("-h", "--help", "help"):
        _print_overview()
        return EXIT_OK
    if words[0] == "--version":
        from irec_jax import __version__

        sys.stdout.write(f"irec-jax {__version__}\n")
        return EXIT_OK
    name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), None)
    if name is None:
        raise _unknown_command(words)
    command, rest = COMMANDS[name], words[len(name.split()) :]
    settings = getattr(importlib.import_module(f"irec_jax.cli.{command.module}"), command.settings)
    if command.takes_overrides:
        parsed, overrides = tyro.cli(
            settings, prog=f"irec {name}", args=rest, return_unknown_args=True
        )
        parsed.run(overrides)
    else:
        tyro.cli(settings, prog=f"irec {name}", args=rest).run()
    return EXIT_OK


def _unknown_command(words: list[str]) -> InputError:
    given = " ".join(words[:2] if words[0] == "data" else words[:1])
    close = difflib.get_close_matches(given, COMMANDS, n=1, cutoff=0.5)
    guess = f"Did you mean 'irec {close[0]}'? " if close else ""
    return InputError(f"no command '{given}'", hint=f"{guess}`irec --help` lists them all.")


def _print_overview() -> None:
    table = Table("command", "what it does", title="irec: instruction-tuned recommenders in JAX")
    for name, command in COMMANDS.items():
        table.add_row(f"irec {name}", command.summary)
    console = Console()
    console.print(table)
    console.print("Start with `irec quickstart`; `irec COMMAND --help` explains each.")


if __name__ == "__main__":
    sys.exit(main())
