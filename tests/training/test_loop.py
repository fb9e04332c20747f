"""The loop: resumed exactly after any kill, compiled once, saved when it is stopped."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from irec_jax.batches.batch import Batch
from irec_jax.errors import InputError
from irec_jax.model.params import abstract, structure
from irec_jax.training.checkpoint import Checkpoints, load_params, saved_steps
from irec_jax.training.config import TrainConfig
from irec_jax.training.consensus import StopRequest
from irec_jax.training.initial_state import fingerprint_of
from irec_jax.training.loop import train
from irec_jax.training.loss import token_loss
from irec_jax.training.metrics_logger import read_losses
from irec_jax.training.optimizer import OptimizerConfig, find_average
from irec_jax.training.preemption import (
    Interrupted,
    SignalCatcher,
    StopSignal,
    Terminated,
    stop_error,
)
from irec_jax.training.sharding import MeshConfig, make_mesh
from irec_jax.training.step import compile_step
from irec_jax.training.validation import read_validation

from .conftest import VOCABULARY, ToyBatches

STEPS = 30
PROGRAM = Path(__file__).with_name("a_run.py")


class Runner:
    """Starts the short run as a process; all share the compilation cache."""

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
        """Send a signal once a new process has done a step; return the exit code."""
        before = count_attempts(run)
        process = self.start(run, 0.05)
        end = time.monotonic() + 300
        while count_attempts(run) == before or max(read_losses(run), default=0) < step:
            assert process.poll() is None, self.output.read_text()
            assert time.monotonic() < end, self.output.read_text()
            time.sleep(0.005)
        process.send_signal(number)
        return process.wait(timeout=300)


def count_attempts(run: Path) -> int:
    """Return how often the run was started or resumed."""
    log = run / "log.txt"
    return log.read_text().count("ed at step ") if log.exists() else 0


@pytest.mark.slow
def test_losses_are_bit_equal_after_stops_at_random_steps(tmp_path, cached):
    runner = Runner(tmp_path, cached)
    reference, stopped = tmp_path / "reference", tmp_path / "stopped"
    runner.finish(reference)
    expected = read_losses(reference)
    assert list(expected) == list(range(1, STEPS + 1))
    numbers = [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGKILL]
    codes = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
    steps = np.sort(np.random.default_rng().choice(np.arange(1, STEPS - 12), len(numbers), False))
    for step, number in zip(steps.tolist(), numbers, strict=True):
        code = runner.signal_at(stopped, step, number)
        assert code == codes[number], runner.output.read_text()
        if number != signal.SIGKILL:
            (newest, *_) = saved_steps(stopped / "checkpoints")
            assert list(read_losses(stopped)) == list(range(1, newest + 1)), "saved at once"
    runner.finish(stopped)
    assert read_losses(stopped) == expected, f"stopped at {steps}"
    assert weight_checksums(reference) == weight_checksums(stopped)


def weight_checksums(run: Path) -> list[int]:
    (newest, *_) = saved_steps(run / "checkpoints")
    about = json.loads((run / "checkpoints" / str(newest) / "about" / "data.json").read_text())
    return about["checksums"]["params"]


def test_nothing_is_compiled_after_the_first_step(make_inputs, tmp_path, toy_batches):
    compiled: list[tuple[int, str]] = []
    step = 0

    def record(event: str, duration: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append((step, event))

    class CountingBatches(type(toy_batches)):
        def __next__(self):
            nonlocal step
            step += 1
            return super().__next__()

    jax.monitoring.register_event_duration_secs_listener(record)
    try:
        config = TrainConfig(
            steps=6, batch_size=8, log_every=2, checkpoint_every=4, validate_every=3
        )
        validation = [next(ToyBatches()) for _ in range(2)]
        train(make_inputs(tmp_path, batches=CountingBatches(), train=config, validation=validation))
    finally:
        jax.monitoring.clear_event_listeners()
    assert step == 6
    assert compiled, "nothing was compiled: does the event still have this name?"
    assert {at for at, _ in compiled} <= {0, 1}


def test_train_returns_and_saves_the_last_state(make_inputs, tmp_path, tiny):
    logged = {}
    inputs = make_inputs(tmp_path, on_log=lambda step, metrics: logged.update({step: metrics}))
    state = train(inputs)
    assert list(logged) == [2, 4, 6]
    assert {"loss", "learning_rate", "gradient_norm", "tokens_per_s", "fill", "mfu"} <= set(
        logged[6]
    )
    np.testing.assert_allclose(logged[6]["learning_rate"], 1e-2, rtol=1e-6)
    assert saved_steps(tmp_path / "checkpoints") == [6, 4]
    assert jax.tree.map(np.shape, state.params) == jax.tree.map(np.shape, abstract(tiny))
    jax.tree.map(np.testing.assert_array_equal, state.params, load_params(tmp_path, tiny))
    before = read_losses(tmp_path)
    again = train(inputs)
    assert (again.step, read_losses(tmp_path)) == (6, before), "a finished run does nothing"


@pytest.mark.parametrize("steps", [6, 4])
def test_a_finished_run_says_that_nothing_is_left(make_inputs, tmp_path, capsys, steps):
    state = train(make_inputs(tmp_path))
    assert "nothing is left" not in capsys.readouterr().err
    config = TrainConfig(steps=steps, batch_size=8, log_every=2, checkpoint_every=4)
    again = train(make_inputs(tmp_path, train=config))
    jax.tree.map(np.testing.assert_array_equal, again.params, state.params)
    printed = " ".join(capsys.readouterr())
    assert f"the run has 6 steps, and train.steps is {steps}: nothing is left" in printed


def test_dropout_is_on_and_depends_on_the_seed(make_inputs, tmp_path):
    once = TrainConfig(steps=1, batch_size=8)
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        train(make_inputs(tmp_path / name, seed=seed, train=once))
    first, same, other = (read_losses(tmp_path / name)[1] for name in "abc")
    assert first == same != other


def test_a_run_is_resumed_with_another_dtype_of_activations(make_inputs, tmp_path, tiny):
    short = TrainConfig(steps=3, batch_size=8)
    train(make_inputs(tmp_path, train=short))
    saved = load_params(tmp_path, tiny)
    half = dataclasses.replace(tiny, compute="bfloat16")
    inputs = make_inputs(tmp_path, model=half, train=dataclasses.replace(short, steps=5))
    restored = Checkpoints(tmp_path, fingerprint_of(inputs)).restore(
        compile_step(half, inputs.optimizer, inputs.train, inputs.mesh).target
    )
    jax.tree.map(np.testing.assert_array_equal, restored.state.params, saved)
    state = train(inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}
    assert list(read_losses(tmp_path)) == [1, 2, 3, 4, 5]


def test_timed_checkpoints(make_inputs, tmp_path):
    often = TrainConfig(
        steps=4, batch_size=8, checkpoint_every=100, checkpoint_minutes=1e-9, keep=9
    )
    train(make_inputs(tmp_path, train=often))
    assert saved_steps(tmp_path / "checkpoints") == [4, 3, 2, 1]


def test_the_validation_loss_is_that_of_the_weights_without_dropout(
    make_inputs, tmp_path, tiny, toy_batches
):
    batches = [next(toy_batches) for _ in range(3)]
    config = TrainConfig(steps=6, batch_size=8, checkpoint_every=4, validate_every=3)
    train(make_inputs(tmp_path, validation=batches, train=config))
    losses = read_validation(tmp_path)
    assert list(losses) == [3, 4, 6], "also where a checkpoint is due"
    last = load_params(tmp_path, tiny)
    net = structure(tiny)
    sums = np.sum([token_loss(net, last, batch, None) for batch in batches], axis=0)
    np.testing.assert_allclose(losses[6], sums[0] / sums[1], rtol=1e-6)
    train(make_inputs(tmp_path, validation=batches, train=dataclasses.replace(config, steps=9)))
    again = read_validation(tmp_path)
    assert list(again) == [3, 4, 6, 8, 9]
    assert again[6] == losses[6]


def test_a_run_with_other_settings_does_not_resume(make_inputs, tmp_path):
    train(make_inputs(tmp_path))
    with pytest.raises(InputError, match=r"seed is 0 in the checkpoint and 1 now"):
        train(make_inputs(tmp_path, seed=1))
    with pytest.raises(InputError, match=r"optimizer\.kind is 'adafactor' .* 'adamw'"):
        train(make_inputs(tmp_path, optimizer=OptimizerConfig(kind="adamw")))


def test_steps_without_a_finite_loss_are_skipped_and_end_the_run(make_inputs, tmp_path, params):
    not_finite = {**params, "head": params["head"] * np.nan}
    inputs = make_inputs(
        tmp_path,
        init_weights=lambda shardings: jax.device_put(not_finite, shardings),
        train=TrainConfig(steps=6, batch_size=8, checkpoint_every=2, max_skipped=2),
    )
    with pytest.raises(InputError, match=r"3 steps in a row, up to step 3.*step 2 is good"):
        train(inputs)
    assert saved_steps(tmp_path / "checkpoints") == [2]
    assert (tmp_path / "log.txt").read_text().count("was skipped") == 3
    assert all(np.isnan(loss) for loss in read_losses(tmp_path).values())


class BadBatches(ToyBatches):
    """`ToyBatches` with one more batch, whose targets are not in the vocabulary."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.bad = bad

    def __next__(self) -> Batch:
        if self.number != self.bad:
            return super().__next__()
        self.bad = -1
        number = self.number
        batch = super().__next__()
        self.number = number
        targets = batch.targets + VOCABULARY
        return Batch(batch.inputs, batch.input_segments, targets, batch.target_segments)


