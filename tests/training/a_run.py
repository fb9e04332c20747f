"""A short training run as a program, to be stopped, killed, and run by several processes."""

import argparse
import dataclasses
import hashlib
import itertools
import json
import sys
import time
import typing
from pathlib import Path

import jax
import numpy as np

from irec_jax.batches.pipeline import training_batches
from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig
from irec_jax.training.config import TrainConfig
from irec_jax.training.loop import Training, train
from irec_jax.training.optimizer import OptimizerConfig
from irec_jax.training.processes import connect, which
from irec_jax.training.sharding import MeshConfig, make_mesh
from irec_jax.training.start import from_scratch
from irec_jax.training.watch import ending_together

MODEL = T5Config(
    vocabulary=32,
    width=16,
    head_dim=8,
    heads=2,
    hidden=32,
    encoder_layers=1,
    decoder_layers=1,
    dropout=0.2,
)


class Record(typing.NamedTuple):
    """As much of an instruction as the pipeline looks at."""

    inputs: str
    targets: str


@dataclasses.dataclass
class Records:
    """Sentences of random numbers."""

    seed: int = 7

    def record(self, number: int) -> Record:
        rng = np.random.default_rng([self.seed, number])
        words = [str(word) for word in rng.integers(3, MODEL.vocabulary, rng.integers(4, 9))]
        return Record(" ".join(words[2:]), " ".join(words[:2]))


class Numbers:
    """Writes a number as itself."""

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]


class Slow:
    """Batches that take their time, so that a signal finds the run at work; their sums are kept.

    `batches.PROCESS.jsonl` has the position behind each batch and the sum of its bytes.
    """

    def __init__(self, batches: typing.Any, pause_s: float, sums: Path, hang_at: int) -> None:
        self.batches, self.pause_s, self.sums, self.hang_at = batches, pause_s, sums, hang_at
        self.get_state, self.set_state = batches.get_state, batches.set_state
        self.count = 0

    def __next__(self) -> typing.Any:
        self.count += 1
        time.sleep(1_000.0 if self.count == self.hang_at else self.pause_s)
        batch = next(self.batches)
        found = hashlib.sha256(b"".join(rows.tobytes() for rows in jax.tree.leaves(batch)))
        line = json.dumps([json.dumps(self.get_state()), found.hexdigest()])
        with self.sums.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        return batch


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each batch")
    parser.add_argument("--mesh", type=int, nargs=3, default=(1, 1, 1), help="data fsdp tensor")
    parser.add_argument("--every", type=int, default=4, help="steps between checkpoints")
    parser.add_argument("--minutes", type=float, default=0.0, help="minutes between checkpoints")
    parser.add_argument("--validate", type=int, default=0, help="steps between validations")
    parser.add_argument("--rank", type=int, default=0, help="of adapters")
    parser.add_argument("--hang-s", type=float, default=600.0)
    parser.add_argument("--hang-at", type=int, default=0, help="of process 1: never comes")
    return parser.parse_args()


def batches(seed: int) -> typing.Any:
    records, writer = typing.cast(typing.Any, (Records(seed), Numbers()))
    sizes = {"batch_size": 8, "source_length": 12, "target_length": 6}
    return iter(training_batches(records, writer, **sizes))


def main(given: argparse.Namespace) -> None:
    sys.modules["torch"] = None  # tensorboardX would spend seconds to import it
    data, fsdp, tensor = given.mesh
    given.run.mkdir(parents=True, exist_ok=True)
    sums = given.run / f"batches.{which()}.jsonl"
    hang_at = given.hang_at if which() == 1 else 0
    job = Training(
        run=given.run,
        model=MODEL,
        start=from_scratch(MODEL, 0),
        batches=Slow(batches(7), given.pause, sums, hang_at),
        mesh=make_mesh(MeshConfig(1, data, fsdp, tensor), jax.devices()[: data * fsdp * tensor]),
        optimizer=OptimizerConfig(peak=1e-2),
        lora=LoraConfig(rank=given.rank, whole="^head$"),
        train=TrainConfig(
            steps=given.steps,
            batch_size=8,
            log_every=5,
            checkpoint_every=given.every,
            checkpoint_minutes=given.minutes,
            keep=2,
            validate_every=given.validate,
            hang_seconds=given.hang_s,
        ),
        validation=list(itertools.islice(batches(8), 2)) if given.validate else (),
    )
    train(job)


if __name__ == "__main__":
    connect()
    try:
        with ending_together():
            main(arguments())
    except KeyboardInterrupt:
        sys.exit(130)
