"""The loss on instructions that are not trained on, which says which checkpoint is the best."""

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from irec_jax.batches.batch import Batch
from irec_jax.files import write_text
from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig, merged
from irec_jax.model.params import Params, structure
from irec_jax.training.device_put import place_batch
from irec_jax.training.distributed import is_first
from irec_jax.training.json_lines import loss_of, read_json_lines
from irec_jax.training.loss import token_loss
from irec_jax.training.sharding import batch_sharding
from irec_jax.training.step import NO_LORA

FILE = Path("metrics/validation.jsonl")


class Validation:
    """The mean loss of fixed batches, without dropout.

    Args:
        run: The run folder; losses are written to `metrics/validation.jsonl`.
        model: The shape of the model.
        batches: What the loss is of; on the host, as those of training.
        mesh: The devices.
        batch_size: Rows of each batch on all devices together.
        lora: How what is trained changes what is frozen; only read where something is.
    """

    def __init__(
        self,
        run: Path,
        model: T5Config,
        batches: Sequence[Batch],
        mesh: Mesh,
        batch_size: int,
        *,
        lora: LoraConfig = NO_LORA,
    ) -> None:
        self._path, self._batches, self._mesh = run / FILE, batches, mesh
        self._place = functools.partial(place_batch, batch_sharding(mesh), batch_size)
        net = structure(model)
        everywhere = NamedSharding(mesh, PartitionSpec())

        def sums(batch: Batch, params: Params, frozen: Params | None = None) -> Any:
            weights = params if frozen is None else merged(frozen, params, lora)
            return token_loss(net, weights, batch, None)

        self._sums: Any = jax.jit(sums, out_shardings=everywhere)
        self._losses: dict[int, float] = {}

    def resume(self, step: int) -> None:
        """Takes out what an earlier attempt wrote down after `step`."""
        losses = read_validation(self._path.parents[1])
        self._losses = {number: loss for number, loss in losses.items() if number <= step}
        self._write()

    def warm_up(self, params: Params, *frozen: Params) -> None:
        """Compiles what `loss` needs, so that no measurement compiles anything.

        Args:
            params: As for `loss`; only looked at.
            *frozen: As for `loss`.
        """
        with jax.set_mesh(self._mesh):
            rows = self._place(self._batches[0])
            self._sums = self._sums.lower(rows, params, *frozen).compile()

    def loss(self, step: int, params: Params, *frozen: Params) -> float:
        """Measures the mean loss per target token, in nats, and writes it down.

        Args:
            step: The number of steps done.
            params: What is trained, after them.
            *frozen: The weights that are not trained, where some are not.
        """
        with jax.set_mesh(self._mesh):
            # One after the other: the parts of all of them at once might not fit beside the state.
            sums = [
                jax.device_get(self._sums(self._place(batch), params, *frozen))
                for batch in self._batches
            ]
        total = math.fsum(float(loss) for loss, _ in sums)
        loss = total / max(math.fsum(float(weight) for _, weight in sums), 1.0)
        self._losses[step] = loss
        self._write()
        return loss

    def _write(self) -> None:
        if is_first() and self._losses:
            lines = [
                json.dumps({"step": step, "loss": loss if math.isfinite(loss) else None})
                for step, loss in self._losses.items()
            ]
            write_text(self._path, "".join(f"{line}\n" for line in lines))


def read_validation(run: Path) -> dict[int, float]:
    """The validation losses that a run has written down, by step; NaN where it had none."""
    return dict(read_json_lines(run / FILE, loss_of))
