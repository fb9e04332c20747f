"""Frozen weights of a LoRA run: written once, and merged with its adapters when loaded."""

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
"""Folded into the seed's key for the initial adapters; weights and dropout fold other numbers."""


def init_adapters(base: Params, lora: LoraConfig, seed: int, shardings: Any) -> Params:
    """Initialize the trained parameters, sharded; the same values on any mesh.

    Args:
        base: All weights of the model.
        lora: The adapters.
        seed: The seed of the adapters.
        shardings: The shardings of the trained parameters.
    """
    key = jax.random.fold_in(jax.random.key(seed), ADAPTERS)
    make = jax.jit(lambda weights: first_adapters(weights, lora, key), out_shardings=shardings)
    return make(base)


def save_frozen(run: Path, base: Params, lora: LoraConfig) -> Params:
    """Write the frozen weights into a run, in place of those that are there.

    The folder appears under its name only when it is complete. All processes call this, and each
    writes its shards.

    Args:
        run: The run folder.
        base: All weights of the model.
        lora: The adapters.

    Returns:
        The frozen weights.

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
        problem = f"the frozen weights could not be written ({first_line(error)})"
        hint = "Check that the disk has room, then start again."
        raise InputError(problem, where=str(path), hint=hint) from error
    return frozen


def load_frozen(run: Path, target: Params) -> Params:
    """Read the frozen weights of a run; all processes call this.

    Args:
        run: The run folder.
        target: The frozen weights as `jax.ShapeDtypeStruct` leaves with shardings.

    Raises:
        InputError: They are missing or damaged.
    """
    path = _folder(run)
    failure, weights, expected = "", {}, {}
    try:
        expected = load_about(path)["checksums"]
        weights = load_trees(path, {NAME: target})
    except Exception as error:
        if is_peer_failure(error):
            raise
        failure = first_line(error)
    failures = [*filter(None, gather(failure))]
    # Only now: the checksums need all processes.
    if not failures and sums_of(weights)[NAME] != list(expected[NAME]):
        failures = ["the checksum is wrong"]
    if failures:
        problem = f"the frozen weights are damaged or missing ({failures[0]})"
        hint = "Copy this folder again from where the run was tuned, or tune into a new folder."
        raise InputError(problem, where=str(path), hint=hint)
    return weights[NAME]


def merge_with_frozen(run: Path, trained: Params, lora: LoraConfig, target: Params) -> Params:
    """Return all weights of the model: the run's frozen ones with the trained ones merged in.

    Args:
        run: The run folder.
        trained: Adapters, and weights that were trained whole.
        lora: The adapters' config.
        target: All weights as `jax.ShapeDtypeStruct` leaves with shardings.

    Raises:
        InputError: The frozen weights are missing or damaged.
    """
    frozen = load_frozen(run, frozen_part(target, lora))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    join = functools.partial(merged, config=lora)
    # Donated, so that the model is in memory once.
    return jax.jit(join, out_shardings=shardings, donate_argnums=0)(frozen, trained)


def adapter_shardings(target: Params, adapters: Params) -> Any:
    """Return the shardings of adapters on the mesh, or the single device, of their weights.

    Args:
        target: All weights as `jax.ShapeDtypeStruct` leaves with shardings.
        adapters: The trained parameters, as shapes.
    """
    sharding = jax.tree.leaves(target)[0].sharding
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
        return state_shardings(sharding.mesh, adapters)
    return jax.tree.map(lambda _: sharding, adapters)


def _folder(run: Path) -> Path:
    return real_path(run) / FOLDER


def _clear(path: Path) -> None:
    """Remove the unfinished folders of attempts that were killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for unfinished in path.parent.glob(f"{FOLDER}.orbax-checkpoint-tmp*"):
        shutil.rmtree(unfinished, ignore_errors=True)
