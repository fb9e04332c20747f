"""Several processes are one run: same batches, same losses, stopped together, ended together."""

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

from .team import Team, batches_of, newest

STEPS = 24


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cached):
    """The run of one process that nobody disturbed."""
    run = tmp_path_factory.mktemp("processes") / "whole"
    team = Team(run, cached).start(STEPS, "--every", 8, "--validate", 8)
    assert team.ended() == [0], team.said()
    return run


def flip_a_bit(run, step):
    """Changes a weight."""
    files = (run / "checkpoints" / str(step) / "params").rglob("d/*")
    path = max(files, key=lambda file: file.stat().st_size)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.slow
def test_stopped_and_taken_up_by_other_numbers_of_processes(tmp_path, cached, whole):
    run = tmp_path / "run"
    two = Team(run, cached, count=2, devices=2)
    two.start(STEPS, "--mesh", 2, 2, 1, "--every", 4, "--pause", 0.05)
    two.wait_for(5)
    two.processes[1].send_signal(signal.SIGTERM)
    assert two.ended() == [143, 143], two.said()
    stopped_at = newest(run)
    assert 5 < stopped_at < 12
    assert max(read_losses(run)) == stopped_at
    assert "stopped and saved" in two.said(0)
    assert "stopped and saved" not in two.said(1), "only process 0 speaks"

    flip_a_bit(run, stopped_at)
    four = Team(run, cached, count=4)
    four.start(
        STEPS, "--mesh", 2, 1, 2, "--every", 99, "--minutes", 0.01, "--pause", 0.05, "--validate", 8
    )
    four.wait_for(stopped_at)
    four.wait_for(stopped_at + 5)
    four.processes[2].send_signal(signal.SIGINT)
    assert four.ended() == [130] * 4, four.said()
    assert f"checkpoints/{stopped_at} is damaged" in four.said(0)
    assert "is damaged" not in four.said(3)
    by_time = set(saved_steps(run / "checkpoints")) - {4, 8, 16, newest(run)}
    assert by_time, "saved every 0.6 s"

    one = Team(run, cached, devices=2).start(STEPS, "--mesh", 1, 2, 1, "--validate", 8)
    assert one.ended() == [0], one.said()

    losses, expected = read_losses(run), read_losses(whole)
    assert list(losses) == list(expected) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(list(losses.values()), list(expected.values()), rtol=1e-5)
    assert batches_of(run) == batches_of(whole)
    assert {file.name for file in run.glob("batches.*")} == {f"batches.{n}.jsonl" for n in range(4)}
    told, right = read_validation(run), read_validation(whole)
    assert right.keys() == {8, 16, 24}
    for step in right:
        np.testing.assert_allclose(told.get(step, right[step]), right[step], rtol=1e-5)


@pytest.mark.slow
def test_adapters_of_two_processes_are_taken_up_by_one(tmp_path, cached):
    """Each process writes its parts of the frozen weights."""
    words = ["--rank", 2, "--every", 4, "--validate", 4]
    alone = Team(tmp_path / "alone", cached).start(8, *words)
    assert alone.ended() == [0], alone.said()
    run = tmp_path / "run"
    two = Team(run, cached, count=2).start(4, "--mesh", 1, 2, 1, *words)
    assert two.ended() == [0, 0], two.said()
    again = Team(run, cached).start(8, *words)
    assert again.ended() == [0], again.said()
    sums = [(path / "frozen/about/data.json").read_text() for path in (run, tmp_path / "alone")]
    assert sums[0] == sums[1]
    for read in (read_losses, read_validation):
        found, expected = read(run), read(tmp_path / "alone")
        assert found.keys() == expected.keys()
        np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)


@pytest.mark.slow
def test_each_process_reads_its_own_stored_rows(tmp_path, cached):
    words = ("--packed", tmp_path / "rows")
    assert Team(tmp_path / "rows", cached).start(0, *words, "--pack").ended() == [0]
    assert len(PackedRows(tmp_path / "rows")) % 8, "batches go over the end of a pass"
    alone = Team(tmp_path / "alone", cached).start(STEPS, *words)
    two = Team(tmp_path / "run", cached, count=2).start(8, *words, "--mesh", 2, 1, 1)
    assert [*alone.ended(), *two.ended()] == [0] * 3, alone.said() + two.said()
    same_rows = Team(tmp_path / "run", cached, count=2).start(STEPS, *words, "--mesh", 1, 1, 2)
    assert same_rows.ended() == [0] * 2, same_rows.said()
    losses, expected = read_losses(tmp_path / "run"), read_losses(tmp_path / "alone")
    assert list(losses) == list(expected) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(list(losses.values()), list(expected.values()), rtol=1e-5)


