"""What a run's time went to: all of it is counted, over all starts of the run."""

import dataclasses
import itertools
import time

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.training.checkpoint import Checkpoints
from irec_jax.training.config import TrainConfig
from irec_jax.training.goodput import Attempt, Cause, GoodputClock, goodput_of, read_attempts
from irec_jax.training.loop import train

from .conftest import ToyBatches


def test_every_second_since_the_beginning_has_a_cause(tmp_path, monkeypatch):
    ticks = itertools.count(1_000, 2)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(time, "time", lambda: 500.0)
    clock = GoodputClock(tmp_path, 0, 4, start_time=490.0)  # ten seconds ago
    for cause in (Cause.PREPARING, Cause.COMPILING, Cause.STEPS, Cause.SAVING, Cause.STEPS):
        clock.count(cause)
    told = clock.write(3)
    counted = {cause: seconds for cause, seconds in told.seconds.items() if seconds}
    assert counted == {
        Cause.PREPARING: 12.0,
        Cause.COMPILING: 2.0,
        Cause.STEPS: 4.0,
        Cause.SAVING: 2.0,
    }
    assert told.share == 0.2
    assert told.device_hours == 4 * 20 / 3_600
    assert told.in_words(9.0) == (
        "goodput 20.0% of 20.0 s (preparing 12.0 s, steps 4.0 s, compiling 2.0 s, saving 2.0 s); "
        "0.0222 device-hours, 0.20 dollars"
    )
    assert "dollars" not in told.in_words(0.0)


def test_steps_that_were_done_again_and_time_away_are_no_progress():
    first = Attempt(0.0, 110.0, 0, 100, 2, {"preparing": 10.0, "steps": 100.0})
    # It went on 40 seconds later, from the checkpoint of step 60.
    second = Attempt(150.0, 200.0, 60, 110, 2, {"preparing": 5.0, "steps": 45.0})
    told = goodput_of([first, second])
    assert told.seconds[Cause.STEPS] == pytest.approx(60.0 + 45.0)
    assert told.seconds[Cause.REPEATED] == pytest.approx(40.0)
    assert told.seconds[Cause.AWAY] == 40.0
    assert told.seconds[Cause.PREPARING] == 15.0
    assert sum(told.seconds.values()) == pytest.approx(200.0)
    assert told.device_hours == pytest.approx(2 * 160 / 3_600), "nobody pays for time away"


def test_an_attempt_before_the_one_before_can_be_undone_as_well():
    seconds = {"steps": 10.0}
    attempts = [
        Attempt(0.0, 10.0, 0, 10, 1, seconds),
        Attempt(10.0, 20.0, 10, 20, 1, seconds),
        Attempt(20.0, 30.0, 5, 15, 1, seconds),  # the checkpoint of step 10 was damaged
    ]
    told = goodput_of(attempts)
    assert told.seconds[Cause.STEPS] == pytest.approx(5.0 + 0.0 + 10.0)


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0, 9), st.floats(0, 9)),
        min_size=1,
        max_size=6,
    )
)
def test_the_causes_add_up_to_the_time_from_first_to_last(drawn):
    attempts, now = [], 0.0
    for start, steps, work, rest in drawn:
        seconds = {"steps": work, "saving": rest}
        attempts.append(Attempt(now, now + work + rest, start, start + steps, 1, seconds))
        now += work + rest + 1.0
    told = goodput_of(attempts)
    assert sum(told.seconds.values()) == pytest.approx(attempts[-1].ended)
    assert min(told.seconds.values()) >= 0


def test_attempts_are_kept_by_the_next_ones(tmp_path):
    for start in (0, 4):
        clock = GoodputClock(tmp_path, start, 1, time.time())
        clock.count(Cause.STEPS)
        clock.write(start + 2)
        clock.write(start + 5)
    attempts = read_attempts(tmp_path)
    assert [(attempt.start, attempt.step) for attempt in attempts] == [(0, 5), (4, 9)]
    assert all(list(dataclasses.asdict(attempt)["seconds"]) == ["steps"] for attempt in attempts)


class SlowBatches(ToyBatches):
    """Batches that a step has to wait for."""

    def __next__(self):
        time.sleep(0.1)
        return super().__next__()


def test_a_run_counts_its_starts_and_what_it_waits_for(tmp_path, make_job):
    train(make_job(tmp_path, start_time=time.time() - 3.0))
    longer = TrainConfig(steps=12, batch_size=8, log_every=2, checkpoint_every=4)
    train(make_job(tmp_path, train=longer, batches=SlowBatches()))
    first, second = read_attempts(tmp_path)
    assert (first.start, first.step, second.start, second.step) == (0, 6, 6, 12)
    for attempt in (first, second):
        seconds = attempt.seconds
        assert sum(seconds.values()) == pytest.approx(attempt.ended - attempt.start_time, abs=1e-3)
        assert {"preparing", "compiling", "steps", "saving"} <= seconds.keys() <= {*Cause}
    assert first.seconds["preparing"] >= 3.0
    assert first.seconds["waiting for data"] < 0.3
    assert 0.6 <= second.seconds["waiting for data"] < 1.2, "six batches"
    told = (tmp_path / "log.txt").read_text()
    assert told.count("goodput ") == 2


def test_the_wait_for_the_last_checkpoint_is_saving(tmp_path, make_job, monkeypatch):
    close = Checkpoints.close

    def slow(self):
        time.sleep(0.7)
        close(self)

    monkeypatch.setattr(Checkpoints, "close", slow)
    train(make_job(tmp_path))
    (attempt,) = read_attempts(tmp_path)
    assert attempt.seconds["saving"] >= 0.7
    assert time.time() - attempt.ended < 0.5


def test_a_start_that_never_comes_to_a_step_is_one_as_well(tmp_path, make_job):
    class NoBatches(ToyBatches):
        def __next__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(make_job(tmp_path, batches=NoBatches()))
    train(make_job(tmp_path))
    first, second = read_attempts(tmp_path)
    assert (first.start, first.step, second.start, second.step) == (0, 0, 0, 6)
    assert "steps" not in first.seconds


def test_a_trace_holds_the_steps_after_the_first_five(tmp_path, make_job):
    longer = TrainConfig(steps=14, batch_size=8, log_every=2, checkpoint_every=20)
    train(make_job(tmp_path, train=longer, profile=True))
    (path,) = (tmp_path / "metrics" / "plugins" / "profile").rglob("*.xplane.pb")
    trace = jax.profiler.ProfileData.from_file(str(path))
    events = [event for plane in trace.planes for line in plane.lines for event in line.events]
    steps = [dict(event.stats)["step_num"] for event in events if event.name == "train"]
    assert sorted(map(int, steps)) == [5, 6, 7, 8, 9]
    assert any("train_step" in event.name for event in events)
    train(make_job(tmp_path / "other", train=longer))
    assert not (tmp_path / "other" / "metrics" / "plugins").exists()
