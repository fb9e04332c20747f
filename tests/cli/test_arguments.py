"""Arguments and settings that are not valid text are refused in one line by every command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from irec_jax.cli.main import main

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "arguments",
    [
        [b"data", b"describe", b"caf\xe9"],
        [b"launch", b"configs/quickstart.py", b"--on", b"local", b"--out", b"run\xff"],
        [b"recommend", b"runs/none", b"--history", b"\xed\xa0\x80"],
        [b"\xfe"],
    ],
)
def test_bytes_that_are_not_utf8_are_refused(arguments: list[bytes], tmp_path: Path):
    command = [os.fsencode(sys.executable), b"-P", b"-m", b"irec_jax.cli.main", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    first, *rest = done.stderr.splitlines()
    assert first.startswith(f"irec: error: argument {len(arguments)}: '")
    assert first.endswith("' is not valid UTF-8")
    assert len(rest) == 1  # the hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "describe", "a\0b"],
        ["tune", "configs/quickstart.py", "--out", "run", "--data.log", "a\0b"],
        ["a\0b" * 1_000],
    ],
)
def test_a_nul_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith(f"irec: error: argument {len(arguments)}: 'a\\x00b")
    assert first.endswith("holds a NUL character")
    assert len(first) < 400
    assert len(rest) == 1


@pytest.mark.parametrize("text", ["a\\0b", "\\udcff"])
def test_a_config_with_an_invalid_path_is_refused(
    text: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "odd.py"
    path.write_text(
        config.read_text() + f'\nexperiment = Experiment(data=DataConfig(log="{text}"))\n'
    )
    assert main(["tune", str(path), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith(f"irec: error: {path}:18: data.log: '")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["a\\u0000b", "\\ud800"])
def test_a_run_with_an_invalid_path_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "config.json").write_text(f'{{"data": {{"log": "{text}"}}}}')
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "config.json.data.log: '" in capsys.readouterr().err
