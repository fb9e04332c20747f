"""The inputs of a training run."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jax.sharding import Mesh

from irec_jax.batches.batch import Batch
from irec_jax.model.lora import NO_LORA, LoraConfig
from irec_jax.model.params import Params
from irec_jax.model.seq2seq import Seq2SeqConfig
from irec_jax.training.config import TrainConfig
from irec_jax.training.metrics_logger import OnLog
from irec_jax.training.optimizer import OptimizerConfig


@runtime_checkable
class Batches(Protocol):
    """An infinite iterator of batches on the host with a position to save, like grain's."""

    def __next__(self) -> Batch:
        """Return the next batch, of numpy arrays."""
        ...

    def get_state(self) -> Any:
        """Return the position as a JSON value."""
        ...

    def set_state(self, state: Any) -> None:
        """Set the position."""
        ...


InitWeights = Callable[[Any], Params]
"""Makes the initial weights with the shardings of a tree; see `irec_jax.training.init_weights`."""


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingInputs:
    """Model, data and settings of a training run; the same in all its processes.

    Attributes:
        run: The run folder; the run is resumed from the checkpoints there.
        model: The model's config.
        init_weights: Makes the initial weights; not called when the run is resumed.
        batches: The training data; its position is saved with the weights.
        mesh: The devices, from `irec_jax.training.sharding.make_mesh`.
        optimizer: Optimizer and schedule.
        train: Length, batch size, and intervals of logs and checkpoints.
        lora: The weights that are trained by adapters; rank 0 trains all weights. Frozen weights
            are written into the run once, before the first step.
        seed: The seed of dropout and adapters.
        fingerprint: Other settings that a checkpoint must share to be resumed from, such as the
            item index; nested JSON values by name.
        validation: Batches of the validation loss, measured every `TrainConfig.validate_every`
            steps.
        on_log: Called in process 0 with the step and the metrics of each log line.
        start_time: When the attempt started, in seconds since 1970; None for now. The time
            until the first step counts as preparing.
        profile: Whether to trace a few steps, for xprof.
    """

    run: Path
    model: Seq2SeqConfig
    init_weights: InitWeights
    batches: Batches
    mesh: Mesh
    optimizer: OptimizerConfig
    train: TrainConfig
    lora: LoraConfig = NO_LORA
    seed: int = 0
    fingerprint: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    validation: Sequence[Batch] = ()
    on_log: OnLog | None = None
    start_time: float | None = None
    profile: bool = False
