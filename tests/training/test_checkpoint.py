"""Checkpoints: complete or absent, refused for another config, readable on any mesh."""

import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irec_jax.errors import InputError
from irec_jax.model.params import initialize
from irec_jax.training.checkpoint import (
    Checkpoints,
    TrainState,
    load_params,
    model_fingerprint,
    saved_steps,
    with_shardings,
)
from irec_jax.training.checksums import jit_checksums
from irec_jax.training.optimizer import OptimizerConfig, make_optimizer
from irec_jax.training.sharding import MeshConfig, make_mesh, state_shardings

from . import a_restore

# A failed read leaves coroutines of Orbax behind that are never awaited.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collect_coroutines() -> Iterator[None]:
    yield
    gc.collect()


FINGERPRINT = {"model": {"width": 16}, "tokens": {"index": "atomic"}}


@pytest.fixture(scope="module")
def state(tiny) -> TrainState:
    params = initialize(tiny, jax.random.key(3))
    optimizer_state = make_optimizer(OptimizerConfig(kind="adamw"), 10).init(params)
    return TrainState(jnp.asarray(0, jnp.int32), params, optimizer_state)


def target(state: TrainState, **mesh: int) -> TrainState:
    devices = jax.devices()[: int(np.prod(list(mesh.values() or [1])))]
    shardings = state_shardings(make_mesh(MeshConfig(**mesh), devices), state, state.params)
    return with_shardings(state, shardings)


def save(run: Path, state: TrainState, *steps: int, fingerprint: dict = FINGERPRINT, keep: int = 9):
    checkpoints = Checkpoints(run, fingerprint, keep=keep)
    for step in steps:
        params = jax.tree.map(lambda leaf, step=step: leaf + step, state.params)
        checkpoints.save(step, state._replace(params=params), {"next": step, "at": [1, None]})
    checkpoints.close()


def save_with_losses(run: Path, state: TrainState, losses: dict[int, float | None]):
    checkpoints = Checkpoints(run, FINGERPRINT, keep=1, keep_best=2)
    for step, loss in losses.items():
        checkpoints.save(step, state, {}, validation_loss=loss)
    checkpoints.close()


def data_files(folder: Path) -> list[Path]:
    """Return the files with array data."""
    return [path for path in folder.rglob("ocdbt.process_0/d/*") if path.stat().st_size > 1000]


def test_state_and_data_position_come_back_on_another_mesh(tmp_path, state):
    save(tmp_path, state, 7)
    sharded = target(state, data=2, fsdp=2, tensor=2)
    restored = Checkpoints(tmp_path, FINGERPRINT).restore(sharded)
    assert (restored.step, restored.state.step, restored.data) == (
        7,
        7,
        {"next": 7, "at": [1, None]},
    )
    jax.tree.map(
        lambda got, leaf: np.testing.assert_array_equal(got, leaf + 7),
        restored.state.params,
        state.params,
    )
    assert restored.state.params["head"].sharding == sharded.params["head"].sharding


def test_the_newest_are_kept_and_an_empty_run_restores_nothing(tmp_path, state):
    assert Checkpoints(tmp_path, FINGERPRINT).restore(target(state)) is None
    save(tmp_path, state, 1, 2, 3, keep=2)
    assert saved_steps(tmp_path / "checkpoints") == [3, 2]


def test_the_best_are_kept_in_addition_to_the_newest_over_restarts(tmp_path, state):
    folder = tmp_path / "checkpoints"
    save_with_losses(tmp_path, state, {1: 3.0, 2: 2.0, 3: None, 4: 2.5})
    assert saved_steps(folder) == [4, 2]
    save_with_losses(tmp_path, state, {5: 2.2, 6: float("nan")})
    assert saved_steps(folder) == [6, 5, 2]
    save_with_losses(tmp_path, state, {7: 1.0, 8: 1.5, 9: None})
    assert saved_steps(folder) == [9, 8, 7]


