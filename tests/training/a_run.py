"""A program that trains a short run, to be stopped, killed, and started as several processes."""

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
from irec_jax.training.inputs import TrainingInputs
from irec_jax.training.loop import train
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
    """The fields of an instruction that the pipeline reads."""

    inputs: str
    targets: str


@dataclasses.dataclass
class Records:
    """Records of random numbers as text."""

    seed: int = 7

    def record(self, number: int) -> Record:
        rng = np.random.default_rng([self.seed, number])
        words = [str(word) for word in rng.integers(3, MODEL.vocabulary, rng.integers(4, 9))]
        return Record(" ".join(words[2:]), " ".join(words[:2]))


class NumberCodec:
    """The codec of `NumberWriter`; it has no state."""

    def save(self, folder: Path) -> None:
        (folder / "numbers").write_text("each number is its token id")


class NumberWriter:
    """Encodes a number in a text as the token with this id."""

    codec = NumberCodec()
    index = types.SimpleNamespace(
        offsets=np.zeros(1), tokens=np.zeros(0), names=[], vocabulary=MODEL.vocabulary
    )

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]


class SlowBatches:
    """Batches with a pause before each, so that a signal arrives while the run trains.

    `batches.PROCESS.jsonl` has the position after each batch and its checksum.
    """

    def __init__(self, batches: typing.Any, pause_s: float, log: Path, hang_at: int) -> None:
        self.batches, self.pause_s, self.log, self.hang_at = batches, pause_s, log, hang_at
        self.get_state, self.set_state = batches.get_state, batches.set_state
        self.count = 0

    def __next__(self) -> typing.Any:
        self.count += 1
        time.sleep(1_000.0 if self.count == self.hang_at else self.pause_s)
        batch = next(self.batches)
        digest = hashlib.sha256(b"".join(rows.tobytes() for rows in jax.tree.leaves(batch)))
        line = json.dumps([json.dumps(self.get_state()), digest.hexdigest()])
        with self.log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        return batch


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each batch")
    parser.add_argument("--mesh", type=int, nargs=3, default=(1, 1, 1), help="data fsdp tensor")
    parser.add_argument("--every", type=int, default=4, help="steps between checkpoints")
    parser.add_argument("--minutes", type=float, default=0.0, help="minutes between checkpoints")
    parser.add_argument("--validate", type=int, default=0, help="steps between validations")
    parser.add_argument("--rank", type=int, default=0, help="rank of adapters; 0 for none")
    parser.add_argument("--hang-s", type=float, default=600.0)
    parser.add_argument(
        "--hang-at", type=int, default=0, help="batch of process 1 that never comes"
    )
    parser.add_argument("--packed", type=Path, help="rows to read instead of making them")
    parser.add_argument("--pack", action="store_true", help="only write these rows")
    return parser.parse_args()


LENGTHS = {"source_length": 12, "target_length": 6}


def batches(seed: int) -> typing.Any:
    records, writer = typing.cast(typing.Any, (Records(seed), NumberWriter()))
    return iter(training_batches(records, writer, batch_size=8, **LENGTHS))


def write_rows(folder: Path) -> None:
    """Store packed rows of the records of `batches`."""
    source, writer = typing.cast(typing.Any, (Records(), NumberWriter()))
    write_packed(Packing(source, {}, writer, **LENGTHS), folder, 300)


def stored_batches(folder: Path, mesh: jax.sharding.Mesh) -> typing.Any:
    """Return batches of stored rows, with the rows of this process only."""
    reader = reader_of(batch_sharding(mesh), 8)
    return iter(packed_batches(PackedRows(folder), batch_size=8, seed=1, reader=reader))


def main(arguments: argparse.Namespace) -> None:
    sys.modules["torch"] = None  # tensorboardX would spend seconds to import it
    data, fsdp, tensor = arguments.mesh
    arguments.run.mkdir(parents=True, exist_ok=True)
    log = arguments.run / f"batches.{process_index()}.jsonl"
    hang_at = arguments.hang_at if process_index() == 1 else 0
    mesh = make_mesh(MeshConfig(1, data, fsdp, tensor), jax.devices()[: data * fsdp * tensor])
    source = stored_batches(arguments.packed, mesh) if arguments.packed else batches(7)
    inputs = TrainingInputs(
        run=arguments.run,
        model=MODEL,
        init_weights=from_scratch(MODEL, 0),
        batches=SlowBatches(source, arguments.pause, log, hang_at),
        mesh=mesh,
        optimizer=OptimizerConfig(peak=1e-2),
        lora=LoraConfig(rank=arguments.rank, whole="^head$"),
        train=TrainConfig(
            steps=arguments.steps,
            batch_size=8,
            log_every=5,
            checkpoint_every=arguments.every,
            checkpoint_minutes=arguments.minutes,
            keep=2,
            validate_every=arguments.validate,
            hang_seconds=arguments.hang_s,
        ),
        validation=list(itertools.islice(batches(8), 2)) if arguments.validate else (),
    )
    train(inputs)


if __name__ == "__main__":
    arguments = parse_arguments()
    connect()
    try:
        with fail_together():
            write_rows(arguments.packed) if arguments.pack else main(arguments)
    except KeyboardInterrupt:
        sys.exit(130)
