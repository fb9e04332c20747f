"""Generated faults through every command: bytes, types, sizes, strings and paths.

Whatever the input, a command exits with 0 or 2, prints no traceback, changes nothing but what it
was asked to write, and needs less than 5 s. The default run is the same every time;
`IREC_FAULT_CASES=200 pytest tests/cli/test_hostile.py` draws so many cases for each at random.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
from hypothesis import strategies as st

from irec_jax.cli import quickstart
from irec_jax.cli.main import COMMANDS
from irec_jax.experiment.config import Experiment
from irec_jax.log.simulate import SimulateConfig
from irec_jax.planning import run_plan as plan

from .hostile_damage import damaged
from .hostile_flags import Flag, flags_of
from .hostile_sandbox import CONFIG, Call, Sandbox

# A call of these takes a second or more.
FEW = {"quickstart", "tune", "evaluate"}


class Size(NamedTuple):
    """How many cases a test draws for a command."""

    most: int
    few: int
    derandomize: bool

    def sweep(self, command: str, cases: st.SearchStrategy, check: Callable[[Any], None]) -> None:
        """Draws cases and checks each; a failure is shown as drawn, as shrinking takes minutes."""
        settings = hypothesis.settings(
            max_examples=self.few if command in FEW else self.most,
            derandomize=self.derandomize,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        settings(hypothesis.given(cases)(check))()


CASES = int(os.environ.get("IREC_FAULT_CASES", "0"))
SIZE = Size(CASES, max(1, CASES // 10), False) if CASES else Size(5, 1, True)
every_command = pytest.mark.parametrize("command", sorted(COMMANDS))
every_size = pytest.mark.parametrize("size", [SIZE], ids=["cases"])


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory, compiled) -> Iterator[Sandbox]:
    """Inputs of every kind; each command has run once, so that its programs are compiled."""
    made = Sandbox(tmp_path_factory.mktemp("hostile"))
    with pytest.MonkeyPatch.context() as patch:
        smaller_quickstart(patch)
        patch.setenv("COLUMNS", "120")
        with _compiled_once(patch):
            for call in made.calls().values():
                made.warm(call)
            yield made


def smaller_quickstart(patch: pytest.MonkeyPatch) -> None:
    """Gives `irec quickstart` two steps on a small log."""
    config: dict[str, Any] = {}
    exec(CONFIG.format(log="simulated"), config)
    experiment: Experiment = config["experiment"]
    simulate = SimulateConfig(users=30, items=100)
    data = dataclasses.replace(experiment.data, simulate=simulate)
    patch.setattr(quickstart, "EXPERIMENT", dataclasses.replace(experiment, data=data))


@contextlib.contextmanager
def _compiled_once(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keeps the compiler's answer: it works in another process, which takes seconds each time."""
    real, answers = plan.compile_with_recheck, []

    def compile_once(job, report=None):
        if not answers:
            answers.append(real(job, report))
        return answers[0]

    patch.setattr(plan, "compile_with_recheck", compile_once)
    yield


def readers_of(sandbox: Sandbox, command: str) -> list[tuple[str, Call]]:
    """The inputs that a command reads, with a command line that reads each."""
    call = sandbox.calls()[command]
    texts = {
        "--instructions.teacher": "texts",
        "--instructions.teacher_texts": str(sandbox["texts"]),
    }
    closed = {"--chat.base-url": "http://127.0.0.1:9/v1", "--chat.retries": "0"}
    chat = {"--by": "chat", "--chat.model": "tester", **closed, "--answers": str(answers(sandbox))}
    of = {
        "data prepare": [
            (kind, call.given({"PATH": str(sandbox[kind])}))
            for kind in ("csv", "tsv", "jsonl", "parquet", "gz")
        ],
        "data describe": [("log", call)],
        "new": [("log", call)],
        "settings": [("config.py", call)],
        "instruct": [
            ("log", call.given({"--describe": "True"})),
            ("set", call.given({"--out": str(sandbox["set"])}, [sandbox["set"]])),
            ("texts", call.given(texts)),
        ],
        "teach": [
            ("run", call),
            ("log", call),
            ("texts.answers.jsonl", call.given(chat, [answers(sandbox)])),
        ],
        "tune": [
            ("run", call.given({"--out": str(sandbox["run"])}, [sandbox["run"]])),
            ("packed", call.given({"--train.packed": str(sandbox["packed"])})),
            ("hf", call.given({"--train.pretrained": str(sandbox["hf"])})),
        ],
        "plan": [("log/manifest.json", call)],
        "launch": [("config.py", call)],
        "quickstart": [
            ("run/config.json", call.given({"--out": str(sandbox["run"])}, [sandbox["run"]]))
        ],
        "evaluate": [("run", call), ("log", call)],
        "compare": [("other/reports", call), ("other/config.json", call)],
        "recommend": [("run", call), ("log", call.given({"--user": "0"}))],
    }
    if command == "instruct":
        del of["instruct"][0][1].options["--out"], of["instruct"][0][1].options["--records"]
    return of.get(command, [("run/launch" if command.startswith("launch") else "run", call)])


