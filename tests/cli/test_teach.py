"""`irec teach` through the real command line: texts to the byte, faults, a kill and a resume."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import polars as pl
import pytest

from irec_jax.cli.main import main
from irec_jax.decoding.config import DecodeConfig
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import TaskName
from irec_jax.instructions.prompts import PromptWriter
from irec_jax.log.dataset import DataConfig, load_split
from irec_jax.log.events import BehaviorLog, LogManifest
from irec_jax.log.split import Split
from irec_jax.model.config import T5Config
from irec_jax.model.params import initialize
from irec_jax.recommendation.run_parts import ServingSettings, read_settings
from irec_jax.run_checksums import Sources, write_checksums
from irec_jax.settings import to_json
from irec_jax.teachers.teacher_prompts import RequestScope, RunPromptWriter, make_requests
from irec_jax.teachers.teacher_texts import (
    MANIFEST_FILE,
    TEXTS_FILE,
    read_teacher_texts,
)
from irec_jax.tokens.config import IndexKind, TokensConfig
from irec_jax.tokens.items import TokenWriter, make_writer
from irec_jax.training.checkpoint import Checkpoints, TrainState, model_fingerprint

from ..teachers.chat_server import KEY, ChatServer, serve

ROOT = Path(__file__).parents[2]
EXPERIMENT = """
from irec_jax.experiment.config import Experiment
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import TaskName
from irec_jax.log.dataset import DataConfig
from irec_jax.tokens.config import TokensConfig

