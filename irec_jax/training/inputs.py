"""What a run is trained from."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jax.sharding import Mesh

from irec_jax.batches.batch import Batch
from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig
from irec_jax.model.params import Params
from irec_jax.training.config import TrainConfig
from irec_jax.training.metrics_logger import OnLog
from irec_jax.training.optimizer import OptimizerConfig
from irec_jax.training.step import NO_LORA


@runtime_checkable
class Batches(Protocol):
    """An endless iterator of batches on the host whose position can be saved, as grain's are."""

    def __next__(self) -> Batch:
        """The next batch, numpy arrays."""
        ...

    def get_state(self) -> Any:
        """The position, as something JSON can hold."""
        ...

    def set_state(self, state: Any) -> None:
        """Goes to a position."""
        ...


InitWeights = Callable[[Any], Params]
"""Makes the first weights, placed by a tree of shardings; see `irec_jax.training.init_weights`."""


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingInputs:
    """Everything one run is trained from.

    Attributes:
        run: The run folder; checkpoints and logs go there, and are resumed from there.
        model: The shape of the model.
        start: Makes the first weights; not called when the run is resumed.
        batches: The data; its position is saved with the weights.
        mesh: The devices, from `irec_jax.training.sharding.make_mesh`.
        optimizer: How gradients become updates.
        train: How long, how large and how often.
        lora: Which weights are trained through adapters; rank 0 trains all. The others are
            written into the run once, before the first step.
        seed: Decides dropout and adapters; with the data's own seed it decides every loss.
        fingerprint: Other settings that a checkpoint must share to be resumed from, such as the
            item index; nested names to plain values.
        validation: Batches whose loss is measured, as `TrainConfig.validate_every` says.
        on_log: Called with the step and the metrics of each log line.
        start_time: When the work on the run began, in seconds since 1970, which the ledger counts
            from; None for now.
        profile: Writes a trace of a few steps, for xprof.

    Where a run has several processes, all are given the same; only `on_log` is called in
    process 0 alone.
    """

    run: Path
    model: T5Config
    start: InitWeights
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
