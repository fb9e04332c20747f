"""Checkpoints: the train state and the data position, saved together or not at all."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32
from orbax.checkpoint import v1 as ocp

from irec_jax.errors import InputError
from irec_jax.model.config import T5Config
from irec_jax.model.params import Params, abstract
from irec_jax.progress import say
from irec_jax.settings import to_json

FOLDER = "checkpoints"


class TrainState(NamedTuple):
    """All that changes from step to step, apart from the data position.

    Attributes:
        step: Int32 scalar, the number of steps done.
        params: The weights.
        optimizer_state: What the optimizer remembers.
    """

    step: jax.Array
    params: Params
    optimizer_state: Any


class Restored(NamedTuple):
    """A checkpoint in memory.

    Attributes:
        step: The number of steps done.
        state: The train state, placed as it was asked for.
        data: The data iterator's state after that step.
    """

    step: int
    state: TrainState
    data: Any


def model_fingerprint(config: T5Config) -> dict[str, Any]:
    """The settings that decide the arrays of the weights and what they mean.

    Dropout and the dtype of activations may differ between training and use.
    """
    free = ("dropout", "compute", "unroll_layers", "remat")
    return {key: value for key, value in to_json(config).items() if key not in free}


class Checkpoints:
    """The checkpoints of one run, in `RUN/checkpoints/STEP`.

    Args:
        run: The run folder.
        fingerprint: What a checkpoint must agree on with this run to be resumed from; settings by
            name, nested. It is saved in each checkpoint.
        keep: How many of the newest to keep.
        warn: What to call with a warning.
    """

    def __init__(
        self,
        run: Path,
        fingerprint: Mapping[str, Any],
        *,
        keep: int = 2,
        warn: Callable[[str], None] = say,
    ) -> None:
        self.folder = run.resolve() / FOLDER
        self._fingerprint = to_json(fingerprint)
        self._keep = keep
        self._warn = warn
        self._writer: ocp.training.Checkpointer | None = None

    def restore(self, target: TrainState) -> Restored | None:
        """Reads the newest good checkpoint; damaged ones are set aside with a warning.

        Args:
            target: The state as `jax.ShapeDtypeStruct` leaves with the wanted shardings, which
                may be those of another mesh than the one that saved it.

        Returns:
            The checkpoint, or None if this run has none yet.

        Raises:
            InputError: When a checkpoint is of another config, or all are damaged.
        """
        steps = saved_steps(self.folder)
        for step in steps:
            path = self.folder / str(step)
            try:
                about = _read_about(path)
                _compare(self._fingerprint, about["fingerprint"], path)
                wanted = {"params": target.params, "optimizer": target.optimizer_state}
                arrays = _read_arrays(path, wanted, about["checksums"])
                data = _load(path, {"data": None})["data"]
            except InputError:
                raise
            except Exception as error:
                aside = path.with_name(f"{step}.damaged")
                self._warn(
                    f"checkpoint {path} is damaged ({_first_line(error)}); it is now {aside.name}"
                )
                _set_aside(path, aside)
                continue
            count = jax.device_put(jnp.asarray(step, jnp.int32), target.step.sharding)
            return Restored(step, TrainState(count, arrays["params"], arrays["optimizer"]), data)
        if steps:
            raise _all_damaged(self.folder)
        return None

    def save(self, step: int, state: TrainState, data: Any) -> None:
        """Starts to save; the state may be changed at once, a copy is written in the background.

        The folder appears under its name only when it is complete. An error while writing is
        raised by the next `save` or by `close`.

        Args:
            step: The number of steps done.
            state: The train state after them.
            data: The data iterator's state after them, anything JSON can hold.

        Raises:
            InputError: When this or the save before could not be written.
        """
        arrays = {"params": state.params, "optimizer": state.optimizer_state}
        sums = {name: jax.device_get(checksums(tree)).tolist() for name, tree in arrays.items()}
        about = {"step": step, "fingerprint": self._fingerprint, "checksums": sums}
        try:
            self._open().save_checkpointables_async(
                step, {**arrays, "about": about, "data": data}, force=True, overwrite=True
            )
        except Exception as error:
            raise self._unwritten(error) from error

    def warm_up(self, state: TrainState) -> None:
        """Compiles what saving needs, so that the first save compiles nothing."""
        jax.block_until_ready([checksums(state.params), checksums(state.optimizer_state)])

    def close(self) -> None:
        """Waits until everything is on disk.

        Raises:
            InputError: When the last save could not be written.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except Exception as error:
                raise self._unwritten(error) from error

    def _open(self) -> ocp.training.Checkpointer:
        if self._writer is None:
            _quiet()
            newest = ocp.training.preservation_policies.LatestN(self._keep)
            self._writer = ocp.training.Checkpointer(
                str(self.folder),
                context=_context(),
                preservation_policy=newest,  # pyright: ignore[reportArgumentType]
                cleanup_tmp_directories=True,
            )
        return self._writer

    def _unwritten(self, error: Exception) -> InputError:
        mend = "See that the disk has room, then start again; the checkpoint before is whole."
        what = f"the checkpoint could not be written ({_first_line(error)})"
        return InputError(what, where=str(self.folder), mend=mend)


