"""Checkpoints: whole or not there, of this config or refused, readable on any mesh."""

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
from irec_jax.training.checksums import summing
from irec_jax.training.optimizer import OptimizerConfig, make_optimizer
from irec_jax.training.sharding import MeshConfig, make_mesh, state_shardings

from . import a_restore

# A failed read leaves coroutines of Orbax behind that nobody waits for.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collect_coroutines_here() -> Iterator[None]:
    yield
    gc.collect()


PRINT = {"model": {"width": 16}, "tokens": {"index": "atomic"}}


@pytest.fixture(scope="module")
def state(tiny) -> TrainState:
    params = initialize(tiny, jax.random.key(3))
    optimizer_state = make_optimizer(OptimizerConfig(kind="adamw"), 10).init(params)
    return TrainState(jnp.asarray(0, jnp.int32), params, optimizer_state)


def target(state: TrainState, **mesh: int) -> TrainState:
    devices = jax.devices()[: int(np.prod(list(mesh.values() or [1])))]
    shardings = state_shardings(make_mesh(MeshConfig(**mesh), devices), state, state.params)
    return with_shardings(state, shardings)


def save(run: Path, state: TrainState, *steps: int, fingerprint: dict = PRINT, keep: int = 9):
    checkpoints = Checkpoints(run, fingerprint, keep=keep)
    for step in steps:
        params = jax.tree.map(lambda leaf, step=step: leaf + step, state.params)
        checkpoints.save(step, state._replace(params=params), {"next": step, "at": [1, None]})
    checkpoints.close()


def save_graded(run: Path, state: TrainState, losses: dict[int, float | None]):
    checkpoints = Checkpoints(run, PRINT, keep=1, keep_best=2)
    for step, loss in losses.items():
        checkpoints.save(step, state, {}, validation_loss=loss)
    checkpoints.close()


def data_files(folder: Path) -> list[Path]:
    """The files that hold the numbers themselves."""
    return [path for path in folder.rglob("ocdbt.process_0/d/*") if path.stat().st_size > 1000]


def test_state_and_data_position_come_back_on_another_mesh(tmp_path, state):
    save(tmp_path, state, 7)
    wanted = target(state, data=2, fsdp=2, tensor=2)
    restored = Checkpoints(tmp_path, PRINT).restore(wanted)
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
    assert restored.state.params["head"].sharding == wanted.params["head"].sharding


def test_the_newest_are_kept_and_none_is_an_answer(tmp_path, state):
    assert Checkpoints(tmp_path, PRINT).restore(target(state)) is None
    save(tmp_path, state, 1, 2, 3, keep=2)
    assert saved_steps(tmp_path / "checkpoints") == [3, 2]


def test_the_best_are_kept_beside_the_newest_over_restarts(tmp_path, state):
    folder = tmp_path / "checkpoints"
    save_graded(tmp_path, state, {1: 3.0, 2: 2.0, 3: None, 4: 2.5})
    assert saved_steps(folder) == [4, 2]
    save_graded(tmp_path, state, {5: 2.2, 6: float("nan")})
    assert saved_steps(folder) == [6, 5, 2]
    save_graded(tmp_path, state, {7: 1.0, 8: 1.5, 9: None})
    assert saved_steps(folder) == [9, 8, 7]


