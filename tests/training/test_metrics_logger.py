"""Metrics files of a run, and counted operations."""

import json
import math
import re
import resource
import time

import jax
import numpy as np
import pytest

from irec_jax.batches.batch import Batch
from irec_jax.model.config import T5Config
from irec_jax.training.flops import Work, batch_work
from irec_jax.training.goodput import Cause, GoodputClock
from irec_jax.training.hardware import measure_peak
from irec_jax.training.metrics_logger import (
    Hardware,
    MetricsLogger,
    StepRange,
    open_metrics_logger,
    read_losses,
)
from irec_jax.training.sharding import MeshConfig, make_mesh

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("config", [T5Config.tiny(), T5Config.small()], ids=["tiny", "small"])
def test_operations_are_those_of_the_published_formula(config):
    n, d, f = config.encoder_layers, config.width, config.mlp_dim
    h, v, e, t = config.heads * config.head_dim, config.vocabulary, 256, 32
    expected = 6 * n * (e + t) * (6 * d * h + 3 * d * f)
    expected += 12 * n * h * (e**2 + t**2 + t * e) + 6 * t * d * v
    examples = np.full((2, 3), e), np.full((2, 3), t)
    np.testing.assert_allclose(config.training_flops(*examples), 6 * expected, rtol=1e-12)


def test_the_work_of_a_batch_is_that_of_its_examples_without_padding():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 6, (4, 3, 2))
    sides = []
    for side, room in enumerate((20, 18)):
        segments = np.zeros((4, room), np.int32)
        for row in range(4):
            numbers = np.repeat([1, 2, 3], lengths[row, :, side])
            segments[row, : len(numbers)] = numbers
        sides += [segments, segments]
    found = batch_work(T5Config.tiny(), Batch(*sides))
    assert (found.tokens, found.slots) == (lengths.sum(), 4 * (20 + 18))
    alone = sum(
        T5Config.tiny().training_flops(example[:1], example[1:])
        for row in lengths
        for example in row
    )
    np.testing.assert_allclose(found.flops, alone, rtol=1e-12)


def test_the_measured_peak_is_plausible():
    assert 1e9 < measure_peak(make_mesh(MeshConfig(), jax.devices()[:1]), "float32") < 1e14


def open_logger(run, start=0, every=2, peak=1e6, on_log=None, price=0.0):
    span, clock = StepRange(start, 10, every), GoodputClock(run, start, 2, time.time())
    hardware = Hardware(peak, tuple(jax.devices()), price)
    return MetricsLogger(
        run, span, hardware, clock, on_log=on_log, advance=lambda amount, note: None
    )


def test_every_loss_is_kept_to_the_last_bit(tmp_path):
    losses = np.random.default_rng(0).random(10).astype(np.float32)
    logger = open_logger(tmp_path)
    for number, loss in enumerate(losses):
        logger.step(number + 1, {"loss": float(loss)}, Work(1, 2, 3.0))
    logger.close()
    read = read_losses(tmp_path)
    assert list(read) == list(range(1, 11))
    assert (np.array(list(read.values()), np.float32) == losses).all()


