"""A folder tree with one of each input, and a runner that checks what a command line leaves."""

import contextlib
import dataclasses
import gzip
import hashlib
import io
import os
import resource
import shutil
import signal
import stat
import time
import traceback
import unittest.mock
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import polars as pl

from irec_jax.cli.main import COMMANDS, main

from ..teachers.chat_server import KEY, serve

CONFIG = """
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.experiment.config import Experiment
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import TaskName
from irec_jax.log.dataset import DataConfig
from irec_jax.model.config import T5Config
from irec_jax.tokens.config import TokensConfig
from irec_jax.training.config import TrainConfig

experiment = Experiment(
    data=DataConfig(log="{log}", core=1),
    instructions=InstructionsConfig(
        tasks=(TaskName.SEQUENTIAL_RECOMMENDATION, TaskName.ITEM_TO_QUERY),
        max_history=3,
    ),
    tokens=TokensConfig(vocabulary=512, source_length=64, target_length=16),
    model=T5Config(width=16, head_dim=8, heads=2, mlp_dim=32, encoder_layers=1, decoder_layers=1),
    train=TrainConfig(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    evaluation=EvaluationConfig(max_requests=3, resamples=100),
)
"""
USERS, PLACES = 12, 5
LIMIT_S = 5.0  # work that is done, and not refused, may add what the command usually takes
HUNG_S = 300
MEMORY = 16 * 2**30  # of address space beyond what the process has already
MAY_EXIT_WITH = {"plan": {0, 1, 2}, "launch status": {0, 1, 2}}


@dataclasses.dataclass(frozen=True)
class Call:
    """A command line.

    Attributes:
        command: A key of `COMMANDS`.
        options: Words by flag; keys without dashes are positional, in their order.
        writes: What it may create or change: files, or folders with all that is in them.
    """

    command: str
    options: Mapping[str, str]
    writes: tuple[Path, ...] = ()

    def given(self, options: Mapping[str, str], writes: Iterable[Path] = ()) -> "Call":
        """Returns the call with other options, which may write more."""
        writes = (*self.writes, *writes)
        return Call(self.command, {**self.options, **options}, writes)

    @property
    def words(self) -> list[str]:
        """As the shell passes them."""
        places = [word for key, word in self.options.items() if not key.startswith("-")]
        flags = [f"{key}={word}" for key, word in self.options.items() if key.startswith("-")]
        return [*self.command.split(), *places, *flags]


