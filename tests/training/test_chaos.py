"""A run that is killed at random times ends with the same weights."""

import random
import signal
import time

import numpy as np
import pytest

from irec_jax.training.metrics_logger import read_losses
from irec_jax.training.validation import read_validation

from .team import Team, batch_checksums, weight_checksums

STEPS = 320
ARGUMENTS = ("--every", 3, "--validate", 7, "--pause", 0.02)
SIGNALS = (signal.SIGKILL, signal.SIGTERM)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(tmp_path_factory, cached):
    """An uninterrupted run, and the seconds until its first step."""
    run = tmp_path_factory.mktemp("chaos") / "reference"
    Team(run.with_name("first"), cached).start(1, *ARGUMENTS).exit_codes()
    start = time.monotonic()
    team = Team(run, cached).start(STEPS, *ARGUMENTS)
    team.wait_for(1)
    start_s = time.monotonic() - start
    assert team.exit_codes() == [0], team.output()
    return run, start_s


def send_random_signal(team: Team, rng: random.Random, start_s: float) -> str:
    """Send a signal to one of a team's processes at a random time; return a description."""
    start = max(read_losses(team.run), default=0)
    if rng.random() < 0.3:  # while it starts, compiles or reads a checkpoint
        time.sleep(rng.uniform(0.0, start_s))
        moment = "at its start"
    else:  # while it reads data, steps, validates, saves or cleans up
        steps = rng.randint(1, 7)
        team.wait_for(start + steps)
        time.sleep(rng.uniform(0.0, 0.06))
        moment = f"after {steps} steps"
    number, victim = rng.choice(SIGNALS), rng.randrange(team.count)
    team.processes[victim].send_signal(number)
    return f"{number.name} to {victim} {moment} from step {start}"


@pytest.mark.parametrize(
    ("count", "kills", "arguments"),
    [(1, 30, ()), (2, 8, ("--mesh", 2, 1, 1))],
    ids=["alone", "two processes"],
)
def test_random_kills_change_no_loss_batch_or_weight(
    tmp_path, cached, reference, count, kills, arguments
):
    uninterrupted, start_s = reference
    seed = random.randrange(2**32)
    rng, run, history = random.Random(seed), tmp_path / "run", [f"seed {seed}"]
    for _ in range(kills):
        team = Team(run, cached, count).start(STEPS, *ARGUMENTS, *arguments)
        history.append(send_random_signal(team, rng, start_s * count))
        codes = team.exit_codes(within_s=120)
        history[-1] += f": {codes}"
        assert not {0, 1, 2} & set(codes), f"{history}\n{team.output()}"
    last = Team(run, cached, count).start(STEPS, *ARGUMENTS, *arguments)
    assert last.exit_codes() == [0] * count, f"{history}\n{last.output()}"

    # The order of sums over several processes differs from that on one device.
    rtol = 0.0 if count == 1 else 1e-5
    losses, expected = read_losses(run), read_losses(uninterrupted)
    assert losses.keys() == expected.keys(), history
    np.testing.assert_allclose(
        list(losses.values()), list(expected.values()), rtol=rtol, err_msg=str(history)
    )
    # A step that was saved because of a signal has no validation loss.
    validated = read_validation(run).keys() & read_validation(uninterrupted).keys()
    assert len(validated) > 0.8 * len(read_validation(uninterrupted)), history
    for step in validated:
        found, expected = read_validation(run)[step], read_validation(uninterrupted)[step]
        np.testing.assert_allclose(found, expected, rtol=rtol, err_msg=f"step {step}: {history}")
    assert batch_checksums(run) == batch_checksums(uninterrupted), history
    if count == 1:
        assert weight_checksums(run) == weight_checksums(uninterrupted), history
    assert (run / "log.txt").read_text().count("damaged") == 0, history