def test_a_resumed_run_removes_the_entries_of_later_steps(tmp_path):
    logger = open_logger(tmp_path)
    for step in range(1, 8):
        logger.step(step, {"loss": float(step)}, Work(1, 2, 3.0))
    logger.close()
    with (tmp_path / "metrics" / "steps.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    logger = open_logger(tmp_path, start=5)
    logger.step(6, {"loss": 60.0}, Work(1, 2, 3.0))
    logger.close()
    assert read_losses(tmp_path) == {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0, 5: 5.0, 6: 60.0}
    lines = (tmp_path / "metrics" / "intervals.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6]


def test_rates_are_real_work_over_time(tmp_path, monkeypatch):
    clock = iter(range(0, 1000, 5))
    monkeypatch.setattr(
        "irec_jax.training.metrics_logger.time.perf_counter", lambda: float(next(clock))
    )
    seen = {}
    logger = open_logger(tmp_path, peak=10.0, on_log=lambda step, entry: seen.update({step: entry}))
    # The clock starts after step 1, which waited for the compiler, and again after each entry.
    for step in range(1, 5):
        logger.step(step, {"loss": 1.0}, Work(30, 40, 20.0))
    logger.close()
    rates = {"tokens_per_s": 6.0, "step_s": 5.0, "fill": 0.75, "mfu": 0.4}
    logged = {step: {name: seen[step][name] for name in ["loss", *rates]} for step in (2, 4)}
    assert logged[2] == {"loss": 1.0, **rates}
    assert logged[4] == {"loss": 1.0, **rates, "tokens_per_s": 12.0, "step_s": 2.5, "mfu": 0.8}
    assert logged.keys() == seen.keys()


def test_memory_device_hours_and_cost_are_logged(tmp_path):
    seen = {}
    logger = open_logger(tmp_path, on_log=lambda step, entry: seen.update(entry), price=3_600.0)
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
    logger.count(Cause.PREPARING)
    for step in (1, 2):
        time.sleep(0.05)
        logger.count(Cause.STEPS)
        logger.step(step, {"loss": 1.0}, Work(1, 2, 3.0))
    logger.close()
    assert size <= seen["host_gib"] * 2**30 < size + 2**30
    assert "device_gib" not in seen, "simulated devices are in the host's memory"
    # Two devices at a dollar a second.
    assert 0.2 <= seen["dollars"] < 2.0
    np.testing.assert_allclose(seen["dollars"], 3_600 * seen["device_hours"])
    assert 0.5 < seen["goodput"] <= 1.0
    last = (tmp_path / "log.txt").read_text().splitlines()[-1]
    assert re.search(r"goodput \d+\.\d% of 0\.\d s \(steps 0\.\d s.*dollars", last)


def test_the_events_are_those_of_tensorboard(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    logger = open_logger(tmp_path)
    for step in range(1, 5):
        logger.step(step, {"loss": float(step)}, Work(1, 2, 3.0))
    logger.validated(4, 0.25)
    logger.close()
    (path,) = (tmp_path / "metrics").glob("events.out.tfevents.*")
    found, raw, at = {}, path.read_bytes(), 0
    while at < len(raw):
        # A record: length, checksum of the length, data, checksum of the data.
        length = int.from_bytes(raw[at : at + 8], "little")
        event = Event.FromString(raw[at + 12 : at + 12 + length])
        at += 16 + length
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    assert found["train/loss"] == {2: 1.5, 4: 3.5}
    assert found["validation/loss"] == {4: 0.25}
    assert {"train/mfu", "train/goodput", "train/host_gib"} <= set(found)
    assert {"train/mfu", "train/fill", "train/tokens_per_s"} <= set(found)


def test_a_loss_that_is_not_finite_is_logged(tmp_path):
    logger = open_logger(tmp_path)
    logger.step(1, {"loss": float("inf"), "skipped": 1.0}, Work(1, 2, 3.0))
    logger.close()
    assert math.isnan(read_losses(tmp_path)[1])
    assert "step 1 was skipped: its loss is inf" in (tmp_path / "log.txt").read_text()


def test_log_txt_has_a_line_per_interval(tmp_path):
    logger = open_logger(tmp_path)
    logger.note("started at step 0")
    for step in (1, 2):
        logger.step(step, {"loss": 0.5}, Work(1, 2, 3.0))
    logger.close()
    first, compiled, second, _ = (tmp_path / "log.txt").read_text().splitlines()
    assert first.endswith("started at step 0")
    assert compiled.endswith("compiled the step in 0 s")
    assert "step 2/10 loss=0.5" in second


class Clock:
    """A clock that only the test moves; `time` of the package reads it."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        for name in ("perf_counter", "monotonic"):
            monkeypatch.setattr(f"irec_jax.training.metrics_logger.time.{name}", lambda: self.now)


def test_printed_lines_have_means_and_speeds_without_the_compilation(tmp_path, monkeypatch):
    clock, lines = Clock(monkeypatch), []
    monkeypatch.setattr("irec_jax.progress.print_status", lines.append)
    monkeypatch.setattr("irec_jax.training.metrics_logger.print_status", lines.append)
    goodput = GoodputClock(tmp_path, 0, 1, time.time())
    hardware = Hardware(1e3, tuple(jax.devices()))
    with open_metrics_logger(tmp_path, StepRange(0, 14, 3), hardware, goodput) as logger:
        clock.now += 132.0  # of the compiler
        logger.count(Cause.COMPILING)
        for step in range(1, 15):
            clock.now += 2.0 if step > 1 else 0.0
            logger.step(step, {"loss": float(step)}, Work(30, 40, 20.0))
    # A line every 10 s: after steps 6, 11 and 14.
    assert lines == [
        "compiled the step in 2 min 12 s",
        "tune: 6/14 steps (0.5/s, 16 s left) loss 3.5000, 15 tokens/s, MFU 1%",
        "tune: 11/14 steps (0.5/s, 6 s left) loss 9.0000, 15 tokens/s, MFU 1%",
        "tune: 14/14 steps (0.5/s, 0 s left) loss 13.0000, 15 tokens/s, MFU 1%",
    ]
    assert read_losses(tmp_path) == {step: float(step) for step in range(1, 15)}
    intervals = (tmp_path / "metrics" / "intervals.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in intervals] == [2.0, 5.0, 8.0, 11.0, 13.5]
