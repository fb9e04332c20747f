"""Goodput: all time of all attempts of a run is counted, by cause."""

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


def test_all_time_since_the_start_is_counted(tmp_path, monkeypatch):
    ticks = itertools.count(1_000, 2)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(time, "time", lambda: 500.0)
    clock = GoodputClock(tmp_path, 0, 4, start_time=490.0)  # ten seconds ago
    for cause in (Cause.PREPARING, Cause.COMPILING, Cause.STEPS, Cause.SAVING, Cause.STEPS):
        clock.count(cause)
    goodput = clock.write(3)
    counted = {cause: seconds for cause, seconds in goodput.seconds.items() if seconds}
    assert counted == {
        Cause.PREPARING: 12.0,
        Cause.COMPILING: 2.0,
        Cause.STEPS: 4.0,
        Cause.SAVING: 2.0,
    }
    assert goodput.share == 0.2
    assert goodput.device_hours == 4 * 20 / 3_600
    assert goodput.summary(9.0) == (
        "goodput 20.0% of 20.0 s (preparing 12.0 s, steps 4.0 s, compiling 2.0 s, saving 2.0 s); "
        "0.0222 device-hours, 0.20 dollars"
    )
    assert "dollars" not in goodput.summary(0.0)


def test_repeated_steps_and_time_between_attempts_are_not_productive():
    first = Attempt(0.0, 110.0, 0, 100, 2, {"preparing": 10.0, "steps": 100.0})
    # Started 40 seconds later, from the checkpoint of step 60.
    second = Attempt(150.0, 200.0, 60, 110, 2, {"preparing": 5.0, "steps": 45.0})
    goodput = goodput_of([first, second])
    assert goodput.seconds[Cause.STEPS] == pytest.approx(60.0 + 45.0)
    assert goodput.seconds[Cause.REPEATED] == pytest.approx(40.0)
    assert goodput.seconds[Cause.AWAY] == 40.0
    assert goodput.seconds[Cause.PREPARING] == 15.0
    assert sum(goodput.seconds.values()) == pytest.approx(200.0)
    assert goodput.device_hours == pytest.approx(2 * 160 / 3_600), (
        "time between attempts costs nothing"
    )


def test_steps_of_an_earlier_attempt_can_be_repeated_later():
    seconds = {"steps": 10.0}
    attempts = [
        Attempt(0.0, 10.0, 0, 10, 1, seconds),
        Attempt(10.0, 20.0, 10, 20, 1, seconds),
        Attempt(20.0, 30.0, 5, 15, 1, seconds),  # the checkpoint of step 10 was damaged
    ]
    goodput = goodput_of(attempts)
    assert goodput.seconds[Cause.STEPS] == pytest.approx(5.0 + 0.0 + 10.0)


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
    goodput = goodput_of(attempts)
    assert sum(goodput.seconds.values()) == pytest.approx(attempts[-1].ended)
    assert min(goodput.seconds.values()) >= 0


def test_a_new_attempt_keeps_the_earlier_ones(tmp_path):
    for start in (0, 4):
        clock = GoodputClock(tmp_path, start, 1, time.time())
        clock.count(Cause.STEPS)
        clock.write(start + 2)
        clock.write(start + 5)
    attempts = read_attempts(tmp_path)
    assert [(attempt.start, attempt.step) for attempt in attempts] == [(0, 5), (4, 9)]
    assert all(list(dataclasses.asdict(attempt)["seconds"]) == ["steps"] for attempt in attempts)


class FakeTime:
    """A clock that only the tests move, so that nothing depends on the speed of the machine."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now

    monotonic = time


class SlowBatches(ToyBatches):
    """Batches that take longer than a step."""

    def __init__(self, clock: FakeTime) -> None:
        super().__init__()
        self._clock = clock

    def __next__(self):
        time.sleep(0.1)  # the device is idle when the batch arrives
        self._clock.now += 0.1
        return super().__next__()


def test_a_run_counts_its_attempts_and_its_waits(tmp_path, make_inputs, monkeypatch):
    clock = FakeTime()
    monkeypatch.setattr("irec_jax.training.goodput.time", clock)
    train(make_inputs(tmp_path, start_time=clock.now - 3.0))
    longer = TrainConfig(steps=12, batch_size=8, log_every=2, checkpoint_every=4)
    train(make_inputs(tmp_path, train=longer, batches=SlowBatches(clock)))
    first, second = read_attempts(tmp_path)
    assert (first.start, first.step, second.start, second.step) == (0, 6, 6, 12)
    for attempt in (first, second):
        seconds = attempt.seconds
        assert sum(seconds.values()) == pytest.approx(attempt.ended - attempt.start_time, abs=1e-3)
        assert {"preparing", "compiling", "steps", "saving"} <= seconds.keys() <= {*Cause}
    assert first.seconds["preparing"] == pytest.approx(3.0)
    assert first.seconds["waiting for data"] == 0.0
    assert second.seconds["waiting for data"] == pytest.approx(0.6), "six batches"
    assert (tmp_path / "log.txt").read_text().count("goodput ") == 2


def test_the_wait_for_the_last_checkpoint_counts_as_saving(tmp_path, make_inputs, monkeypatch):
    close = Checkpoints.close

    def slow(self):
        time.sleep(0.7)
        close(self)

    monkeypatch.setattr(Checkpoints, "close", slow)
    train(make_inputs(tmp_path))
    (attempt,) = read_attempts(tmp_path)
    assert attempt.seconds["saving"] >= 0.7
    assert time.time() - attempt.ended < 0.5


def test_an_attempt_without_a_step_is_counted(tmp_path, make_inputs):
    class NoBatches(ToyBatches):
        def __next__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(make_inputs(tmp_path, batches=NoBatches()))
    train(make_inputs(tmp_path))
    first, second = read_attempts(tmp_path)
    assert (first.start, first.step, second.start, second.step) == (0, 0, 0, 6)
    assert "steps" not in first.seconds


def test_a_trace_has_the_five_steps_after_the_first_five(tmp_path, make_inputs):
    longer = TrainConfig(steps=14, batch_size=8, log_every=2, checkpoint_every=20)
    train(make_inputs(tmp_path, train=longer, profile=True))
    (path,) = (tmp_path / "metrics" / "plugins" / "profile").rglob("*.xplane.pb")
    trace = jax.profiler.ProfileData.from_file(str(path))
    events = [event for plane in trace.planes for line in plane.lines for event in line.events]
    steps = [dict(event.stats)["step_num"] for event in events if event.name == "train"]
    assert sorted(map(int, steps)) == [5, 6, 7, 8, 9]
    assert any("train_step" in event.name for event in events)
    train(make_inputs(tmp_path / "other", train=longer))
    assert not (tmp_path / "other" / "metrics" / "plugins").exists()