def saved_steps(folder: Path) -> list[int]:
    """The steps that have a finished checkpoint in `folder`, newest first."""
    if not folder.is_dir():
        return []
    return sorted(
        (int(path.name) for path in folder.iterdir() if path.name.isdigit()), reverse=True
    )


def load_params(
    run: Path, config: T5Config, step: int | None = None, *, shardings: Any = None
) -> Params:
    """Reads the weights of a run without its optimizer.

    Args:
        run: The run folder.
        config: The model's shape, which must be the checkpoint's.
        step: Which checkpoint; None for the newest good one.
        shardings: A tree of shardings for the weights; None puts them on the default device.

    Raises:
        InputError: When there is no such checkpoint, it is of another model, or it is damaged.
    """
    folder = run.resolve() / FOLDER
    steps = saved_steps(folder) if step is None else [step]
    if not steps or not (folder / str(steps[0])).is_dir():
        have = ", ".join(map(str, saved_steps(folder))) or "none"
        missing = "no checkpoint" if step is None else f"no checkpoint of step {step}"
        mend = f"Tune first (irec tune). Steps with a checkpoint: {have}."
        raise InputError(missing, where=str(folder), mend=mend)
    shapes = abstract(config)
    if shardings is None:
        one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shardings = jax.tree.map(lambda _: one, shapes)
    wanted = {"params": with_shardings(shapes, shardings)}
    for number in steps:
        path = folder / str(number)
        try:
            about = _read_about(path)
            model = about["fingerprint"].get("model", {})
            _compare({"model": model_fingerprint(config)}, {"model": model}, path)
            return _read_arrays(path, wanted, about["checksums"])["params"]
        except InputError:
            raise
        except Exception as error:
            say(f"checkpoint {path} is damaged ({_first_line(error)})")
    raise _all_damaged(folder)


def with_shardings(shapes: Any, shardings: Any) -> Any:
    """Joins a tree of shapes and a tree of shardings into one abstract target."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        shardings,
    )


@jax.jit
def checksums(tree: Any) -> UInt32[Array, " leaves"]:
    """A 32-bit sum of each leaf's bits, each weighted by its place.

    Orbax finds a missing or cut file, but gives a flipped bit back as a weight without a word
    (docs/decisions/0052-checkpoint-checksums.md). Sums of integers do not depend on their order,
    so they agree on any mesh.
    """
    sums = [_checksum(leaf) for leaf in jax.tree.leaves(tree)]
    return jnp.stack(sums) if sums else jnp.zeros((0,), jnp.uint32)


def _checksum(leaf: Array) -> UInt32[Array, ""]:
    word = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(leaf, word).astype(jnp.uint32)
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for axis in range(leaf.ndim):
        step = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        place = place * jnp.uint32(0x01000193) + step
    # An odd weight keeps every bit of the word in the sum.
    return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)


def _read_about(path: Path) -> dict[str, Any]:
    return _load(path, {"about": None})["about"]


def _read_arrays(
    path: Path, wanted: dict[str, Any], expected: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """Reads trees of arrays and checks their sums."""
    arrays = _load(path, wanted)
    for name, tree in arrays.items():
        if jax.device_get(checksums(tree)).tolist() != list(expected[name]):
            raise ValueError(f"the bits of {name} are not those that were saved")
    return arrays


def _load(path: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    _quiet()
    with _context():
        return ocp.load_checkpointables(str(path), wanted)


def _context() -> ocp.Context:
    """An Orbax context that writes `about` and `data` as JSON that people can read."""
    registry = ocp.handlers.local_registry()
    for name in ("about", "data"):
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
    context = ocp.Context()
    context.checkpointables.registry = registry
    return context


def _quiet() -> None:
    """Orbax logs each array at the level of warnings and information; errors are raised anyway."""
    logging.getLogger("absl").setLevel(logging.ERROR)


def _compare(now: Mapping[str, Any], then: Mapping[str, Any], path: Path) -> None:
    """Raises an `InputError` that names each setting that differs."""
    ours, theirs = dict(_flatten(now)), dict(_flatten(then))
    absent = "nothing"
    differing = [
        f"{key} is {theirs.get(key, absent)!r} in the checkpoint and {ours.get(key, absent)!r} now"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key, absent) != theirs.get(key, absent)
    ]
    if differing:
        mend = "Set them back, or tune into another run folder."
        what = f"a checkpoint of another config: {'; '.join(differing)}"
        raise InputError(what, where=str(path), mend=mend)


def _flatten(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, json.loads(json.dumps(settings))


def _set_aside(path: Path, aside: Path) -> None:
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged{number}")
    os.replace(path, aside)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _all_damaged(folder: Path) -> InputError:
    mend = "Move the folder away to start from the beginning."
    return InputError("every checkpoint is damaged", where=str(folder), mend=mend)
