"""Checkpoints of the train state and the data position, saved together."""

import contextlib
import functools
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import flax.traverse_util
import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from irec_jax.errors import InputError
from irec_jax.files import real_path
from irec_jax.model.config import DEFAULT_MODEL
from irec_jax.model.lora import LoraConfig, abstract_adapters
from irec_jax.model.params import Params, abstract
from irec_jax.model.seq2seq import Seq2SeqConfig
from irec_jax.progress import print_status
from irec_jax.settings import from_json, to_json
from irec_jax.training.checksums import checksums, sums_of
from irec_jax.training.distributed import first_line, gather, on_first
from irec_jax.training.frozen import adapter_shardings, merge_with_frozen
from irec_jax.training.optimizer import find_average
from irec_jax.training.orbax_io import (
    load_about,
    load_checked,
    load_trees,
    orbax_context,
    quiet_orbax,
    why_unreadable,
)
from irec_jax.training.watchdog import is_peer_failure

FOLDER = "checkpoints"
AVERAGE = "average"
LOSS = "validation_loss"
_STEP = re.compile("0|[1-9][0-9]{0,18}")  # as a step is written, and not any digit of Unicode


class TrainState(NamedTuple):
    """The arrays that a step changes.

    Attributes:
        step: Int32 scalar, the number of steps done.
        params: The trained parameters.
        optimizer_state: The state of the Optax transformation.
    """

    step: jax.Array
    params: Params
    optimizer_state: Any


class Restored(NamedTuple):
    """A checkpoint in memory.

    Attributes:
        step: The number of steps done.
        state: The train state, with the shardings of the target.
        data: The data iterator's state after that step.
    """

    step: int
    state: TrainState
    data: Any


def model_fingerprint(config: Seq2SeqConfig) -> dict[str, Any]:
    """Return the settings that the weights depend on.

    Dropout, the dtype of activations and the like may differ between training and use.
    """
    free = ("dropout", "compute", "unroll_layers", "remat")
    return {key: value for key, value in to_json(config).items() if key not in free}


