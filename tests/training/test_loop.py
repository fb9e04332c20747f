"""The loop: resumed exactly after any kill, compiled once, stopped with everything saved."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irec_jax.errors import InputError
from irec_jax.model.params import abstract, structure
from irec_jax.training.checkpoint import Checkpoints, load_params, saved_steps
from irec_jax.training.config import TrainConfig
from irec_jax.training.loop import (
    dropout_key,
    fingerprint_of,
    first_state,
    params_on_host,
    train,
)
from irec_jax.training.loss import token_loss
from irec_jax.training.metrics_logger import read_losses
from irec_jax.training.optimizer import OptimizerConfig, find_average
from irec_jax.training.preemption import Interrupted, StopSignal, Terminated, stop_error
from irec_jax.training.step import compile_step
from irec_jax.training.validation import read_validation

from .conftest import ToyBatches

STEPS = 30
PROGRAM = Path(__file__).with_name("a_run.py")


class Runner:
    """Starts the short run as a process; all of them share what the compiler made."""

    def __init__(self, folder: Path, cached: dict[str, str]) -> None:
        self.folder, self.output = folder, folder / "output.txt"
        self.environment = {**os.environ, **cached, "PYTHONPATH": str(PROGRAM.parents[2])}

    def start(self, run: Path, pause_s: float) -> subprocess.Popen:
        command = [sys.executable, str(PROGRAM), str(run), str(STEPS), "--pause", str(pause_s)]
        with self.output.open("a") as output:
            return subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)

    def finish(self, run: Path) -> None:
        assert self.start(run, 0.0).wait(timeout=300) == 0, self.output.read_text()

    def signal_at(self, run: Path, step: int, number: signal.Signals) -> int:
        """Sends a signal once a new process has done a step; returns the exit code."""
        before = openings(run)
        process = self.start(run, 0.05)
        end = time.monotonic() + 300
        while openings(run) == before or max(read_losses(run), default=0) < step:
            assert process.poll() is None, self.output.read_text()
            assert time.monotonic() < end, self.output.read_text()
            time.sleep(0.005)
        process.send_signal(number)
        return process.wait(timeout=300)


def openings(run: Path) -> int:
    """How often the run was started or resumed so far."""
    log = run / "log.txt"
    return log.read_text().count("ed at step ") if log.exists() else 0


@pytest.mark.slow
def test_stopped_at_random_steps_every_later_loss_is_bit_equal(tmp_path, cached):
    runner = Runner(tmp_path, cached)
    whole, stop_error = tmp_path / "whole", tmp_path / "stopped"
    runner.finish(whole)
    expected = read_losses(whole)
    assert list(expected) == list(range(1, STEPS + 1))
    numbers = [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGKILL]
    codes = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
    steps = np.sort(np.random.default_rng().choice(np.arange(1, STEPS - 12), len(numbers), False))
    for step, number in zip(steps.tolist(), numbers, strict=True):
        assert runner.signal_at(stop_error, step, number) == codes[number], (
            runner.output.read_text()
        )
        if number != signal.SIGKILL:
            (newest, *_) = saved_steps(stop_error / "checkpoints")
            assert list(read_losses(stop_error)) == list(range(1, newest + 1)), "saved at once"
    runner.finish(stop_error)
    assert read_losses(stop_error) == expected, f"stopped at {steps}"
    assert weights_of(whole) == weights_of(stop_error)


def weights_of(run: Path) -> list[int]:
    (newest, *_) = saved_steps(run / "checkpoints")
    about = json.loads((run / "checkpoints" / str(newest) / "about" / "data.json").read_text())
    return about["checksums"]["params"]


def test_it_compiles_before_the_second_step_and_never_after(make_job, tmp_path, toy_batches):
    compiled: list[tuple[int, str]] = []
    step = 0

    def listen(event: str, duration: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append((step, event))

    class Counting(type(toy_batches)):
        def __next__(self):
            nonlocal step
            step += 1
            return super().__next__()

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        measured = TrainConfig(
            steps=6, batch_size=8, log_every=2, checkpoint_every=4, validate_every=3
        )
        validation = [next(ToyBatches()) for _ in range(2)]
        train(make_job(tmp_path, batches=Counting(), train=measured, validation=validation))
    finally:
        jax.monitoring.clear_event_listeners()
    assert step == 6
    assert compiled, "nothing was compiled at all: does the event still have this name?"
    assert {at for at, _ in compiled} <= {0, 1}


def test_it_returns_the_last_state_and_has_saved_it(make_job, tmp_path, tiny):
    seen = {}
    job = make_job(tmp_path, on_log=lambda step, metrics: seen.update({step: metrics}))
    state = train(job)
    assert list(seen) == [2, 4, 6]
    assert {"loss", "learning_rate", "gradient_norm", "tokens_per_s", "fill", "mfu"} <= set(seen[6])
    np.testing.assert_allclose(seen[6]["learning_rate"], 1e-2, rtol=1e-6)
    assert saved_steps(tmp_path / "checkpoints") == [6, 4]
    assert jax.tree.map(np.shape, params_on_host(state)) == jax.tree.map(np.shape, abstract(tiny))
    jax.tree.map(np.testing.assert_array_equal, params_on_host(state), load_params(tmp_path, tiny))
    before = read_losses(tmp_path)
    again = train(job)
    assert (again.step, read_losses(tmp_path)) == (6, before), "a finished run has nothing to do"


def test_dropout_is_on_and_follows_the_seed(make_job, tmp_path):
    once = TrainConfig(steps=1, batch_size=8)
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        train(make_job(tmp_path / name, seed=seed, train=once))
    first, same, other = (read_losses(tmp_path / name)[1] for name in "abc")
    assert first == same != other


def test_another_dtype_of_activations_goes_on_with_the_same_weights(make_job, tmp_path, tiny):
    short = TrainConfig(steps=3, batch_size=8)
    train(make_job(tmp_path, train=short))
    saved = load_params(tmp_path, tiny)
    half = dataclasses.replace(tiny, compute="bfloat16")
    job = make_job(tmp_path, model=half, train=dataclasses.replace(short, steps=5))
    restored = Checkpoints(tmp_path, fingerprint_of(job)).restore(
        compile_step(half, job.optimizer, job.train, job.mesh).target
    )
    jax.tree.map(np.testing.assert_array_equal, params_on_host(restored.state), saved)
    state = train(job)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}
    assert list(read_losses(tmp_path)) == [1, 2, 3, 4, 5]


def test_checkpoints_by_the_clock(make_job, tmp_path):
    often = TrainConfig(
        steps=4, batch_size=8, checkpoint_every=100, checkpoint_minutes=1e-9, keep=9
    )
    train(make_job(tmp_path, train=often))
    assert saved_steps(tmp_path / "checkpoints") == [4, 3, 2, 1]


def test_the_validation_loss_is_that_of_the_weights_without_dropout(
    make_job, tmp_path, tiny, toy_batches
):
    batches = [next(toy_batches) for _ in range(3)]
    graded = TrainConfig(steps=6, batch_size=8, checkpoint_every=4, validate_every=3)
    train(make_job(tmp_path, validation=batches, train=graded))
    losses = read_validation(tmp_path)
    assert list(losses) == [3, 4, 6], "also where a checkpoint is due"
    last = load_params(tmp_path, tiny)
    net = structure(tiny)
    sums = np.sum([token_loss(net, last, batch, None) for batch in batches], axis=0)
    np.testing.assert_allclose(losses[6], sums[0] / sums[1], rtol=1e-6)
    train(make_job(tmp_path, validation=batches, train=dataclasses.replace(graded, steps=9)))
    again = read_validation(tmp_path)
    assert list(again) == [3, 4, 6, 8, 9]
    assert again[6] == losses[6]


def test_a_run_with_other_settings_does_not_resume(make_job, tmp_path):
    train(make_job(tmp_path))
    with pytest.raises(InputError, match=r"seed is 0 in the checkpoint and 1 now"):
        train(make_job(tmp_path, seed=1))
    with pytest.raises(InputError, match=r"optimizer\.kind is 'adafactor' .* 'adamw'"):
        train(make_job(tmp_path, optimizer=OptimizerConfig(kind="adamw")))


def test_steps_without_a_finite_loss_change_nothing_and_end_the_run(make_job, tmp_path, params):
    spoiled = {**params, "head": params["head"] * np.nan}
    job = make_job(
        tmp_path,
        start=lambda places: jax.device_put(spoiled, places),
        train=TrainConfig(steps=6, batch_size=8, checkpoint_every=2, max_skipped=2),
    )
    with pytest.raises(InputError, match=r"3 steps in a row, up to step 3.*step 2 is good"):
        train(job)
    assert saved_steps(tmp_path / "checkpoints") == [2]
    told = (tmp_path / "log.txt").read_text()
    assert told.count("was skipped") == 3
    assert all(np.isnan(loss) for loss in read_losses(tmp_path).values())


def test_one_bad_batch_is_skipped_as_if_it_had_not_been_there(make_job, tmp_path, params):
    job = make_job(tmp_path)
    step, target, _ = compile_step(job.model, job.optimizer, job.train, job.mesh)
    state, key = first_state(job, target), dropout_key(job)
    huge = dataclasses.replace(job.optimizer, peak=1e30, clip=0.0)
    bad_step = compile_step(job.model, huge, job.train, job.mesh).run
    batch = next(job.batches)
    with jax.set_mesh(job.mesh):
        state, _ = step(state, batch, key)
        poisoned = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.inf), state.params)
        before = jax.device_get(state.optimizer_state)
        after, scalars = bad_step(state._replace(params=poisoned), batch, key)
    assert float(scalars["skipped"]) == 1
    assert int(after.step) == 2
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(after.optimizer_state), before)


def test_weights_of_another_shape_are_refused(make_job, tmp_path, params):
    other = {**params, "head": np.ones(3)}
    with pytest.raises(InputError, match=r"the weights have .*head.* \(3,\), the model needs"):
        train(make_job(tmp_path, start=lambda _: other))


@pytest.fixture
def attentive():
    """Python's own handler of SIGINT: a job in the background of a script starts without it."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


