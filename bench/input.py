"""Time of a training step by the source of its batches, against one cached batch.

    python bench/input.py configs/quickstart.py --rounds 5

Trains the experiment's model for a few steps by the training loop, in turns, from one cached batch
(no input work), from stored packed rows (`train.packed`), and from rows that are rendered while
training. Prints for each source the median time of a step, its ratio to the first, and the share of
time that the device waits for data. The goal is a ratio within 3 %.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import jax

from irec_jax.batches.elastic import packed_batches
from irec_jax.batches.packed import PackedRows, write_packed
from irec_jax.batches.pipeline import training_batches
from irec_jax.experiment.loading import load_experiment
from irec_jax.experiment.materials import Materials, packing_of, prepare
from irec_jax.model.host_memory import keep_freed_memory
from irec_jax.training.goodput import Cause, goodput_of, read_attempts
from irec_jax.training.init_weights import from_scratch
from irec_jax.training.inputs import Batches, TrainingInputs
from irec_jax.training.loop import train
from irec_jax.training.sharding import make_mesh

RECORDS = 20_000


class CachedBatch:
    """An unlimited iterator over one batch."""

    def __init__(self, batches: Batches) -> None:
        self._batch = next(batches)

    def __next__(self) -> Any:
        return self._batch

    def get_state(self) -> dict[str, int]:
        """Returns a constant position, which a checkpoint requires."""
        return {"position": 0}

    def set_state(self, state: dict[str, int]) -> None:
        """Does nothing: there is one position."""


def sources(materials: Materials, folder: Path) -> dict[str, Batches]:
    """Returns a new iterator of each source."""
    experiment = materials.experiment
    size, tokens = experiment.train.batch_size, experiment.tokens
    rendered = training_batches(
        materials.renderer,
        materials.writer,
        batch_size=size,
        source_length=tokens.source_length,
        target_length=tokens.target_length,
    )
    stored = packed_batches(PackedRows(folder), batch_size=size, seed=0)
    return {
        "cached": CachedBatch(iter(stored)),
        "stored": iter(stored),
        "on the fly": iter(rendered),
    }


def measure(materials: Materials, batches: Batches, steps: int, folder: Path) -> tuple[float, ...]:
    """Returns the seconds of a step in the second half, and the share of time waiting for data."""
    experiment = materials.experiment
    half = steps // 2
    settings = {"log_every": half, "checkpoint_every": 10 * steps, "steps": steps}
    job = TrainingInputs(
        run=folder,
        model=experiment.model,
        init_weights=from_scratch(experiment.model, 0),
        batches=batches,
        mesh=make_mesh(experiment.mesh),
        optimizer=experiment.optimizer,
        train=dataclasses.replace(experiment.train, **settings),
    )
    train(job)
    lines = (folder / "metrics" / "intervals.jsonl").read_text().splitlines()
    seconds = goodput_of(read_attempts(folder)).seconds
    total = seconds[Cause.STEPS] + seconds[Cause.WAITING]
    return json.loads(lines[-1])["step_s"], seconds[Cause.WAITING] / total


def main() -> None:
    """Prints one line per source."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    options, overrides = parser.parse_known_args()
    keep_freed_memory()
    materials = prepare(load_experiment(options.experiment, overrides))
    results: dict[str, list[tuple[float, ...]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
        manifest = write_packed(packing_of(materials), folder / "rows", RECORDS, workers=2)
        print(f"{manifest.rows} rows, {manifest.source_fill:.1%} full", flush=True)
        for number in range(options.rounds):
            for kind, batches in sources(materials, folder / "rows").items():
                run = folder / f"{kind} {number}"
                run.mkdir()
                result = measure(materials, batches, options.steps, run)
                results.setdefault(kind, []).append(result)
    floor = statistics.median(step for step, _ in results["cached"])
    for kind, measured in results.items():
        step, waited = map(statistics.median, zip(*measured, strict=True))
        print(f"{kind:12} {step * 1e3:8.2f} ms per step  {step / floor:6.3f}  waited {waited:6.2%}")


if __name__ == "__main__":
    main()