@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_when_one_is_killed_the_others_end_and_say_so(tmp_path, cached, killed):
    team = Team(tmp_path / "run", cached, count=2)
    team.start(10_000, "--mesh", 2, 1, 1, "--pause", 0.05)
    team.wait_for(3)
    team.processes[killed].kill()
    codes = team.ended(within_s=90)
    assert codes.pop(killed) == -9
    assert 0 not in codes
    if killed:
        assert codes == [EXIT_LOST], team.said()
        assert f"ends: process {killed} gives no sign of life" in team.said(0)
    else:  # the coordinator: JAX itself ends the others
        assert "another task died" in team.said() or "is gone" in team.said()


@pytest.mark.parametrize("missing", [0, 1])
def test_one_that_never_comes_is_not_waited_for_for_ever(tmp_path, cached, missing):
    team = Team(tmp_path / "run", cached, count=2, meeting_s=4).start(1)
    team.processes[missing].kill()
    codes = team.ended(within_s=60)
    assert (codes.pop(missing), codes) == (-9, [EXIT_LOST]), team.said()
    said = team.said(1 - missing).splitlines()
    assert said[0] == "irec: error: IREC_COORDINATOR: after 4 s not all processes were there"
    assert "IREC_MEETING_SECONDS" in said[1]
    assert len(said) == 2, "no stack trace"


def test_who_waits_for_the_others_can_be_interrupted(tmp_path, cached):
    team = Team(tmp_path / "run", cached, count=2).start(1)
    team.processes[1].kill()
    team.wait_for_meeting()
    team.processes[0].send_signal(signal.SIGINT)
    assert team.ended(within_s=10) == [-signal.SIGINT, -signal.SIGKILL], team.said()


@pytest.mark.slow
def test_one_that_hangs_ends_all(tmp_path, cached):
    team = Team(tmp_path / "run", cached, count=2)
    team.start(10_000, "--mesh", 2, 1, 1, "--hang-at", 6, "--hang-s", 20)
    assert team.ended(within_s=150) == [EXIT_LOST] * 2, team.said()
    for number in range(2):
        assert "nothing moved in 20 s" in team.said(number)
        assert "process 1 is there, reading data after step 5" in team.said(number)
    assert "a_run.py" in team.said(1), "where it hangs"


ALL = {"IREC_COORDINATOR": "a:1", "IREC_PROCESSES": "4", "IREC_PROCESS": "3"}


def test_the_environment_says_who_meets_where():
    assert arguments_of({}) is None
    assert arguments_of({"IREC_DISTRIBUTED": "auto"}) == {}
    wanted = arguments_of(ALL)
    assert (wanted["coordinator_address"], wanted["num_processes"], wanted["process_id"]) == (
        "a:1",
        4,
        3,
    )
    assert "coordinator_bind_address" not in wanted
    here = arguments_of({**ALL, "IREC_COORDINATOR": "localhost:7"})
    assert here["coordinator_bind_address"] == "localhost:7", "closed to the network"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"IREC_PROCESS": "4"}, "IREC_PROCESS: '4'.*\n.*0 to 3"),
        ({"IREC_PROCESSES": "0"}, "IREC_PROCESSES"),
        ({"IREC_PROCESSES": "many"}, "IREC_PROCESSES"),
        ({"IREC_PROCESS": ""}, "IREC_PROCESS: it is not set, but IREC_COORDINATOR is"),
        ({"IREC_COORDINATOR": "host"}, "IREC_COORDINATOR"),
        ({"IREC_DISTRIBUTED": "auto"}, "IREC_DISTRIBUTED.*contradict"),
        ({"IREC_DISTRIBUTED": "yes"}, "IREC_DISTRIBUTED"),
    ],
)
def test_an_impossible_environment_is_named(change, where):
    with pytest.raises(InputError, match=where):
        arguments_of({**ALL, **change})


@pytest.mark.parametrize("seconds", ["0", "soon"])
def test_an_impossible_time_to_meet_is_named(monkeypatch, seconds):
    for name, value in {**ALL, "IREC_MEETING_SECONDS": seconds}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"IREC_MEETING_SECONDS: '{seconds}'"):
        connect()


def test_alone_there_is_nobody_to_agree_with():
    assert gather("x") == ["x"]
    done = []
    on_first(lambda: done.append(1))
    assert done == [1]

    def fail():
        raise InputError("wrong", where="here", hint="do that")

    with pytest.raises(InputError, match="here: wrong"):
        on_first(fail)