def test_a_restored_state_needs_little_more_memory_than_its_size(tmp_path):
    rows = 3_000
    leaves = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(leaf.shape[0]), leaf.shape),
        a_restore.state(rows).params,
    )
    large = TrainState(jnp.asarray(0, jnp.int32), leaves, (leaves, leaves))
    save(tmp_path, large, 1, fingerprint={})
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(large)) / 2**20
    folder = Path(a_restore.__file__).parents[2]
    command = [sys.executable, a_restore.__file__, str(tmp_path), str(rows)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    step, before, peak = map(float, process.stdout.split())
    assert step == 1
    assert peak - before < 1.3 * size + 150, (size, before, peak)


def test_a_checkpoint_older_than_a_setting_counts_as_made_with_its_default(tmp_path, state, tiny):
    now = {"model": model_fingerprint(tiny)}
    before = {"model": {key: value for key, value in now["model"].items() if key != "family"}}
    save(tmp_path, state, 1, fingerprint=before)
    restored = Checkpoints(tmp_path, now).restore(target(state))
    assert restored is not None
    jax.tree.map(np.testing.assert_array_equal, load_params(tmp_path, tiny), restored.state.params)
    other = {"model": {**now["model"], "family": "umt5"}}
    with pytest.raises(InputError, match=r"model\.family is 't5' in the checkpoint"):
        Checkpoints(tmp_path, other).restore(target(state))


def test_the_checksums_gather_no_array(state):
    sharded = target(state, data=2, fsdp=2, tensor=2)
    leaves = jax.tree.leaves(sharded.params)
    program = jit_checksums(leaves).lower(leaves, np.uint32(0)).compile().as_text()
    assert "all-reduce" in program
    assert "all-gather" not in program


def test_the_next_step_may_be_donated_the_state_while_it_is_saved(tmp_path):
    add_one = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    state = TrainState(jnp.asarray(0), {"embedding": jnp.zeros((2000, 1000))}, jnp.zeros(1))
    checkpoints = Checkpoints(tmp_path, FINGERPRINT)
    state = add_one(state)
    expected = with_shardings(state, jax.tree.map(lambda leaf: leaf.sharding, state))
    checkpoints.save(1, state, {})
    for _ in range(5):
        state = add_one(state)
    checkpoints.close()
    restored = Checkpoints(tmp_path, FINGERPRINT).restore(expected)
    assert restored.state.params["embedding"].min() == restored.state.params["embedding"].max() == 1


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model": {"width": 32}, "tokens": {"index": "atomic"}}, r"model\.width is 16 .* 32 now"),
        ({"model": {"width": 16}, "tokens": {"index": "title"}}, r"index is 'atomic' .* 'title'"),
        ({"model": {"width": 16}}, r"index is 'atomic' in the checkpoint and 'nothing' now"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_config_is_refused_and_not_deleted(tmp_path, state, other, message):
    save(tmp_path, state, 4)
    with pytest.raises(InputError, match=message):
        Checkpoints(tmp_path, other).restore(target(state))
    assert saved_steps(tmp_path / "checkpoints") == [4]


def flip_a_bit(folder: Path) -> None:
    (path,) = data_files(folder / "params")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def truncate(folder: Path) -> None:
    (path,) = data_files(folder / "params")
    path.write_bytes(path.read_bytes()[:100])


def delete_the_optimizer(folder: Path) -> None:
    (folder / "optimizer" / "manifest.ocdbt").unlink()


def delete_the_position(folder: Path) -> None:
    (folder / "data" / "data.json").unlink()


def corrupt_the_description(folder: Path) -> None:
    (folder / "about" / "data.json").write_text("{")


DAMAGES = [flip_a_bit, truncate, delete_the_optimizer, delete_the_position, corrupt_the_description]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_renamed_with_a_warning(tmp_path, state, damage):
    save(tmp_path, state, 5, 6)
    damage(tmp_path / "checkpoints" / "6")
    warnings = []
    restored = Checkpoints(tmp_path, FINGERPRINT, warn=warnings.append).restore(target(state))
    assert restored.step == 5
    assert len(warnings) == 1
    assert "6 is damaged" in warnings[0]
    assert (tmp_path / "checkpoints" / "6.damaged").is_dir()
    save(tmp_path, state, 6)
    assert Checkpoints(tmp_path, FINGERPRINT).restore(target(state)).step == 6


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_over(tmp_path, state):
    save(tmp_path, state, 5)
    truncate(tmp_path / "checkpoints" / "5")
    with pytest.raises(InputError, match="every checkpoint is damaged"):
        Checkpoints(tmp_path, FINGERPRINT, warn=lambda _: None).restore(target(state))


def test_an_unfinished_checkpoint_is_ignored(tmp_path, state):
    save(tmp_path, state, 5)
    unfinished = tmp_path / "checkpoints" / "6.orbax-checkpoint-tmp"
    unfinished.mkdir()
    assert Checkpoints(tmp_path, FINGERPRINT).restore(target(state)).step == 5


def test_a_full_disk_is_reported_and_the_previous_checkpoint_stays(tmp_path, state):
    save(tmp_path, state, 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        with pytest.raises(InputError, match="could not be written"):
            save(tmp_path, state, 6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Checkpoints(tmp_path, FINGERPRINT).restore(target(state)).step == 5


def test_weights_are_loaded_without_the_optimizer(tmp_path, state, tiny):
    save(tmp_path, state, 5, 6, fingerprint={"model": model_fingerprint(tiny)})
    for step in (5, 6):
        for path in data_files(tmp_path / "checkpoints" / str(step) / "optimizer"):
            os.remove(path)
    newest, older = load_params(tmp_path, tiny), load_params(tmp_path, tiny, 5)
    np.testing.assert_array_equal(newest["head"], state.params["head"] + 6)
    np.testing.assert_array_equal(older["head"], state.params["head"] + 5)


def test_missing_weights_and_those_of_another_model_are_reported(tmp_path, state, tiny):
    with pytest.raises(InputError, match="no checkpoint"):
        load_params(tmp_path, tiny)
    other = {**model_fingerprint(tiny), "heads": 4}
    save(tmp_path, state, 5, fingerprint={"model": other})
    with pytest.raises(InputError, match=r"model\.heads is 4"):
        load_params(tmp_path, tiny)
    with pytest.raises(InputError, match=r"no checkpoint of step 9[^$]*: 5"):
        load_params(tmp_path, tiny, 9)


def test_the_description_is_plain_json(tmp_path, state):
    save(tmp_path, state, 5)
    about = json.loads((tmp_path / "checkpoints" / "5" / "about" / "data.json").read_text())
    assert (about["step"], about["fingerprint"]) == (5, FINGERPRINT)
