"""A short training run as a program, to be stopped, killed, and run by several processes."""

import argparse
import dataclasses
import hashlib
import itertools
import json
import sys
import time
import types
import typing
from pathlib import Path

import jax
import numpy as np

from irec_jax.batches.elastic import packed_batches
from irec_jax.batches.packed import PackedRows, Packing, write_packed
from irec_jax.batches.pipeline import training_batches
from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig
from irec_jax.training.config import TrainConfig
from irec_jax.training.device_put import reader_of
from irec_jax.training.distributed import connect, process_index
from irec_jax.training.init_weights import from_scratch
from irec_jax.training.loop import TrainingInputs, train
from irec_jax.training.optimizer import OptimizerConfig
from irec_jax.training.sharding import MeshConfig, batch_sharding, make_mesh
from irec_jax.training.watchdog import fail_together

MODEL = T5Config(
    vocabulary=32,
    width=16,
    head_dim=8,
    heads=2,
    mlp_dim=32,
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


class Digits:
    """The codec of `Numbers`, which has nothing to be saved."""

    def save(self, folder: Path) -> None:
        (folder / "digits").write_text("as they are")


class Numbers:
    """Writes a number as itself."""

    codec = Digits()
    index = types.SimpleNamespace(
        offsets=np.zeros(1), tokens=np.zeros(0), names=[], vocabulary=MODEL.vocabulary
    )

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
    parser.add_argument("--packed", type=Path, help="rows to read instead of making them")
    parser.add_argument("--pack", action="store_true", help="only write these rows")
    return parser.parse_args()


LENGTHS = {"source_length": 12, "target_length": 6}


def batches(seed: int) -> typing.Any:
    records, writer = typing.cast(typing.Any, (Records(seed), Numbers()))
    return iter(training_batches(records, writer, batch_size=8, **LENGTHS))


def write_rows(folder: Path) -> None:
    """Stores what `batches` makes."""
    source, writer = typing.cast(typing.Any, (Records(), Numbers()))
    write_packed(Packing(source, {}, writer, **LENGTHS), folder, 300)


def stored_batches(folder: Path, mesh: jax.sharding.Mesh) -> typing.Any:
    """The own rows of this process."""
    reader = reader_of(batch_sharding(mesh), 8)
    return iter(packed_batches(PackedRows(folder), batch_size=8, seed=1, reader=reader))


def main(given: argparse.Namespace) -> None:
    sys.modules["torch"] = None  # tensorboardX would spend seconds to import it
    data, fsdp, tensor = given.mesh
    given.run.mkdir(parents=True, exist_ok=True)
    sums = given.run / f"batches.{process_index()}.jsonl"
    hang_at = given.hang_at if process_index() == 1 else 0
    mesh = make_mesh(MeshConfig(1, data, fsdp, tensor), jax.devices()[: data * fsdp * tensor])
    made = stored_batches(given.packed, mesh) if given.packed else batches(7)
    job = TrainingInputs(
        run=given.run,
        model=MODEL,
        start=from_scratch(MODEL, 0),
        batches=Slow(made, given.pause, sums, hang_at),
        mesh=mesh,
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
    words = arguments()
    connect()
    try:
        with fail_together():
            write_rows(words.packed) if words.pack else main(words)
    except KeyboardInterrupt:
        sys.exit(130)