def test_the_second_signal_is_for_the_impatient(attentive):
    told, before = [], signal.getsignal(signal.SIGINT)
    with StopSignal() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.signal is signal.SIGINT
        assert interruption.wishes().signal is signal.SIGINT
        assert isinstance(stop_error(signal.SIGINT, 1, 2, told.append), Interrupted)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with StopSignal() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.wishes().signal is signal.SIGTERM
        assert isinstance(stop_error(signal.SIGTERM, 1, 2, told.append), Terminated)
        assert stop_error(signal.SIGTERM, 1, 2, told.append).code == 143
    assert signal.getsignal(signal.SIGINT) is before
    assert "saved at step 1 of 2" in told[0]


@pytest.mark.parametrize(
    "setting",
    [
        {"checkpoint_minutes": -1.0},
        {"validate_every": -1},
        {"keep_best": -1},
        {"hang_seconds": 0.0},
    ],
)
def test_an_impossible_setting_is_named(setting):
    with pytest.raises(InputError, match=f"train.{next(iter(setting))}"):
        TrainConfig(**setting)


@pytest.mark.parametrize("key", ["steps", "batch_size", "log_every", "checkpoint_every", "keep"])
def test_an_impossible_length_is_named(key):
    with pytest.raises(InputError, match=rf"train\.{key}"):
        TrainConfig(**{key: 0})


def test_a_run_that_keeps_an_average_answers_with_it_and_resumes(make_job, tmp_path, tiny):
    settings = OptimizerConfig(peak=1e-2, average=0.5)
    whole = train(make_job(tmp_path / "whole", optimizer=settings))
    answers = load_params(tmp_path / "whole", tiny)
    expected = jax.device_get(find_average(whole.optimizer_state))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(answers), expected)
    assert not np.array_equal(answers["head"], whole.params["head"])
    # Stopped at the checkpoint of step 4 and gone on from there.
    train(make_job(tmp_path / "cut", optimizer=settings, train=TrainConfig(steps=4, batch_size=8)))
    train(make_job(tmp_path / "cut", optimizer=settings))
    again = load_params(tmp_path / "cut", tiny)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), expected)
