"""A program that restores a large checkpoint and prints its peak memory. Arguments: RUN ROWS."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from irec_jax.training.checkpoint import Checkpoints, TrainState, with_shardings
from irec_jax.training.sharding import MeshConfig, make_mesh, state_shardings

LEAVES, WIDTH = 12, 1_024


def state(rows: int) -> TrainState:
    """Return weights and two moments of each, as shapes."""
    leaves = {f"{n}/query": jax.ShapeDtypeStruct((rows, WIDTH), jnp.float32) for n in range(LEAVES)}
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32), leaves, (leaves, leaves))


def peak_mib() -> float:
    """Return the peak memory; `getrusage` would start from the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main(run: str, rows: str) -> None:
    shapes = state(int(rows))
    mesh = make_mesh(MeshConfig(data=1, fsdp=2), jax.devices()[:2])
    target = with_shardings(shapes, state_shardings(mesh, shapes))
    # Includes the code and threads of checksums and reading.
    before = peak_mib()
    restored = Checkpoints(Path(run), {}).restore(target)
    print(restored.step, before, peak_mib())


if __name__ == "__main__":
    main(*sys.argv[1:])
