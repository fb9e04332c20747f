"""The weights that a run does not train: written once, and joined with its adapters to answer."""

import functools
import shutil
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from orbax.checkpoint import v1 as ocp

from irec_jax.errors import InputError
from irec_jax.files import real_path
from irec_jax.model.lora import LoraConfig, first_adapters, frozen_part, merged
from irec_jax.model.params import Params
from irec_jax.training.checksums import sums_of
from irec_jax.training.distributed import first_line, gather, on_first
from irec_jax.training.orbax_io import load_about, load_trees, orbax_context, quiet_orbax
from irec_jax.training.sharding import state_shardings
from irec_jax.training.watchdog import is_peer_failure

FOLDER = "frozen"
NAME = "params"

ADAPTERS = 2
"""Folded into the seed's key for the first adapters; weights and dropout fold other numbers."""


def begin_adapters(base: Params, lora: LoraConfig, seed: int, shardings: Any) -> Params:
    """What is trained, before the first step, born in its places; the same on any mesh.

    Args:
        base: All the weights.
        lora: Which of them are trained, and how.
        seed: Decides the adapters.
        shardings: Of what is trained.
    """
    key = jax.random.fold_in(jax.random.key(seed), ADAPTERS)
    make = jax.jit(lambda weights: first_adapters(weights, lora, key), out_shardings=shardings)
    return make(base)


def save_frozen(run: Path, base: Params, lora: LoraConfig) -> Params:
    """Writes the weights that are not trained into a run, in place of those that are there.

    The folder appears under its name only when it is complete. Where a run has several
    processes, all call this, and each writes its parts.

    Args:
        run: The run folder.
        base: All the weights.
        lora: Which of them are trained.

    Returns:
        Those that were written.

    Raises:
        InputError: They could not be written.
    """
    path = _folder(run)
    frozen = frozen_part(base, lora)
    about = {"checksums": sums_of({NAME: frozen})}
    on_first(functools.partial(_clear, path))
    quiet_orbax()
    try:
        with orbax_context():
            ocp.save_checkpointables(str(path), {NAME: frozen, "about": about}, overwrite=True)
    except Exception as error:
        if is_peer_failure(error):
            raise
        hint = "See that the disk has room, then start again."
        what = f"the frozen weights could not be written ({first_line(error)})"
        raise InputError(what, where=str(path), hint=hint) from error
    return frozen


def load_frozen(run: Path, target: Params) -> Params:
    """Reads the weights that a run does not train. Of several processes all call this.

    Args:
        run: The run folder.
        target: `jax.ShapeDtypeStruct` leaves with the wanted shardings.

    Raises:
        InputError: They are not there, or damaged.
    """
    path = _folder(run)
    trouble, read, expected = "", {}, {}
    try:
        expected = load_about(path)["checksums"]
        read = load_trees(path, {NAME: target})
    except Exception as error:
        if is_peer_failure(error):
            raise
        trouble = first_line(error)
    troubles = [*filter(None, gather(trouble))]
    # Only now: the sums need all processes.
    if not troubles and sums_of(read)[NAME] != list(expected[NAME]):
        troubles = ["their bits are not those that were saved"]
    if troubles:
        what = f"the weights that the run does not train are damaged or gone ({troubles[0]})"
        hint = "Copy this folder again from where the run was tuned; else tune into a new folder."
        raise InputError(what, where=str(path), hint=hint)
    return read[NAME]


def with_frozen(run: Path, trained: Params, lora: LoraConfig, target: Params) -> Params:
    """The weights that a run answers with: its frozen ones with what it trained in them.

    Args:
        run: The run folder.
        trained: Adapters, and weights that were trained whole.
        lora: What `trained` is.
        target: All the weights as `jax.ShapeDtypeStruct` leaves with the wanted shardings.

    Raises:
        InputError: The frozen weights are not there, or damaged.
    """
    frozen = load_frozen(run, frozen_part(target, lora))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    join = functools.partial(merged, config=lora)
    # Donated, so that the model is there once.
    return jax.jit(join, out_shardings=shardings, donate_argnums=0)(frozen, trained)


def adapter_shardings(target: Params, adapters: Params) -> Any:
    """Where adapters live beside weights: on the same mesh, or on the same single device.

    Args:
        target: All the weights as `jax.ShapeDtypeStruct` leaves with shardings.
        adapters: What is trained, as shapes.
    """
    place = jax.tree.leaves(target)[0].sharding
    if isinstance(place, NamedSharding) and isinstance(place.mesh, Mesh):
        return state_shardings(place.mesh, adapters)
    return jax.tree.map(lambda _: place, adapters)


def _folder(run: Path) -> Path:
    return real_path(run) / FOLDER


def _clear(path: Path) -> None:
    """Takes away what a start that was killed has left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{FOLDER}.orbax-checkpoint-tmp*"):
        shutil.rmtree(left, ignore_errors=True)