experiment = Experiment(
    data=DataConfig(log="{log}", core=1),
    instructions=InstructionsConfig(
        tasks=(TaskName.SEQUENTIAL_RECOMMENDATION, TaskName.PREFERENCE_RECOMMENDATION),
        teacher="metadata",
    ),
    tokens=TokensConfig(vocabulary=512),
)
"""
USERS = 12


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """An experiment on a log of 12 users with 5 events each, all with items of their own."""
    rows = [(user, place) for user in range(USERS) for place in range(5)]
    items = pl.DataFrame(
        {
            "item": [f"sku{user}-{place}" for user, place in rows],
            "title": [f"Brass lamp {chr(65 + user)}{place} for desks" for user, place in rows],
            "categories": [["lamps"]] * len(rows),
        }
    )
    interactions = pl.DataFrame(
        {
            "user": [700_000 + user for user, _ in rows],
            "item": items["item"],
            "time": [1_000 * place for _, place in rows],
            "event": ["purchase"] * len(rows),
        }
    )
    BehaviorLog.assemble(items, interactions, LogManifest("table")).save(tmp_path / "log")
    path = tmp_path / "small.py"
    path.write_text(EXPERIMENT.format(log=tmp_path / "log"))
    return path


def teach_arguments(experiment: Path, out: Path, server: ChatServer, *more: str) -> list[str]:
    return [
        *("teach", str(experiment), "--by", "chat", "--out", str(out)),
        *("--chat.base-url", server.url, "--chat.model", "tester", "--chat.first-wait-s", "0.01"),
        *("--chat.price-in", "1", "--chat.price-out", "2", *more),
    ]


def start(arguments: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "irec_jax.cli.main", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    assert {path.name for path in folder.iterdir()} == {TEXTS_FILE, MANIFEST_FILE}
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_texts_are_written_and_a_second_run_sends_nothing(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "texts"
    with serve(["empty", "429", "target"]) as server:
        assert main(teach_arguments(experiment, out, server)) == 0
        printed = capsys.readouterr().out
        table, manifest = read_teacher_texts(out)
        assert table.height == USERS * (3 + 2 * 3)
        assert manifest.requested == {"preference": 36, "specific": 36, "vague": 36}
        assert manifest.rejected == {"empty": 1, "names_item": 1}
        assert [manifest.tokens_in, manifest.tokens_out] == server.billed
        for expected_texts in (
            "empty 1, names_item 1",
            f"{manifest.tokens_in:,}",
            str(out),
            "1 of them",
        ):
            assert expected_texts in printed
        first, sent = contents(out), len(server.requests)

        assert main(teach_arguments(experiment, out, server)) == 0
        assert "0 requests" in capsys.readouterr().out
        assert len(server.requests) == sent
        assert contents(out) == first

    rendered = tmp_path / "set"
    command = ["instruct", str(experiment), "--out", str(rendered), "--records", "50"]
    teacher = ["--instructions.teacher", "texts", "--instructions.teacher_texts", str(out)]
    assert main([*command, *teacher]) == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_stopped_run_continues_and_pays_nothing_twice(
    experiment: Path, tmp_path: Path, number: signal.Signals, code: int
):
    out, whole = tmp_path / "texts", tmp_path / "whole"
    with serve() as server:
        assert main(teach_arguments(experiment, whole, server)) == 0
        everything = len(server.requests)
    with serve(delay=0.05) as server:
        process = start(teach_arguments(experiment, out, server, "--chat.concurrency", "2"))
        deadline = time.monotonic() + 60
        while len(server.requests) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == code
        assert "Traceback" not in errors
        assert not out.exists()
        ended = len(server.requests)
        assert 20 <= ended < everything
        if number is not signal.SIGKILL:
            assert f"kept in {out}.answers.jsonl" in errors
        server.delay = 0.0
        assert main(teach_arguments(experiment, out, server)) == 0
        lost = 2 if number is signal.SIGKILL else 0
        assert everything <= len(server.requests) <= everything + lost
        bodies = [json.dumps(body) for body in server.requests]
        assert len(bodies) - len(set(bodies)) <= lost
    assert contents(out) == contents(whole)


def test_mistakes_and_faults_print_one_message(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
):
    out = tmp_path / "texts"

    def refused(arguments: list[str], *expected_texts: str) -> None:
        assert main(arguments) == 2
        printed = capsys.readouterr().err
        assert "Traceback" not in printed
        for text in expected_texts:
            assert text in printed
        assert not out.exists()

    with serve() as server:
        chat = teach_arguments(experiment, out, server)
        refused([*chat, "--chat.model", ""], "--chat.model: no model is named")
        refused([*chat, "--users", "0"], "--users: must be between 1 and")
        refused([*chat, "--attempts", "0"], "--attempts: must be between 1 and")
        refused([*chat, "--chat.concurrency", "0"], "--chat.concurrency")
        refused([*chat, "--run", "runs/x"], "--run: a chat model needs no run")
        refused([*chat[:3], "model", *chat[4:]], "--run: no run is named")
        refused([*chat[:3], "model", *chat[4:], "--run", str(tmp_path / "no")], "no such run")
        refused([*chat, "--instructions.packs", "fr"], "instructions.packs")
        assert not server.requests
        refused([*chat, "--chat.budget-tokens", "5000"], "the budget is spent", "5,000 tokens")
        assert 0 < sum(server.billed) <= 5_000
        monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
        refused(chat, "answers 401", "OPENAI_API_KEY")
    refused([*chat, "--chat.retries", "1"], "no response after 2 requests")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serve(lambda number: "empty") as server:
        other = ["--answers", str(tmp_path / "other.jsonl")]
        refused(
            [*teach_arguments(experiment, out, server), *other], "passed the checks (empty 324)"
        )
    with serve() as server:
        (tmp_path / "log" / "mine.txt").write_text("mine")
        assert main(teach_arguments(experiment, tmp_path / "log", server)) == 2
        assert not server.requests


def write_run(folder: Path, catalog: pl.DataFrame, kind: IndexKind) -> None:
    """Writes a run with random weights whose config lists turned-around tasks."""
    tokens = TokensConfig(
        vocabulary=512, index=kind, max_item_tokens=12, source_length=64, target_length=12
    )
    writer = make_writer(catalog, ["something warm and quiet for the desk"] * 9, tokens)
    model = T5Config(
        vocabulary=writer.index.vocabulary,
        width=16,
        head_dim=8,
        heads=2,
        mlp_dim=32,
        encoder_layers=1,
        decoder_layers=1,
    )
    tasks = (TaskName.HISTORY_TO_PREFERENCE, TaskName.ITEM_TO_QUERY)
    instructions = InstructionsConfig(tasks=tasks, teacher="metadata")
    settings = ServingSettings(instructions, tokens, model, DecodeConfig(beams=8, batch=4))
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**to_json(settings), "seed": 0}))
    catalog.write_parquet(folder / "catalog.parquet")
    writer.save(folder / "tokens")
    write_checksums(folder, Sources(log={}, catalog="", teacher=""))
    params = initialize(model, jax.random.key(7))
    state = TrainState(jnp.asarray(3), params, {"count": jnp.zeros(())})
    checkpoints = Checkpoints(folder, {"model": model_fingerprint(model)})
    checkpoints.save(3, state, {})
    checkpoints.close()


@pytest.mark.parametrize("kind", list(IndexKind))
def test_a_tuned_run_writes_texts(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: IndexKind
):
    run, out = tmp_path / "run", tmp_path / "texts"
    split = load_split(DataConfig(log=str(tmp_path / "log"), core=1), 0)
    write_run(run, split.catalog, kind)
    arguments = ["teach", str(experiment), "--by", "model", "--run", str(run), "--out", str(out)]
    arguments += ["--users", "4", "--temperature", "1"]
    assert main(arguments) == 0
    assert f"Wrote {out}" in capsys.readouterr().out
    table, manifest = read_teacher_texts(out)
    assert set(table["writer"]) == {"model:run"}
    assert manifest.requested == {"preference": 12, "vague": 12, "specific": 12}
    assert table.height == sum(manifest.written.values()) > 0
    first = contents(out)
    assert main(arguments) == 0
    assert contents(out) == first


@pytest.mark.parametrize("kind", list(IndexKind))
def test_a_run_writes_texts_for_new_users(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: IndexKind
):
    """The items of another log, in another order, have the names that the run gives them."""
    run, newcomers = tmp_path / "run", tmp_path / "newcomers"
    log = BehaviorLog.load(tmp_path / "log")
    split = load_split(DataConfig(log=str(tmp_path / "log"), core=1), 0)
    write_run(run, split.catalog, kind)
    few = log.interactions.filter(pl.col("user") < 700_003)
    BehaviorLog.assemble(log.items.reverse(), few, LogManifest("table")).save(newcomers)
    by_run = ["teach", str(experiment), "--by", "model", "--run", str(run), "--temperature", "1"]
    by_run += ["--data.log", str(newcomers), "--seed", "1"]
    assert main([*by_run, "--out", str(tmp_path / "few")]) == 0

    names = TokenWriter.load(run / "tokens").index.names
    table, sent = read_teacher_texts(tmp_path / "few")[0], request_hashes(split, run, names)
    assert set(table["user"]) == {700_000, 700_001, 700_002}
    assert {"preference", "vague"} <= set(table["kind"])
    assert stored(table).items() <= sent.items()

    # Nine of its 15 items are new: only a run with the title index can write them.
    is_known = pl.col("item").str.ends_with("-0") | pl.col("item").str.ends_with("-1")
    other = pl.when(is_known).then("item").otherwise(pl.col("item") + "b").alias("item")
    items = log.items.with_columns(other, pl.format("{} again", "title").alias("title"))
    BehaviorLog.assemble(items, few.with_columns(other), LogManifest("table")).save(newcomers)
    capsys.readouterr()
    fails = kind is not IndexKind.TITLE
    assert main([*by_run, "--out", str(tmp_path / "new")]) == (2 if fails else 0)
    if fails:
        message = capsys.readouterr().err
        assert "does not know 9 of the log's 15 items, such as 'sku" in message
        return
    split_now = load_split(DataConfig(log=str(newcomers), core=1), 1)
    run_names = dict(zip(split.catalog["item"], names, strict=True))
    titles = split_now.catalog.select("item", "title").rows()
    sent = request_hashes(split_now, run, [run_names.get(item, title) for item, title in titles])
    table = read_teacher_texts(tmp_path / "new")[0]
    assert stored(table).items() <= sent.items()
    assert table.height


def stored(table: pl.DataFrame) -> dict[tuple, str]:
    """Returns the SHA-256 of stored requests by user, event index, kind and variant."""
    rows = table.select("user", "event_index", "kind", "variant", "request_sha256").rows()
    return {(user, place, kind, variant): sha256 for user, place, kind, variant, sha256 in rows}


def request_hashes(split: Split, run: Path, names: Sequence[str]) -> dict[tuple, str]:
    """Returns the same of the requests to a run that gives the items these names."""
    write_prompt = RunPromptWriter(
        split, PromptWriter.build(read_settings(run).instructions, names)
    )
    sent = make_requests(split, RequestScope(("en",)), write_prompt)
    return {
        (
            request.user,
            request.wanted.event_index,
            request.wanted.kind.value,
            request.wanted.variant,
        ): request.sha256
        for request in sent
    }


def test_a_run_of_mixed_parts_or_without_a_catalog_is_refused(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = tmp_path / "run"
    split = load_split(DataConfig(log=str(tmp_path / "log"), core=1), 0)
    write_run(run, split.catalog, IndexKind.ATOMIC)
    split.catalog.head(5).write_parquet(run / "catalog.parquet")
    write_checksums(run, Sources(log={}, catalog="", teacher=""))
    out = ["--out", str(tmp_path / "texts")]
    assert main(["teach", str(experiment), "--by", "model", "--run", str(run), *out]) == 2
    assert "60 items in tokens/, 5 in catalog.parquet" in capsys.readouterr().err
    (run / "catalog.parquet").unlink()
    assert main(["teach", str(experiment), "--by", "model", "--run", str(run), *out]) == 2
    expected_texts = capsys.readouterr().err
    assert "catalog.parquet: the file is missing" in expected_texts


@pytest.mark.parametrize(
    "key", ["sk-sécret-key", "sk-secret-key\n", " sk-secret-key", "sk-\x7fsecret-key"]
)
def test_a_key_that_cannot_be_sent_is_refused(
    key: str,
    experiment: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with serve() as server:
        assert main(teach_arguments(experiment, tmp_path / "texts", server)) == 2
        assert not server.requests
    errors = capsys.readouterr().err
    assert errors.startswith("irec: error: the environment variable OPENAI_API_KEY: ")
    assert len(errors.splitlines()) == 2
    assert "secret-key" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "small.py"]


@pytest.mark.parametrize("fault", ["401", "500", "400", "429 seconds"])
def test_a_password_in_the_url_is_never_shown(
    fault: str, experiment: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    with serve([fault] * 100) as server:
        server.url = server.url.replace("://", "://me:hunter2@")
        more = ["--chat.retries", "0", "--chat.longest-wait-s", "0.1"]
        assert main(teach_arguments(experiment, tmp_path / "texts", server, *more)) == 2
    printed = "".join(capfd.readouterr())
    assert "http://***@127.0.0.1:" in printed
    assert "hunter2" not in printed
    assert "hunter2" not in (tmp_path / "texts.answers.jsonl").read_text()


@pytest.mark.parametrize(
    "url", ["me:hunter2@host/v1", "http://me:hun/hunter2@host/v1", "http://h:x/?key=hunter2"]
)
def test_a_password_in_an_invalid_url_is_not_shown(
    url: str, experiment: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    command = ["teach", str(experiment), "--by", "chat", "--out", str(tmp_path / "texts")]
    assert main([*command, "--chat.model", "m", "--chat.base-url", url]) == 2
    printed = "".join(capfd.readouterr())
    assert "is not a valid URL" in printed
    assert "hunter2" not in printed
