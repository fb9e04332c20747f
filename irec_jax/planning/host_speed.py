"""How fast this machine's processors compute, and how long a run takes on them."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from irec_jax.experiment.config import Experiment
from irec_jax.planning.estimate import hardware_flops

SIDE = 1_024
"""Rows and columns of the matrices of the timed product."""

REPEATS = 5
EFFICIENCY = 0.35
"""FLOPs per second of a training step on a CPU, as a share of those of the timed product.

Measured with the default model: 0.32 with batches of 4 rows.
"""


def measure_flops() -> float:
    """Multiplies two matrices on the first device and compares the product with numpy's.

    Returns:
        FLOPs per second in float32, the fastest of `REPEATS` products.

    Raises:
        ArithmeticError: The product is wrong.
    """
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
    multiply = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))
    arguments = jax.device_put((left, right), jax.local_devices()[0])
    found = np.asarray(multiply(*arguments))
    if not np.allclose(found, left @ right, atol=1e-2):
        raise ArithmeticError(f"the product is off by {np.abs(found - left @ right).max():.2g}")
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        multiply(*arguments).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * SIDE**3 / min(times)


def estimate_hours(experiment: Experiment, flops: float) -> float:
    """Estimates the hours of a run on a CPU; a small model is slower by what XLA adds to a step.

    Args:
        experiment: With its vocabulary resolved.
        flops: FLOPs per second of a large product.
    """
    return experiment.train.steps * hardware_flops(experiment) / (EFFICIENCY * flops) / 3_600
