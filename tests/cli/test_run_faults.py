"""Faults of a run folder: what cannot be read, what is damaged, what a failed start has left."""

import gc
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from irec_jax.cli.main import main
from irec_jax.experiment.run_config import load_run
from irec_jax.tokens.items import TokenWriter

# A failed read leaves coroutines of Orbax behind that nothing waits for.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collect_coroutines_here() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def tuned(config, tmp_path_factory) -> Path:
    """A run of six steps with checkpoints of steps 3 and 6."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert main(["tune", str(config), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(tuned, tmp_path) -> Path:
    return shutil.copytree(tuned, tmp_path / "run")


def make_unreadable(path: Path) -> None:
    """Puts a link to itself in its place: opening it fails for every user, with ELOOP."""
    assert path.is_file()
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize("part", ["params/array_metadatas/process_0", "params/manifest.ocdbt"])
def test_an_unreadable_checkpoint_is_not_taken_for_a_damaged_one(part, run, config, capfd):
    make_unreadable(run / "checkpoints" / "6" / part)
    before = sorted(path.name for path in (run / "checkpoints").iterdir())
    for words in (["tune", config, "--out", run], ["recommend", run, "--instruction", "a gift"]):
        assert main([*map(str, words)]) == 2
        printed = capfd.readouterr().err
        assert "6: the checkpoint cannot be read (" in printed
        assert "Too many levels of symbolic links" in printed
        assert "damaged" not in printed
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == before


def test_damaged_metrics_and_odd_folder_names_do_not_stop_a_run(run, config, capfd):
    for name in ("²", "007", "6.damaged"):
        (run / "checkpoints" / name).mkdir()
    broken = [b'{"step": 2, "loss": "\xff"}', b"[1, 2]", b'{"loss": 1.0}', b'{"step": "3"}']
    for name in ("steps", "intervals", "validation", "goodput"):
        path = run / "metrics" / f"{name}.jsonl"
        whole = path.read_bytes().splitlines() if path.exists() else []
        path.write_bytes(b"\n".join([whole[0] if whole else b"7", *broken, *whole[1:]]) + b"\n")
    assert main(["tune", str(config), "--out", str(run), "--train.steps", "8"]) == 0
    printed = capfd.readouterr().err
    assert printed.count("metrics/steps.jsonl: 4 of 10 lines are damaged") == 1
    assert printed.count("metrics/intervals.jsonl: 4 of ") == 1
    assert printed.count("metrics/goodput.jsonl: 4 of ") == 1
    lines = (run / "metrics" / "steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*range(1, 9)]
    assert (run / "checkpoints" / "²").is_dir()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"[1]", "expected an object"),
        (b"{}", "the key 'host' is missing"),
        (b'{"phase": "running", "host": 7, "supervisor": 1}', "host: expected str, got 7"),
        (b'{"phase": "running", "host": "h", "supervisor": 1, "processes": 3}', "expected a list"),
        (b'{"phase": ["running"], "host": "h", "supervisor": 1}', "phase"),
    ],
)
@pytest.mark.parametrize("command", ["status", "stop"])
def test_a_damaged_launch_state_says_what_to_do(command, text, message, tmp_path, capfd):
    path = tmp_path / "a run" / "launch" / "state.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    assert main(["launch", command, str(tmp_path / "a run")]) == 2
    printed = capfd.readouterr().err
    assert message in printed
    assert f"Remove {path} when nothing of the launch runs any more" in printed


def test_before_the_first_checkpoint_a_run_may_change(config, tmp_path, capfd):
    run, fails = tmp_path / "run", ("--train.packed", "nowhere")
    words = ["tune", str(config), "--out", str(run), *fails]
    assert main(words) == 2
    assert load_run(run).data.simulate.items == 100
    # As a start leaves it that is killed while it writes its first checkpoint.
    (run / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir(parents=True)
    capfd.readouterr()
    other = ["--data.simulate.items", "120", "--instructions.packs", "zh", "en"]
    assert main([*words, *other, "--tokens.vocabulary", "1024"]) == 2
    printed = capfd.readouterr().err
    assert "this run was started with" not in printed
    assert "nowhere" in printed
    now = load_run(run)
    assert (now.data.simulate.items, now.tokens.vocabulary) == (120, 1024)
    catalog = pl.read_parquet(run / "catalog.parquet")
    writer = TokenWriter.load(run / "tokens")
    assert writer.index.num_items == len(catalog) > 100
    assert writer.index.vocabulary == now.model.vocabulary
    assert writer.index.text_vocabulary > 512
    assert "zh" in (run / "packs" / "0.toml").read_text()[:300]
    # What is damaged is still a checkpoint.
    (run / "checkpoints" / "3.damaged").mkdir()
    assert main([*words, *other, "--tokens.vocabulary", "1024", "--seed", "5"]) == 2
    assert "this run was started with seed = 0, not 5" in capfd.readouterr().err
