"""Validation loss, by which the best checkpoints are chosen."""

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
from irec_jax.model.lora import NO_LORA, LoraConfig, merged
from irec_jax.model.params import Params, structure
from irec_jax.model.seq2seq import Seq2SeqConfig
from irec_jax.training.device_put import place_batch
from irec_jax.training.distributed import is_first
from irec_jax.training.json_lines import loss_of, read_json_lines
from irec_jax.training.loss import token_loss
from irec_jax.training.sharding import batch_sharding

FILE = Path("metrics/validation.jsonl")


class Validation:
    """The mean loss of fixed batches, without dropout.

    Args:
        run: The run folder; losses are written to `metrics/validation.jsonl`.
        model: The model's config.
        batches: Batches on the host, as those of training.
        mesh: The devices.
        batch_size: Rows of each batch on all devices together.
        lora: The adapters; used only if weights are frozen.
    """

    def __init__(
        self,
        run: Path,
        model: Seq2SeqConfig,
        batches: Sequence[Batch],
        mesh: Mesh,
        batch_size: int,
        *,
        lora: LoraConfig = NO_LORA,
    ) -> None:
        self._path, self._batches, self._mesh = run / FILE, batches, mesh
        self._put_batch = functools.partial(place_batch, batch_sharding(mesh), batch_size)
        net = structure(model)
        replicated = NamedSharding(mesh, PartitionSpec())

        def sums(batch: Batch, params: Params, frozen: Params | None = None) -> Any:
            weights = params if frozen is None else merged(frozen, params, lora)
            return token_loss(net, weights, batch, None)

        self._sums: Any = jax.jit(sums, out_shardings=replicated)
        self._losses: dict[int, float] = {}

    def resume(self, step: int) -> None:
        """Remove the losses that an earlier attempt wrote after `step`."""
        losses = read_validation(self._path.parents[1])
        self._losses = {number: loss for number, loss in losses.items() if number <= step}
        self._write()

    def warm_up(self, params: Params, *frozen: Params) -> None:
        """Compile the loss, so that `loss` compiles nothing.

        Args:
            params: As for `loss`; only shapes and shardings are read.
            *frozen: As for `loss`.
        """
        with jax.set_mesh(self._mesh):
            rows = self._put_batch(self._batches[0])
            self._sums = self._sums.lower(rows, params, *frozen).compile()

    def loss(self, step: int, params: Params, *frozen: Params) -> float:
        """Compute the mean loss per target token and write it to the file.

        Args:
            step: Steps done.
            params: The trained parameters after them.
            *frozen: The frozen weights with LoRA, else nothing.

        Returns:
            The loss in nats.
        """
        with jax.set_mesh(self._mesh):
            # One batch at a time: the activations of all might not fit beside the state.
            sums = [
                jax.device_get(self._sums(self._put_batch(batch), params, *frozen))
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
    """Return the validation losses of a run by step; NaN where a loss was not finite."""
    return dict(read_json_lines(run / FILE, loss_of))
