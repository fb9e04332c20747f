"""Measured peak of the devices, and memory in use."""

import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh


def measure_peak(mesh: Mesh, compute: str) -> float:
    """Measure the floating point operations per second of a large matrix product.

    One device is measured, for a fraction of a second. Simulated devices share one processor, so
    on a CPU they count as one.

    Args:
        mesh: The devices.
        compute: The dtype of the operands.

    Returns:
        The operations per second of the whole mesh.
    """
    device = mesh.local_devices[0]
    cpu = device.platform == "cpu"
    side = 1_024 if cpu else 8_192
    ones = jax.device_put(np.ones((side, side), np.float32), device)
    operand = jax.block_until_ready(jax.jit(lambda values: values.astype(compute))(ones))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(operand, operand))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(product(operand, operand))
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best * (1 if cpu else mesh.devices.size)


def memory_in_use(devices: Sequence[Any]) -> dict[str, float]:
    """Return the peak memory so far in GiB: `host_gib`, and `device_gib` of the fullest device.

    Simulated devices are in the host's memory and have no `device_gib`.
    """
    # Kibibytes, but bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1_024
    peak_gib = {"host_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in devices]
    if any(peaks):
        peak_gib["device_gib"] = max(peaks) / 2**30
    return peak_gib