def answers(sandbox: Sandbox) -> Path:
    """The file of a chat model's answers."""
    return sandbox["texts.answers.jsonl"]


@every_size
@every_command
def test_a_damaged_file(sandbox: Sandbox, command: str, size: Size):
    readers = readers_of(sandbox, command)
    files = [(call, path) for name, call in readers for path in sandbox.files(name)]

    def damage(reader: tuple[Call, Path]) -> st.SearchStrategy[tuple[Call, Path, bytes]]:
        return damaged(reader[1].read_bytes()).map(lambda content: (*reader, content))

    def check(case: tuple[Call, Path, bytes]) -> None:
        call, path, content = case
        sandbox.check(call, {path: content})

    size.sweep(command, st.sampled_from(files).flatmap(damage), check)


# Values of flags

NUMBERS = ("-1", "0", "1e5", "nan", "inf", "-inf", "1e308", "", "x", str(10**12), str(10**18))
NUMBERS += (str(2**63), str(2**64), str(2**70), str(-(2**63)), str(-(2**70)), "9" * 5_000, "1.5")
STRINGS = ("", " ", "\0", "\ud800", "\x1b[31mred\x1b[0m", "x" * 100_000, "{}", "{0.__class__}")
STRINGS += ("[bold]x[/bold]", "[/]", "[link=x", "%s%d", "\n", "\u202e", "🦊", "../x", "-x", "$(x)")
NAMES = (
    "[a]*?",
    " ",
    "a b",
    "ü🦊",
    "a\nb",
    "a\x1b[31m",
    "x" * 300,
    "\0",
    "\udcff",
    "[/]",
    "no/way",
)


def paths(sandbox: Sandbox) -> dict[str, str]:
    """Paths by what is wrong with them."""
    loop = sandbox["out"] / "loop"
    fresh = {f"named {name[:9]!a}": str(sandbox["out"] / name) for name in NAMES}
    return {
        **fresh,
        "empty": "",
        "here": ".",
        "above": "..",
        "home": str(sandbox["home"]),
        "a loop": str(loop),
        "in a loop": str(loop / "x"),
        "a file": str(sandbox["mine"] / "letter.txt"),
        "in a file": str(sandbox["mine"] / "letter.txt" / "x"),
        "another's folder": str(sandbox["mine"]),
        "a log": str(sandbox["log"]),
        "tables": str(sandbox["csv"]),
        "a device": "/dev/null",
        "in a device": "/dev/null/x",
    }


def swept(sandbox: Sandbox, command: str, cases: st.SearchStrategy, size: Size) -> None:
    """Checks a command line with each of the flags that are drawn."""
    call = sandbox.calls()[command]

    def check(case: tuple[Flag, str]) -> None:
        flag, value = case
        written = Path(value) if Path(value).is_relative_to(sandbox["out"]) else sandbox.out
        more = [written, written.with_name(f"{written.name}.answers.jsonl")] if value else []
        sandbox.check(call.given({flag.name: value}, more))

    size.sweep(command, cases, check)


def flags_with(command: str, *kinds: type) -> list[Flag]:
    return [flag for flag in flags_of(command) if flag.kinds & set(kinds)]


@every_size
@every_command
def test_a_number_out_of_range(sandbox: Sandbox, command: str, size: Size):
    flags = flags_with(command, int, float)
    if flags:
        drawn = st.tuples(st.sampled_from(flags), st.sampled_from(NUMBERS))
        swept(sandbox, command, drawn, size)


@every_size
@every_command
def test_a_string(sandbox: Sandbox, command: str, size: Size):
    flags = [flag for flag in flags_with(command, str) if flag.name not in PATHS_AS_TEXT]
    if flags:
        drawn = st.tuples(st.sampled_from(flags), st.sampled_from(STRINGS))
        swept(sandbox, command, drawn, size)


