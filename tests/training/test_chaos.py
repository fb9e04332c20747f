"""Killed again and again, at any moment, a run ends with the very weights it would have had."""

import random
import signal
import time

import numpy as np
import pytest

from irec_jax.training.metrics_logger import read_losses
from irec_jax.training.validation import read_validation

from .team import Team, batches_of, weights_of

STEPS = 320
WORDS = ("--every", 3, "--validate", 7, "--pause", 0.02)
SIGNALS = (signal.SIGKILL, signal.SIGTERM)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cached):
    """The run that nobody disturbed, and how long it took to its first step."""
    run = tmp_path_factory.mktemp("chaos") / "whole"
    Team(run.with_name("first"), cached).start(1, *WORDS).ended()
    start = time.monotonic()
    team = Team(run, cached).start(STEPS, *WORDS)
    team.wait_for(1)
    start_s = time.monotonic() - start
    assert team.ended() == [0], team.said()
    return run, start_s


def strike(team: Team, rng: random.Random, start_s: float) -> str:
    """Sends a signal to one of a team's processes at some moment; says which."""
    start_time = max(read_losses(team.run), default=0)
    if rng.random() < 0.3:  # while it starts, compiles or reads a checkpoint
        time.sleep(rng.uniform(0.0, start_s))
        moment = "at its start"
    else:  # while it reads data, steps, validates, saves or cleans up
        steps = rng.randint(1, 7)
        team.wait_for(start_time + steps)
        time.sleep(rng.uniform(0.0, 0.06))
        moment = f"after {steps} steps"
    number, victim = rng.choice(SIGNALS), rng.randrange(team.count)
    team.processes[victim].send_signal(number)
    return f"{number.name} to {victim} {moment} from step {start_time}"


@pytest.mark.parametrize(
    ("count", "kills", "words"),
    [(1, 30, ()), (2, 8, ("--mesh", 2, 1, 1))],
    ids=["alone", "two processes"],
)
def test_random_kills_change_nothing(tmp_path, cached, whole, count, kills, words):
    undisturbed, start_s = whole
    seed = random.randrange(2**32)
    rng, run, history = random.Random(seed), tmp_path / "run", [f"seed {seed}"]
    for _ in range(kills):
        team = Team(run, cached, count).start(STEPS, *WORDS, *words)
        history.append(strike(team, rng, start_s * count))
        codes = team.ended(within_s=120)
        history[-1] += f": {codes}"
        assert not {0, 1, 2} & set(codes), f"{history}\n{team.said()}"
    last = Team(run, cached, count).start(STEPS, *WORDS, *words)
    assert last.ended() == [0] * count, f"{history}\n{last.said()}"

    # Where sums cross processes their order differs from that of one device.
    rtol = 0.0 if count == 1 else 1e-5
    losses, expected = read_losses(run), read_losses(undisturbed)
    assert losses.keys() == expected.keys(), history
    np.testing.assert_allclose(
        list(losses.values()), list(expected.values()), rtol=rtol, err_msg=str(history)
    )
    # A step that was saved because of a signal is not graded.
    graded = read_validation(run).keys() & read_validation(undisturbed).keys()
    assert len(graded) > 0.8 * len(read_validation(undisturbed)), history
    for step in graded:
        found, right = read_validation(run)[step], read_validation(undisturbed)[step]
        np.testing.assert_allclose(found, right, rtol=rtol, err_msg=f"step {step}: {history}")
    assert batches_of(run) == batches_of(undisturbed), history
    if count == 1:
        assert weights_of(run) == weights_of(undisturbed), history
    assert (run / "log.txt").read_text().count("damaged") == 0, history