class Sandbox:
    """Inputs of every kind below `root`; calls run in `root/work`, at home in `root/home`."""

    def __init__(self, folder: Path) -> None:
        self.root, self._pristine = folder / "root", folder / "pristine"
        self.out = self.root / "out" / "made"
        self._usual: dict[str, float] = {}
        for name in ("work", "home", "out", "mine"):
            (self.root / name).mkdir(parents=True)
            (self.root / name / "letter.txt").write_text(f"a letter in {name}")
        (self.root / "out" / "loop").symlink_to("loop")
        with self._inside():
            self._fill()
        shutil.copytree(self.root, self._pristine, symlinks=True)

    def __getitem__(self, name: str) -> Path:
        return self.root / name

    def files(self, name: str) -> list[Path]:
        """All files of an input, or the input itself if it is a file."""
        path = self.root / name
        return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())

    def _fill(self) -> None:
        self._write_tables()
        config = self["config.py"]
        config.write_text(CONFIG.format(log=self["log"]))
        self.made("data prepare", "table", self["csv"], "--out", self["log"])
        self.made("tune", config, "--out", self["run"])
        self.made("evaluate", self["run"])
        shutil.copytree(self["run"], self["other"])
        self.made("instruct", config, "--out", self["set"], "--records", 12)
        self.made("instruct", config, "--packed", self["packed"])
        self.made("export", self["run"], "--out", self["hf"])
        with serve() as server:
            chat = ("--chat.base-url", server.url, "--chat.model", "tester", "--users", 4)
            self.made("teach", config, "--by", "chat", "--out", self["texts"], *chat)
        state = '{"phase": "running", "host": "elsewhere", "supervisor": 1, "processes": [1]}'
        (self["run"] / "launch").mkdir()
        (self["run"] / "launch" / "state.json").write_text(state)
        (self["run"] / "launch" / "process-0.log").write_text("a line\n")

    def _write_tables(self) -> None:
        rows = [(user, place) for user in range(USERS) for place in range(PLACES)]
        items = pl.DataFrame(
            {
                "item": [f"sku{n}" for n in range(20)],
                "title": [f"Brass lamp {chr(65 + n)} for desks" for n in range(20)],
                "categories": ["lamps|brass"] * 20,
                "price": [float(n) for n in range(20)],
            }
        )
        events = pl.DataFrame(
            {
                "user": [700 + user for user, _ in rows],
                "item": [f"sku{(user * 3 + place * 7) % 20}" for user, place in rows],
                "time": [1_700_000_000 + 1_000 * place for _, place in rows],
                "query": ["warm light for reading" if place % 2 else None for _, place in rows],
            }
        )
        for kind in ("csv", "tsv", "jsonl", "parquet", "gz"):
            self[kind].mkdir()
            for name, table in (("items", items), ("interactions", events)):
                path = self[kind] / f"{name}.{kind}"
                if kind == "parquet":
                    table.write_parquet(path)
                elif kind == "jsonl":
                    table.write_ndjson(path)
                elif kind == "gz":
                    text = table.write_csv().encode()
                    path.with_suffix(".csv.gz").write_bytes(gzip.compress(text))
                else:
                    table.write_csv(path, separator="\t" if kind == "tsv" else ",")

    def made(self, command: str, *words: object) -> None:
        """Runs a command that must succeed."""
        code, said, _ = _run([*command.split(), *map(str, words)])
        assert code == 0, f"irec {command}: {said}"

    def calls(self) -> dict[str, Call]:
        """A command line of each command that works and takes little time."""
        run, config, out = str(self["run"]), str(self["config.py"]), str(self.out)
        made = (self.out,)
        taught = {"--by": "model", "--run": run, "--out": out, "--users": "2"}
        answers = Path(f"{out}.answers.jsonl")
        jobs = {"--on": "slurm", "--out": out, "--processes": "2", "--devices": "4"}
        plan = {"--topology": "local", "--programs": "train"}
        return {
            "quickstart": Call("quickstart", {"--out": out}, made),
            "data prepare": Call(
                "data prepare", {"SOURCE": "table", "PATH": str(self["csv"]), "--out": out}, made
            ),
            "data describe": Call(
                "data describe", {"LOG": str(self["log"]), "--picture": out}, made
            ),
            "new": Call(
                "new", {"EXPERIMENT": f"{out}.py", "--log": str(self["log"])}, (Path(f"{out}.py"),)
            ),
            "settings": Call("settings", {"WORD": "batch", "--experiment": config}),
            "doctor": Call("doctor", {}),
            "instruct": Call(
                "instruct", {"EXPERIMENT": config, "--out": out, "--records": "6"}, made
            ),
            "teach": Call("teach", {"EXPERIMENT": config, **taught}, (*made, answers)),
            "tune": Call("tune", {"EXPERIMENT": config, "--out": out}, made),
            "launch status": Call("launch status", {"RUN": run}),
            "launch stop": Call("launch stop", {"RUN": run}),
            "launch": Call("launch", {"EXPERIMENT": config, **jobs}, made),
            "evaluate": Call("evaluate", {"RUN": run}, (self["run"] / "reports",)),
            "compare": Call("compare", {"RUN": run, "OTHER": str(self["other"])}),
            "recommend": Call("recommend", {"RUN": run, "--instruction": "a gift", "--k": "3"}),
            "plan": Call("plan", {"EXPERIMENT": config, **plan, "--json": out}, made),
            "export": Call("export", {"RUN": run, "--out": out}, made),
        }

    def warm(self, call: Call) -> None:
        """Runs a command line that must succeed, and takes away what it wrote."""
        with self._inside():
            code, said, self._usual[call.command] = _run(call.words)
        assert code in MAY_EXIT_WITH.get(call.command, {0}), f"{_shown(call)}: {code}\n{said}"
        self._restore()

    def _restore(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self._pristine, self.root, symlinks=True)

    def check(self, call: Call, changed: Mapping[Path, bytes] | None = None) -> None:
        """Runs a command line; its exit code, output, time and files must be as they should.

        Args:
            call: What to run.
            changed: Inputs to overwrite for this call.
        """
        before = self._snapshot()
        for path, content in (changed or {}).items():
            path.write_bytes(content)
        kept = self._snapshot(call.writes)
        whole = False
        try:
            with self._inside():
                self._check(call)
            found = self._snapshot(call.writes)
            differing = sorted(k for k in kept | found if kept.get(k) != found.get(k))
            assert not differing, f"{_shown(call)} changed {differing}"
            whole = not call.writes and not changed
        finally:
            if not whole and before != self._snapshot():
                self._restore()

    def _check(self, call: Call) -> None:
        code, said, took = _run(call.words)
        assert code in MAY_EXIT_WITH.get(call.command, {0, 2}), f"{_shown(call)}: {code}\n{said}"
        assert "Traceback (most recent call last)" not in said, f"{_shown(call)}\n{said}"
        most = LIMIT_S + (self._usual.get(call.command, 0) if code == 0 else 0)
        assert took < most, f"{_shown(call)} took {took:.1f} s"

    def _snapshot(self, leaving: Iterable[Path] = ()) -> dict[str, str]:
        """Type, mode and SHA-256 of all below the root, but not of what may be written."""
        ways = {path for write in leaving for path in write.parents}
        found: dict[str, str] = {}
        for folder, folders, files in os.walk(self.root):
            place = Path(folder)
            folders[:] = [name for name in folders if place / name not in leaving]
            for path in (place / name for name in [*folders, *files]):
                if path in leaving or (path in ways and path.is_dir()):
                    continue
                found[os.fsencode(path.relative_to(self.root)).decode(errors="replace")] = _of(path)
        return found

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        there = os.getcwd()
        os.chdir(self["work"])
        variables = {"HOME": str(self["home"]), "OPENAI_API_KEY": KEY}
        try:
            with unittest.mock.patch.dict(os.environ, variables):
                yield
        finally:
            os.chdir(there)