def test_a_restored_state_needs_little_more_memory_than_its_size(tmp_path):
    rows = 3_000
    leaves = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(leaf.shape[0]), leaf.shape),
        a_restore.state(rows).params,
    )
    big = TrainState(jnp.asarray(0, jnp.int32), leaves, (leaves, leaves))
    save(tmp_path, big, 1, fingerprint={})
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(big)) / 2**20
    folder = Path(a_restore.__file__).parents[2]
    command = [sys.executable, a_restore.__file__, str(tmp_path), str(rows)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    step, before, most = map(float, told.stdout.split())
    assert step == 1
    assert most - before < 1.3 * size + 150, (size, before, most)


def test_a_checkpoint_from_before_a_setting_was_made_with_its_default(tmp_path, state, tiny):
    now = {"model": model_fingerprint(tiny)}
    before = {"model": {key: value for key, value in now["model"].items() if key != "family"}}
    save(tmp_path, state, 1, fingerprint=before)
    restored = Checkpoints(tmp_path, now).restore(target(state))
    assert restored is not None
    jax.tree.map(np.testing.assert_array_equal, load_params(tmp_path, tiny), restored.state.params)
    other = {"model": {**now["model"], "family": "umt5"}}
    with pytest.raises(InputError, match=r"model\.family is 't5' in the checkpoint"):
        Checkpoints(tmp_path, other).restore(target(state))


def test_the_sums_gather_no_array(state):
    wanted = target(state, data=2, fsdp=2, tensor=2)
    leaves = jax.tree.leaves(wanted.params)
    program = summing(leaves).lower(leaves, np.uint32(0)).compile().as_text()
    assert "all-reduce" in program
    assert "all-gather" not in program


def test_the_next_step_may_overwrite_the_state_while_it_is_saved(tmp_path):
    grow = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    state = TrainState(jnp.asarray(0), {"embedding": jnp.zeros((2000, 1000))}, jnp.zeros(1))
    checkpoints = Checkpoints(tmp_path, PRINT)
    state = grow(state)
    expected = with_shardings(state, jax.tree.map(lambda leaf: leaf.sharding, state))
    checkpoints.save(1, state, {})
    for _ in range(5):
        state = grow(state)
    checkpoints.close()
    restored = Checkpoints(tmp_path, PRINT).restore(expected)
    assert restored.state.params["embedding"].min() == restored.state.params["embedding"].max() == 1


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model": {"width": 32}, "tokens": {"index": "atomic"}}, r"model\.width is 16 .* 32 now"),
        ({"model": {"width": 16}, "tokens": {"index": "title"}}, r"index is 'atomic' .* 'title'"),
        ({"model": {"width": 16}}, r"index is 'atomic' in the checkpoint and 'nothing' now"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_config_is_refused_and_kept(tmp_path, state, other, message):
    save(tmp_path, state, 4)
    with pytest.raises(InputError, match=message):
        Checkpoints(tmp_path, other).restore(target(state))
    assert saved_steps(tmp_path / "checkpoints") == [4]


def flip_a_bit(folder: Path) -> None:
    (path,) = data_files(folder / "params")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def cut_short(folder: Path) -> None:
    (path,) = data_files(folder / "params")
    path.write_bytes(path.read_bytes()[:100])


def lose_the_optimizer(folder: Path) -> None:
    (folder / "optimizer" / "manifest.ocdbt").unlink()


def lose_the_position(folder: Path) -> None:
    (folder / "data" / "data.json").unlink()


def spoil_the_description(folder: Path) -> None:
    (folder / "about" / "data.json").write_text("{")


DAMAGES = [flip_a_bit, cut_short, lose_the_optimizer, lose_the_position, spoil_the_description]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_is_set_aside_with_a_warning(tmp_path, state, damage):
    save(tmp_path, state, 5, 6)
    damage(tmp_path / "checkpoints" / "6")
    warnings = []
    restored = Checkpoints(tmp_path, PRINT, warn=warnings.append).restore(target(state))
    assert restored.step == 5
    assert len(warnings) == 1
    assert "6 is damaged" in warnings[0]
    assert (tmp_path / "checkpoints" / "6.damaged").is_dir()
    save(tmp_path, state, 6)
    assert Checkpoints(tmp_path, PRINT).restore(target(state)).step == 6


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_over(tmp_path, state):
    save(tmp_path, state, 5)
    cut_short(tmp_path / "checkpoints" / "5")
    with pytest.raises(InputError, match="every checkpoint is damaged"):
        Checkpoints(tmp_path, PRINT, warn=lambda _: None).restore(target(state))


def test_a_save_that_was_killed_is_not_seen(tmp_path, state):
    save(tmp_path, state, 5)
    half = tmp_path / "checkpoints" / "6.orbax-checkpoint-tmp"
    half.mkdir()
    assert Checkpoints(tmp_path, PRINT).restore(target(state)).step == 5


def test_a_full_disk_is_told_and_the_checkpoint_before_stays(tmp_path, state):
    save(tmp_path, state, 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        with pytest.raises(InputError, match="could not be written"):
            save(tmp_path, state, 6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Checkpoints(tmp_path, PRINT).restore(target(state)).step == 5


def test_weights_are_read_without_the_optimizer(tmp_path, state, tiny):
    save(tmp_path, state, 5, 6, fingerprint={"model": model_fingerprint(tiny)})
    for step in (5, 6):
        for path in data_files(tmp_path / "checkpoints" / str(step) / "optimizer"):
            os.remove(path)
    newest, older = load_params(tmp_path, tiny), load_params(tmp_path, tiny, 5)
    np.testing.assert_array_equal(newest["head"], state.params["head"] + 6)
    np.testing.assert_array_equal(older["head"], state.params["head"] + 5)


def test_weights_that_are_not_there_or_of_another_model_are_told(tmp_path, state, tiny):
    with pytest.raises(InputError, match="no checkpoint"):
        load_params(tmp_path, tiny)
    other = {**model_fingerprint(tiny), "heads": 4}
    save(tmp_path, state, 5, fingerprint={"model": other})
    with pytest.raises(InputError, match=r"model\.heads is 4"):
        load_params(tmp_path, tiny)
    with pytest.raises(InputError, match=r"no checkpoint of step 9[^$]*: 5"):
        load_params(tmp_path, tiny, 9)


def test_the_description_can_be_read_by_people(tmp_path, state):
    save(tmp_path, state, 5)
    about = json.loads((tmp_path / "checkpoints" / "5" / "about" / "data.json").read_text())
    assert (about["step"], about["fingerprint"]) == (5, PRINT)
