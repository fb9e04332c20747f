"""The pickled writer that Beam's workers read, with a stand-in for Beam that runs in process."""

import os
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from irec_jax.cli.main import main
from irec_jax.instruction_sets.store import InstructionSet

MODULE = "irec_jax.storage.beam_runner"
EXPERIMENT = """
from irec_jax.experiment.config import Experiment
from irec_jax.log.dataset import DataConfig
from irec_jax.log.simulate import SimulateConfig
from irec_jax.tokens.config import TokensConfig

experiment = Experiment(
    data=DataConfig(simulate=SimulateConfig(users=40, items=100)),
    tokens=TokensConfig(vocabulary=512),
)
"""


class Transform:
    """Create, Reshuffle or ParDo, by what it is given."""

    def __init__(self, given: Any = None) -> None:
        self.given = given

    def __rrshift__(self, name: str) -> "Transform":
        return self


class Pipeline:
    """Runs a transform when it is added; `before` sees the function before a worker has it."""

    before = staticmethod(lambda function: None)

    def __init__(self, options: Any) -> None:
        self.items: list[Any] = []

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __or__(self, transform: Transform) -> "Pipeline":
        if isinstance(transform.given, list):
            self.items = transform.given
        elif transform.given is not None:
            self.before(transform.given)
            function = pickle.loads(pickle.dumps(transform.given))
            function.setup()
            self.items = [made for item in self.items for made in function.process(item)]
        return self


class Counter:
    def inc(self, amount: int) -> None:
        pass


class Malice:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Pipeline]]:
    counters = types.SimpleNamespace(counter=lambda *names: Counter())
    beam: Any = types.ModuleType("apache_beam")
    beam.DoFn, beam.metrics = object, types.SimpleNamespace(Metrics=counters)
    beam.Create = beam.Reshuffle = beam.ParDo = Transform
    beam.Pipeline = type("Watched", (Pipeline,), {})
    options: Any = types.ModuleType("apache_beam.options.pipeline_options")
    options.PipelineOptions = list
    for module in (beam, types.ModuleType("apache_beam.options"), options):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    yield beam.Pipeline
    sys.modules.pop(MODULE, None)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    (tmp_path / "small.py").write_text(EXPERIMENT)
    command = ["instruct", str(tmp_path / "small.py"), "--records", "100"]
    return [*command, "--out", str(tmp_path / "set"), "--runner", "DirectRunner"]


def test_the_writer_is_in_a_private_folder_and_gone_afterwards(
    pipeline: type[Pipeline], words: list[str], tmp_path: Path
):
    seen: list[tuple[Path, int]] = []
    build = tmp_path / ".set.partial"
    left = build / "writer-of-a-killed-build"
    left.mkdir(parents=True)

    def look(function: Any) -> None:
        seen.extend((path, path.stat().st_mode & 0o777) for path in build.rglob("writer*"))

    pipeline.before = staticmethod(look)
    assert main(words) == 0
    (folder, mode), (file, _) = seen
    assert mode == 0o700
    assert file.parent == folder
    assert folder != left
    assert len(folder.name) > len("writer-")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "small.py"]
    assert len(InstructionSet(tmp_path / "set")) == 100


def test_a_writer_that_was_replaced_is_not_unpickled(
    pipeline: type[Pipeline],
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    mark = tmp_path / "unpickled"

    def replace(function: Any) -> None:
        (file,) = (tmp_path / ".set.partial").rglob("writer.pickle")
        file.write_bytes(pickle.dumps(Malice(mark)))

    pipeline.before = staticmethod(replace)
    assert main(words) == 2
    assert "was changed by another program" in capsys.readouterr().err
    assert not mark.exists()
    assert not (tmp_path / "set").exists()
