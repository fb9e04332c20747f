"""The shape of the code, kept by a test: sizes, arguments, folders, names."""

import ast
import re
from pathlib import Path

import pytest

from irec_jax.experiment.config import Experiment
from irec_jax.settings import flatten, to_json

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "irec_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_POSITIONAL_ARGUMENTS = 6
MAX_SETTINGS = 90
MAX_INSTRUCTIONS_LINES = 3_000
GRAB_BAGS = re.compile(r"(^|_)(utils?|common|base|helpers?|manager)(_|$)")

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> list[FunctionNode]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, FunctionNode)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_stays_within_the_limits(path: Path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{path} has {lines} lines: split it by what it does"
    for function in functions(path):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= MAX_FUNCTION_LINES, f"{path}: {function.name} has {length} lines"
        positional = len(function.args.posonlyargs) + len(function.args.args)
        positional -= bool(function.args.args) and function.args.args[0].arg in ("self", "cls")
        assert positional <= MAX_POSITIONAL_ARGUMENTS, f"{path}: {function.name} takes {positional}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_a_docstring_and_live_annotations(path: Path):
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), f"{path} does not say what it does"
    assert "from __future__ import annotations" not in source, "it would switch shape checks off"


def test_folders_are_shallow_and_no_module_is_a_grab_bag():
    for path in FILES:
        inside = path.relative_to(PACKAGE)
        assert len(inside.parts) <= 3, f"{inside} is more than two folders down"
        for part in inside.parts:
            assert not GRAB_BAGS.search(part.removesuffix(".py")), f"{inside}: name what it does"


def test_nothing_is_left_to_do():
    for path in FILES:
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text(encoding="utf-8")), path


def test_an_experiment_has_few_settings():
    settings = flatten(to_json(Experiment()))
    assert len(settings) <= MAX_SETTINGS, "remove a setting that no config, doc or test needs"


def test_the_instructions_package_does_one_thing():
    files = (PACKAGE / "instructions").glob("*.py")
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    assert lines <= MAX_INSTRUCTIONS_LINES