def _of(path: Path) -> str:
    about = path.lstat()
    if stat.S_ISREG(about.st_mode):
        return f"{about.st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return f"{about.st_mode:o} {os.readlink(path) if path.is_symlink() else ''}"


def _shown(call: Call) -> str:
    words = [word if len(word) < 300 else f"{word[:99]}... ({len(word)})" for word in call.words]
    return f"irec {words!a}"


def _run(words: list[str]) -> tuple[object, str, float]:
    """Runs it in this process; an exception that leaves `main` is written as a traceback.

    Returns:
        The exit code, all that was printed, and the seconds it took; of a busy machine's wall
        time the process may have had little, so CPU time counts where it is less.
    """
    started, used = time.monotonic(), time.process_time()
    texts = [_Terminal("strict"), _Terminal("backslashreplace")]
    with _limited(), contextlib.redirect_stdout(texts[0]), contextlib.redirect_stderr(texts[1]):
        try:
            code: object = main(words)
        except SystemExit as ended:
            code = 0 if ended.code is None else ended.code
        except (Exception, Hung):
            code = "exception"
            texts[1].write(traceback.format_exc())
    took = min(time.monotonic() - started, time.process_time() - used)
    return code, "".join(text.printed() for text in texts), took


class Hung(BaseException):
    """Ends a call; no handler of the code under test takes it for an error of its own."""


class _Terminal(io.TextIOWrapper):
    """As the streams of a process: UTF-8, with the errors that Python sets for each of them."""

    def __init__(self, errors: str) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors=errors, newline="\n")

    def printed(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(errors="replace")


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Ends a call that hangs, and lets one fail that asks for all memory of the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    sizes = Path("/proc/self/statm")
    if sizes.exists():
        size = int(sizes.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    before = signal.signal(signal.SIGALRM, _hung)
    signal.alarm(HUNG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _hung(*_: object) -> None:
    raise Hung(f"the command ran for {HUNG_S} s")


assert MAY_EXIT_WITH.keys() <= COMMANDS.keys()
