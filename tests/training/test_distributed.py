"""Several processes are one run: same batches and losses, and they stop and fail together."""

import signal

import numpy as np
import pytest

from irec_jax.batches.packed import PackedRows
from irec_jax.errors import InputError
from irec_jax.exit_codes import EXIT_LOST
from irec_jax.training.checkpoint import saved_steps
from irec_jax.training.distributed import arguments_of, connect, gather, on_first
from irec_jax.training.metrics_logger import read_losses
from irec_jax.training.validation import read_validation

from .team import Team, batch_checksums, newest_step

STEPS = 24


@pytest.fixture(scope="module")
def reference(tmp_path_factory, cached):
    """An uninterrupted run of one process."""
    run = tmp_path_factory.mktemp("processes") / "reference"
    team = Team(run, cached).start(STEPS, "--every", 8, "--validate", 8)
    assert team.exit_codes() == [0], team.output()
    return run


def flip_a_bit(run, step):
    """Change one bit of a weight."""
    files = (run / "checkpoints" / str(step) / "params").rglob("d/*")
    path = max(files, key=lambda file: file.stat().st_size)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.slow
def test_a_stopped_run_is_resumed_by_other_numbers_of_processes(tmp_path, cached, reference):
    run = tmp_path / "run"
    two = Team(run, cached, count=2, devices=2)
    two.start(STEPS, "--mesh", 2, 2, 1, "--every", 4, "--pause", 0.05)
    two.wait_for(5)
    two.processes[1].send_signal(signal.SIGTERM)
    assert two.exit_codes() == [143, 143], two.output()
    stopped_at = newest_step(run)
    assert 5 < stopped_at < 12
    assert max(read_losses(run)) == stopped_at
    assert "stopped and saved" in two.output(0)
    assert "stopped and saved" not in two.output(1), "only process 0 reports"

    flip_a_bit(run, stopped_at)
    four = Team(run, cached, count=4)
    four.start(
        STEPS, "--mesh", 2, 1, 2, "--every", 99, "--minutes", 0.01, "--pause", 0.05, "--validate", 8
    )
    four.wait_for(stopped_at)
    four.wait_for(stopped_at + 5)
    four.processes[2].send_signal(signal.SIGINT)
    assert four.exit_codes() == [130] * 4, four.output()
    assert f"checkpoints/{stopped_at} is damaged" in four.output(0)
    assert "is damaged" not in four.output(3)
    timed = set(saved_steps(run / "checkpoints")) - {4, 8, 16, newest_step(run)}
    assert timed, "saved every 0.6 s"

    one = Team(run, cached, devices=2).start(STEPS, "--mesh", 1, 2, 1, "--validate", 8)
    assert one.exit_codes() == [0], one.output()

    losses, expected = read_losses(run), read_losses(reference)
    assert list(losses) == list(expected) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(list(losses.values()), list(expected.values()), rtol=1e-5)
    assert batch_checksums(run) == batch_checksums(reference)
    assert {file.name for file in run.glob("batches.*")} == {f"batches.{n}.jsonl" for n in range(4)}
    validation, expected = read_validation(run), read_validation(reference)
    assert expected.keys() == {8, 16, 24}
    for step, loss in expected.items():
        np.testing.assert_allclose(validation.get(step, loss), loss, rtol=1e-5)


@pytest.mark.slow
def test_an_adapter_run_of_two_processes_is_resumed_by_one(tmp_path, cached):
    """Each process writes its shards of the frozen weights."""
    arguments = ["--rank", 2, "--every", 4, "--validate", 4]
    alone = Team(tmp_path / "alone", cached).start(8, *arguments)
    assert alone.exit_codes() == [0], alone.output()
    run = tmp_path / "run"
    two = Team(run, cached, count=2).start(4, "--mesh", 1, 2, 1, *arguments)
    assert two.exit_codes() == [0, 0], two.output()
    again = Team(run, cached).start(8, *arguments)
    assert again.exit_codes() == [0], again.output()
    checksums = [
        (path / "frozen/about/data.json").read_text() for path in (run, tmp_path / "alone")
    ]
    assert checksums[0] == checksums[1]
    for read in (read_losses, read_validation):
        found, expected = read(run), read(tmp_path / "alone")
        assert found.keys() == expected.keys()
        np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)


@pytest.mark.slow
def test_each_process_reads_its_own_stored_rows(tmp_path, cached):
    arguments = ("--packed", tmp_path / "rows")
    assert Team(tmp_path / "rows", cached).start(0, *arguments, "--pack").exit_codes() == [0]
    assert len(PackedRows(tmp_path / "rows")) % 8, "a batch spans the end of a pass"
    alone = Team(tmp_path / "alone", cached).start(STEPS, *arguments)
    two = Team(tmp_path / "run", cached, count=2).start(8, *arguments, "--mesh", 2, 1, 1)
    assert [*alone.exit_codes(), *two.exit_codes()] == [0] * 3, alone.output() + two.output()
    same_rows = Team(tmp_path / "run", cached, count=2).start(STEPS, *arguments, "--mesh", 1, 1, 2)
    assert same_rows.exit_codes() == [0] * 2, same_rows.output()
    losses, expected = read_losses(tmp_path / "run"), read_losses(tmp_path / "alone")
    assert list(losses) == list(expected) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(list(losses.values()), list(expected.values()), rtol=1e-5)