@every_size
@every_command
def test_a_path(sandbox: Sandbox, command: str, size: Size):
    flags = flags_with(command, Path) + [
        flag for flag in flags_with(command, str) if flag.name in PATHS_AS_TEXT
    ]
    if flags:
        drawn = st.tuples(st.sampled_from(flags), st.sampled_from([*paths(sandbox).values()]))
        swept(sandbox, command, drawn, size)


PATHS_AS_TEXT = ("PATH", "--picture", "--data.log", "--instructions.teacher_texts")
PATHS_AS_TEXT += ("--train.packed", "--train.pretrained", "--tokens.tokenizer")
PATHS_AS_TEXT += ("--table.interactions",)


# Conditions

WORDS = ("price", "item", "title", "categories", "prize", "<", ">=", "=", "==", "!=", "and", "or")
WORDS += ("not", "in", "is", "null", "contains", "(", ")", "((((", "[", "]", ",", "'a'", '"a"', "'")
WORDS += ("1", "-1", "1e999", "9" * 400, "'2024-01-01'", "*", ";", "--", ".", "\0", "\ud800", "🦊")
WORDS += (
    "SELECT",
    "FROM",
    "read_csv('LETTER')",
    "read_csv('http://127.0.0.1:9/')",
    "UNION",
    "self",
)
WORDS += (
    "item IN (SELECT * FROM read_csv('LETTER'))",
    "price < 5",
    "price < 5 AND " * 40,
    "lambda",
)


@every_size
def test_a_condition(sandbox: Sandbox, size: Size):
    call = sandbox.calls()["recommend"]
    letter = str(sandbox["mine"] / "letter.txt")
    some = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)
    deep = st.builds(lambda n: "(" * n + "price < 5" + ")" * n, st.integers(1, 3_000))
    long = st.builds(lambda n: "price < 5 and " * n + "price < 5", st.integers(1, 9_000))
    drawn = st.one_of(some, some, some, deep, long, st.text(max_size=60))

    def check(condition: str) -> None:
        sandbox.check(call.given({"--where": condition.replace("LETTER", letter)}))

    size.sweep("recommend", drawn, check)


# Config files

CONFIGS = (
    *("", "experiment = 3", "raise ValueError('x')", "raise OSError", "1 / 0", "import no_such"),
    *(
        "import sys; sys.exit(0)",
        "raise SystemExit('bye')",
        "exit()",
        "def f(): f()\nf()",
        "(" * 999,
    ),
    *("experiment = (", "\0", "raise Exception('[/]')", "raise BaseException", "assert False"),
    *("raise UnicodeDecodeError('x', b'', 0, 1, 'x')", "raise RuntimeError('\\ud800')", "return"),
)
VALUES = (
    "None",
    "'many'",
    "1.5",
    "[]",
    "{}",
    "object()",
    "b'x'",
    "True",
    "2**70",
    "-1",
    "float('nan')",
)


def configs() -> st.SearchStrategy[str]:
    """Python files that raise, exit, define nothing, or set a leaf to what it cannot be."""
    leaves = [
        (section.name, field.name)
        for section in dataclasses.fields(Experiment)
        if dataclasses.is_dataclass(section.type)
        for field in dataclasses.fields(section.type)
    ]

    def changed(leaf: tuple[str, str], value: str) -> str:
        section, key = leaf
        inner = f"dataclasses.replace(experiment.{section}, {key}={value})"
        return (
            f"import dataclasses\nexperiment = dataclasses.replace(experiment, {section}={inner})"
        )

    wrong = st.builds(changed, st.sampled_from(leaves), st.sampled_from(VALUES))
    return st.one_of(st.sampled_from(CONFIGS), wrong, wrong)


@every_size
@pytest.mark.parametrize("command", [n for n in COMMANDS if COMMANDS[n].takes_overrides])
def test_a_config_file(sandbox: Sandbox, command: str, size: Size):
    call, path = sandbox.calls()[command], sandbox["config.py"]
    whole = path.read_text()

    def check(text: str) -> None:
        content = f"{whole}\n{text}" if text.startswith("import dataclasses") else text
        sandbox.check(call, {path: content.encode("utf-8", "surrogatepass")})

    size.sweep(command, configs(), check)


def test_every_command_is_swept(sandbox: Sandbox):
    assert sandbox.calls().keys() == COMMANDS.keys()
    for command in COMMANDS:
        takes_paths = flags_with(command, Path) or not flags_of(command)
        assert takes_paths, f"no path of irec {command} is swept"
        names = {flag.name for flag in flags_of(command)}
        known = {*sandbox.calls()[command].options}
        assert known <= names, f"{known - names} of irec {command} are not swept"
        assert all(sandbox.files(name) for name, _ in readers_of(sandbox, command))
