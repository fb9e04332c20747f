"""Experiments from Python config files, with overrides from the command line."""

import difflib
import os
import traceback
from collections.abc import Sequence
from pathlib import Path

import tyro

from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment
from irec_jax.experiment.config_mistakes import hint_for
from irec_jax.settings import check_texts, load_module, to_json


def load_experiment(path: Path, overrides: Sequence[str] = (), command: str = "tune") -> Experiment:
    """Reads `experiment` from a Python file and sets leaves from the command line.

    Args:
        path: A file as in `configs/`.
        overrides: Such as `["--train.steps", "2000"]`.
        command: The command that was given them, for messages.

    Raises:
        InputError: If there is no such file, or it does not define an `Experiment`. An unknown
            or impossible override ends the program with exit code 2, as tyro does.
    """
    if not path.is_file():
        known = sorted(str(file) for file in Path("configs").glob("*.py"))
        close = difflib.get_close_matches(str(path), known, n=1, cutoff=0.3)
        hint = f"Did you mean {close[0]}?" if close else "Give the path of a Python config file."
        raise InputError("there is no such experiment file", where=str(path), hint=hint)
    experiment = _run_config_file(path)
    experiment = tyro.cli(
        tyro.conf.EnumChoicesFromValues[tyro.conf.AvoidSubcommands[Experiment]],
        default=experiment,
        args=list(overrides),
        prog=f"irec {command} {path}",
        use_underscores=True,
    )
    check_texts(to_json(experiment), str(path))
    return experiment


def _run_config_file(path: Path) -> Experiment:
    try:
        module = load_module(path)
    except KeyboardInterrupt:
        raise
    except InputError as error:
        where = f"{_place(path, error)}: {error.where}".rstrip(": ")
        raise InputError(error.problem, where=where, hint=error.hint) from None
    except BaseException as error:  # SystemExit too: the command would end with its code
        problem = f"{type(error).__name__}: {error}".rstrip(": ")
        raise InputError(problem, where=_place(path, error), hint=hint_for(error)) from error
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        hint = "End the file with `experiment = Experiment(...)`."
        raise InputError("it defines no `experiment`", where=str(path), hint=hint)
    return experiment


def _place(path: Path, error: BaseException) -> str:
    """Returns the file and the line of it that raised `error`, where that is known."""
    whole = os.path.abspath(path)
    if isinstance(error, SyntaxError) and os.path.abspath(error.filename or "") == whole:
        return f"{path}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if os.path.abspath(frame.filename) == whole]
    return f"{path}:{lines[-1]}" if lines else str(path)