@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_when_one_process_is_killed_the_others_exit_with_the_reason(tmp_path, cached, killed):
    team = Team(tmp_path / "run", cached, count=2)
    team.start(10_000, "--mesh", 2, 1, 1, "--pause", 0.05)
    team.wait_for(3)
    team.processes[killed].kill()
    codes = team.exit_codes(within_s=90)
    assert codes.pop(killed) == -9
    assert 0 not in codes
    if killed:
        assert codes == [EXIT_LOST], team.output()
        assert f"exits: process {killed} does not respond" in team.output(0)
    else:  # the coordinator: JAX itself ends the others
        assert "another task died" in team.output() or "has exited" in team.output()


@pytest.mark.parametrize("missing", [0, 1])
def test_the_wait_for_a_process_that_never_connects_ends(tmp_path, cached, missing):
    team = Team(tmp_path / "run", cached, count=2, meeting_s=4).start(1)
    team.processes[missing].kill()
    codes = team.exit_codes(within_s=60)
    assert (codes.pop(missing), codes) == (-9, [EXIT_LOST]), team.output()
    lines = team.output(1 - missing).splitlines()
    assert lines[0] == "irec: error: IREC_COORDINATOR: not all processes connected within 4 s"
    assert "IREC_MEETING_SECONDS" in lines[1]
    assert len(lines) == 2, "no stack trace"


def test_the_wait_for_other_processes_can_be_interrupted(tmp_path, cached):
    team = Team(tmp_path / "run", cached, count=2).start(1)
    team.processes[1].kill()
    team.wait_for_meeting()
    team.processes[0].send_signal(signal.SIGINT)
    assert team.exit_codes(within_s=10) == [-signal.SIGINT, -signal.SIGKILL], team.output()


@pytest.mark.slow
def test_a_hanging_process_ends_all(tmp_path, cached):
    team = Team(tmp_path / "run", cached, count=2)
    team.start(10_000, "--mesh", 2, 1, 1, "--hang-at", 6, "--hang-s", 20)
    assert team.exit_codes(within_s=150) == [EXIT_LOST] * 2, team.output()
    for number in range(2):
        assert "no progress for 20 s" in team.output(number)
        assert "process 1 responds, reading data after step 5" in team.output(number)
    assert "a_run.py" in team.output(1), "the stack trace of the hang"


VARIABLES = {"IREC_COORDINATOR": "a:1", "IREC_PROCESSES": "4", "IREC_PROCESS": "3"}


def test_the_environment_decides_the_processes_and_their_coordinator():
    assert arguments_of({}) is None
    assert arguments_of({"IREC_DISTRIBUTED": "auto"}) == {}
    arguments = arguments_of(VARIABLES)
    assert arguments["coordinator_address"] == "a:1"
    assert (arguments["num_processes"], arguments["process_id"]) == (4, 3)
    assert "coordinator_bind_address" not in arguments
    local = arguments_of({**VARIABLES, "IREC_COORDINATOR": "localhost:7"})
    assert local["coordinator_bind_address"] == "localhost:7", "closed to the network"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"IREC_PROCESS": "4"}, "IREC_PROCESS: must be between 0 and 3, got '4'"),
        ({"IREC_PROCESSES": "0"}, "IREC_PROCESSES"),
        ({"IREC_PROCESSES": "many"}, "IREC_PROCESSES"),
        ({"IREC_PROCESS": ""}, "IREC_PROCESS: is not set, but IREC_COORDINATOR is"),
        ({"IREC_COORDINATOR": "host"}, "IREC_COORDINATOR"),
        ({"IREC_DISTRIBUTED": "auto"}, "IREC_DISTRIBUTED: contradicts"),
        ({"IREC_DISTRIBUTED": "yes"}, "IREC_DISTRIBUTED"),
    ],
)
def test_an_invalid_environment_variable_is_named(change, where):
    with pytest.raises(InputError, match=where):
        arguments_of({**VARIABLES, **change})


@pytest.mark.parametrize("seconds", ["0", "soon"])
def test_an_invalid_connection_time_is_named(monkeypatch, seconds):
    for name, value in {**VARIABLES, "IREC_MEETING_SECONDS": seconds}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        InputError, match=f"IREC_MEETING_SECONDS: must be at least 1, got '{seconds}'"
    ):
        connect()


def test_a_single_process_exchanges_nothing():
    assert gather("x") == ["x"]
    calls = []
    on_first(lambda: calls.append(1))
    assert calls == [1]

    def fail():
        raise InputError("wrong", where="here", hint="do that")

    with pytest.raises(InputError, match="here: wrong"):
        on_first(fail)