def test_one_bad_batch_is_skipped_as_if_it_had_not_been_there(make_inputs, tmp_path, tiny):
    model = dataclasses.replace(tiny, dropout=0.0)  # dropout depends on the number of the step

    def run(name, steps, batches):
        config = TrainConfig(steps=steps, batch_size=8, checkpoint_every=steps)
        return train(make_inputs(tmp_path / name, model=model, train=config, batches=batches))

    expected, state = run("good", 3, ToyBatches()), run("bad", 4, BadBatches(1))
    losses, (first, bad, *later) = (
        read_losses(tmp_path / "good"),
        read_losses(tmp_path / "bad").values(),
    )
    assert np.isnan(bad)
    assert [first, *later] == list(losses.values())
    assert (tmp_path / "bad" / "log.txt").read_text().count("was skipped") == 1
    for found, right in (
        (state.params, expected.params),
        (state.optimizer_state, expected.optimizer_state),
    ):
        jax.tree.map(np.testing.assert_array_equal, found, right)


def test_weights_of_another_shape_are_refused(make_inputs, tmp_path, params):
    other = {**params, "head": np.ones(3)}
    with pytest.raises(InputError, match=r"the weights have head \(3,\), the model \(16, 32\)"):
        train(make_inputs(tmp_path, init_weights=lambda _: other))