class Checkpoints:
    """The checkpoints of one run, in `RUN/checkpoints/STEP`.

    All processes call every method at the same step. Each writes and reads the shards of its
    devices.

    Args:
        run: The run folder.
        fingerprint: Settings that a checkpoint must share with this run to be resumed from, nested
            by name. They are saved in each checkpoint.
        keep: How many of the newest to keep.
        keep_best: How many of those with the lowest validation loss to keep in addition.
        warn: Called with a warning.
    """

    def __init__(
        self,
        run: Path,
        fingerprint: Mapping[str, Any],
        *,
        keep: int = 2,
        keep_best: int = 0,
        warn: Callable[[str], None] = print_status,
    ) -> None:
        self.folder = real_path(run) / FOLDER
        self._fingerprint = to_json(fingerprint)
        self._keep, self._keep_best = keep, keep_best
        self._warn = warn
        self._writer: ocp.training.Checkpointer | None = None

    def restore(self, target: TrainState) -> Restored | None:
        """Read the newest good checkpoint; damaged ones are renamed with a warning.

        Args:
            target: The state as `jax.ShapeDtypeStruct` leaves with shardings, which may be those
                of another mesh than the one that saved it.

        Returns:
            The checkpoint, or None if this run has none yet.

        Raises:
            InputError: A checkpoint is of another config, all are damaged, or the newest cannot be
                read although it is not damaged.
        """
        # What process 0 sees counts: a shared disk may show a new folder to some before others.
        steps: list[int] = json.loads(gather(json.dumps(saved_steps(self.folder)))[0])
        for step in steps:
            read, trouble, unreadable = None, "", ""
            try:
                read = self._read(step, target)
            except InputError:
                raise
            except Exception as error:
                trouble, unreadable = first_line(error), why_unreadable(error)
            for why in filter(None, gather(unreadable)):
                raise _unreadable(self.folder / str(step), why)
            troubles = gather(trouble)
            if read is not None and not any(troubles):
                arrays, data, expected = read
                # Only now: the sums need all processes.
                if sums_of(arrays) == {name: expected[name] for name in arrays}:
                    place = target.step.sharding
                    count = jax.make_array_from_callback((), place, lambda _, n=step: np.int32(n))
                    state = TrainState(count, arrays["params"], arrays["optimizer"])
                    return Restored(step, state, data)
                troubles = ["its checksum is wrong"]
            read = None
            on_first(functools.partial(self._rename_damaged, step, next(filter(None, troubles))))
        if steps:
            raise _all_damaged(self.folder)
        return None

    def _read(self, step: int, target: TrainState) -> tuple[dict[str, Any], Any, dict[str, Any]]:
        path = self.folder / str(step)
        about = load_about(path)
        _compare(self._fingerprint, about["fingerprint"], path)
        arrays = {"params": target.params, "optimizer": target.optimizer_state}
        return (
            load_trees(path, arrays),
            load_trees(path, {"data": None})["data"],
            about["checksums"],
        )

    def _rename_damaged(self, step: int, reason: str) -> None:
        path, renamed = self.folder / str(step), _unused_name(self.folder / f"{step}.damaged")
        self._warn(f"checkpoint {path} is damaged ({reason}); it is now {renamed.name}")
        os.replace(path, renamed)

    def save(
        self, step: int, state: TrainState, data: Any, *, validation_loss: float | None = None
    ) -> None:
        """Start to save; the state may be donated at once, a copy is written in the background.

        The folder appears under its name only when it is complete. An error while writing is
        raised by the next `save` or by `close`.

        Args:
            step: The number of steps done.
            state: The train state after them.
            data: The data iterator's state after them, a JSON value.
            validation_loss: The loss that the best are chosen by; None if it was not measured.

        Raises:
            InputError: This or the previous checkpoint could not be written.
        """
        arrays = {"params": state.params, "optimizer": state.optimizer_state}
        average = find_average(state.optimizer_state)
        if average is not None:
            # Under its own name, so that it is loaded without the optimizer.
            arrays[AVERAGE] = average
        about = {"step": step, "fingerprint": self._fingerprint, "checksums": sums_of(arrays)}
        has_loss = validation_loss is not None and math.isfinite(validation_loss)
        try:
            self._open().save_checkpointables_async(
                step,
                {**arrays, "about": about, "data": data},
                force=True,
                overwrite=True,
                metrics={LOSS: validation_loss} if has_loss else None,
            )
        except Exception as error:
            if is_peer_failure(error):
                raise
            raise self._write_error(error) from error

    def warm_up(self, state: TrainState) -> None:
        """Compile the checksums, so that the first save compiles nothing."""
        jax.block_until_ready([checksums(state.params), checksums(state.optimizer_state)])

    def close(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            InputError: The last checkpoint could not be written.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except Exception as error:
                if is_peer_failure(error):
                    raise
                raise self._write_error(error) from error

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Close at the end of a `with` block, except after a peer failure."""
        try:
            yield
        except BaseException as error:
            if not is_peer_failure(error):
                self.close()
            raise
        self.close()

    def _open(self) -> ocp.training.Checkpointer:
        if self._writer is None:
            quiet_orbax()
            policies = ocp.training.preservation_policies
            preserved: list[Any] = [policies.LatestN(self._keep)]
            if self._keep_best:
                best = policies.BestN(
                    get_metric_fn=lambda metrics: metrics[LOSS],
                    reverse=True,  # the last of the order are kept: the lowest losses
                    n=self._keep_best,
                    keep_checkpoints_without_metrics=False,
                )
                preserved.append(best)
            self._writer = ocp.training.Checkpointer(
                str(self.folder),
                context=orbax_context(),
                preservation_policy=cast(Any, policies.AnyPreservationPolicy(preserved)),
                cleanup_tmp_directories=True,
            )
        return self._writer

    def _write_error(self, error: Exception) -> InputError:
        problem = f"the checkpoint could not be written ({first_line(error)})"
        hint = "Check that the disk has room, then start again from the previous checkpoint."
        return InputError(problem, where=str(self.folder), hint=hint)


def saved_steps(folder: Path) -> list[int]:
    """Return the steps that have a finished checkpoint in `folder`, newest first."""
    if not folder.is_dir():
        return []
    return sorted(
        (int(path.name) for path in folder.iterdir() if _STEP.fullmatch(path.name)), reverse=True
    )


def has_started(run: Path) -> bool:
    """Whether a run has a checkpoint, be it a damaged one: its settings are decided then."""
    folder = run / FOLDER
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return any(_STEP.fullmatch(name.partition(".damaged")[0]) for name in names)


def load_params(
    run: Path, config: Seq2SeqConfig, step: int | None = None, *, shardings: Any = None
) -> Params:
    """Load the weights of a run for evaluation and serving; all processes call this.

    They are the running average if the run has one. The weights of a LoRA run have the adapters
    merged.

    Args:
        run: The run folder.
        config: The model's config, which must match the checkpoint's.
        step: The step of the checkpoint; None for the newest good one.
        shardings: A tree of shardings for the weights; None puts them on the default device.

    Raises:
        InputError: There is no such checkpoint, it is of another model, it is damaged, or it
            cannot be read.
    """
    folder = real_path(run) / FOLDER
    steps = saved_steps(folder) if step is None else [step]
    if not steps or not (folder / str(steps[0])).is_dir():
        have = ", ".join(map(str, saved_steps(folder))) or "none"
        missing = "no checkpoint" if step is None else f"no checkpoint of step {step}"
        hint = f"Run `irec tune` first. Steps with a checkpoint: {have}."
        raise InputError(missing, where=str(folder), hint=hint)
    shapes = abstract(config)
    if shardings is None:
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shardings = jax.tree.map(lambda _: device, shapes)
    target = with_shardings(shapes, shardings)
    for number in steps:
        path = folder / str(number)
        try:
            about = load_about(path)
            model = about["fingerprint"].get("model", {})
            _compare({"model": model_fingerprint(config)}, {"model": model}, path)
            lora = from_json(LoraConfig, about["fingerprint"].get("lora", {}), where=str(path))
            name = AVERAGE if AVERAGE in about["checksums"] else "params"
            saved = target
            if lora.rank:
                adapters = abstract_adapters(shapes, lora)
                saved = with_shardings(adapters, adapter_shardings(target, adapters))
            trained = load_checked(path, {name: saved}, about["checksums"])[name]
            return merge_with_frozen(run, trained, lora, target) if lora.rank else trained
        except InputError:
            raise
        except Exception as error:
            if why := why_unreadable(error):
                raise _unreadable(path, why) from error
            print_status(f"checkpoint {path} is damaged ({first_line(error)})")
    raise _all_damaged(folder)


def with_shardings(shapes: Any, shardings: Any) -> Any:
    """Return a tree of `jax.ShapeDtypeStruct` with the shapes and the shardings of two trees."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def _compare(now: Mapping[str, Any], then: Mapping[str, Any], path: Path) -> None:
    """Raise an `InputError` that names each setting that differs.

    A checkpoint may be older than a setting of the model; it was made with the setting's default,
    which `DEFAULT_MODEL` has.
    """
    ours, theirs = _flatten(now), _flatten(then)
    for key, value in _flatten({"model": model_fingerprint(DEFAULT_MODEL)}).items():
        if key in ours:
            theirs.setdefault(key, value)
    absent = "nothing"
    differing = [
        f"{key} is {theirs.get(key, absent)!r} in the checkpoint and {ours.get(key, absent)!r} now"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key, absent) != theirs.get(key, absent)
    ]
    if differing:
        problem = f"a checkpoint of another config: {'; '.join(differing)}"
        hint = "Change these settings back, or tune into another run folder."
        raise InputError(problem, where=str(path), hint=hint)


def _flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves of nested settings by their dotted names, as JSON returns them."""
    return flax.traverse_util.flatten_dict(json.loads(json.dumps(settings)), sep=".")


def _unused_name(path: Path) -> Path:
    """Return `path`, with the first unused number from 2 appended if it exists."""
    numbers = itertools.count(2)
    unused = path
    while unused.exists():
        unused = path.with_name(f"{path.name}{next(numbers)}")
    return unused


def _all_damaged(folder: Path) -> InputError:
    hint = "Move the folder away to start from the beginning."
    return InputError("every checkpoint is damaged", where=str(folder), hint=hint)


def _unreadable(path: Path, why: str) -> InputError:
    hint = "See that this user may read it and that its disk answers, then start again."
    return InputError(f"the checkpoint cannot be read ({why})", where=str(path), hint=hint)
