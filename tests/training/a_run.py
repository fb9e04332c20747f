"""A short training run as a program, to be killed: python a_run.py RUN STEPS PAUSE_S."""

import sys
import time
import typing
from pathlib import Path

import jax
import numpy as np

from irec_jax.batches.pipeline import training_batches
from irec_jax.model.config import T5Config
from irec_jax.training.config import TrainConfig
from irec_jax.training.loop import Training, train
from irec_jax.training.optimizer import OptimizerConfig
from irec_jax.training.sharding import MeshConfig, make_mesh
from irec_jax.training.start import from_scratch

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


class Records:
    """Sentences of random numbers."""

    def record(self, number: int) -> Record:
        rng = np.random.default_rng([7, number])
        words = [str(word) for word in rng.integers(3, MODEL.vocabulary, rng.integers(4, 9))]
        return Record(" ".join(words[2:]), " ".join(words[:2]))


class Numbers:
    """Writes a number as itself."""

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]


class Slow:
    """Batches that take their time, so that a signal finds the run at work."""

    def __init__(self, batches: typing.Any, pause_s: float) -> None:
        self.batches, self.pause_s = batches, pause_s
        self.get_state, self.set_state = batches.get_state, batches.set_state

    def __next__(self) -> typing.Any:
        time.sleep(self.pause_s)
        return next(self.batches)


def main(run: str, steps: str, pause_s: str) -> None:
    sys.modules["torch"] = None  # tensorboardX would spend seconds to import it
    records, writer = typing.cast(typing.Any, (Records(), Numbers()))
    sizes = {"batch_size": 8, "source_length": 12, "target_length": 6}
    batches = iter(training_batches(records, writer, **sizes))
    job = Training(
        run=Path(run),
        model=MODEL,
        start=from_scratch(MODEL, 0),
        batches=Slow(batches, float(pause_s)),
        mesh=make_mesh(MeshConfig(), jax.devices()[:1]),
        optimizer=OptimizerConfig(peak=1e-2),
        train=TrainConfig(steps=int(steps), batch_size=8, log_every=5, checkpoint_every=4, keep=2),
    )
    try:
        train(job)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(*sys.argv[1:])