@pytest.fixture
def default_sigint():
    """Set Python's own handler of SIGINT, which background processes of a shell lack."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


def test_the_first_signal_requests_a_stop_and_the_second_stops_at_once(default_sigint):
    messages, before = [], signal.getsignal(signal.SIGINT)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    with SignalCatcher() as catcher:
        stop = StopSignal(catcher, mesh, 0.0)
        assert stop.poll() == StopRequest()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.poll() == StopRequest(interrupt=True)
        assert stop.poll().signal is signal.SIGINT
        assert isinstance(stop_error(signal.SIGINT, 1, 2, messages.append), Interrupted)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with SignalCatcher() as catcher:
        os.kill(os.getpid(), signal.SIGTERM)
        assert StopSignal(catcher, mesh, 0.0).poll().signal is signal.SIGTERM
        error = stop_error(signal.SIGTERM, 1, 2, messages.append)
        assert isinstance(error, Terminated)
        assert error.code == 143
    assert signal.getsignal(signal.SIGINT) is before
    assert "saved at step 1 of 2" in messages[0]


@pytest.mark.parametrize(
    "setting",
    [
        {"checkpoint_minutes": -1.0},
        {"validate_every": -1},
        {"keep_best": -1},
        {"hang_seconds": 0.0},
    ],
)
def test_an_invalid_setting_is_named(setting):
    with pytest.raises(InputError, match=f"train.{next(iter(setting))}"):
        TrainConfig(**setting)


@pytest.mark.parametrize("key", ["steps", "batch_size", "log_every", "checkpoint_every", "keep"])
def test_an_invalid_count_is_named(key):
    with pytest.raises(InputError, match=rf"train\.{key}"):
        TrainConfig(**{key: 0})


def test_a_running_average_is_what_is_loaded_and_is_resumed(make_inputs, tmp_path, tiny):
    settings = OptimizerConfig(peak=1e-2, average=0.5)
    whole = train(make_inputs(tmp_path / "whole", optimizer=settings))
    loaded = load_params(tmp_path / "whole", tiny)
    expected = jax.device_get(find_average(whole.optimizer_state))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(loaded), expected)
    assert not np.array_equal(loaded["head"], whole.params["head"])
    # Stopped at the checkpoint of step 4 and resumed from there.
    train(
        make_inputs(tmp_path / "cut", optimizer=settings, train=TrainConfig(steps=4, batch_size=8))
    )
    train(make_inputs(tmp_path / "cut", optimizer=settings))
    again = load_params(tmp_path / "cut", tiny)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), expected)
