"""Adapter runs: resumed without their base, merged when loaded, refused if damaged."""

import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest

from irec_jax.errors import InputError
from irec_jax.model.lora import LoraConfig, merged
from irec_jax.model.params import abstract, merge, structure
from irec_jax.training.checkpoint import load_params, saved_steps
from irec_jax.training.config import TrainConfig
from irec_jax.training.frozen import FOLDER, save_frozen
from irec_jax.training.loop import train
from irec_jax.training.loss import token_loss
from irec_jax.training.metrics_logger import read_losses
from irec_jax.training.optimizer import OptimizerConfig, find_average
from irec_jax.training.sharding import MeshConfig, make_mesh, state_shardings
from irec_jax.training.validation import read_validation

LORA = LoraConfig(rank=2, alpha=4.0, whole=r"^head$|feed_forward/up$")
ADAM = OptimizerConfig(kind="adamw", peak=1e-2, average=0.5)
SHORT = TrainConfig(steps=4, batch_size=8, checkpoint_every=4)


def fail(shardings):
    raise AssertionError("a resumed run made initial weights")


@pytest.fixture(scope="module")
def lora_inputs(make_inputs):
    def build(run, **parts):
        return make_inputs(run, **{"lora": LORA, "optimizer": ADAM, **parts})

    return build


@pytest.fixture(scope="module")
def reference(lora_inputs, tmp_path_factory):
    """An uninterrupted run, its last state, and its validation batches."""
    run = tmp_path_factory.mktemp("runs") / "reference"
    inputs = lora_inputs(run)
    batches = [next(type(inputs.batches)()) for _ in range(2)]
    config = dataclasses.replace(inputs.train, validate_every=3)
    state = train(dataclasses.replace(inputs, validation=batches, train=config))
    return run, state, batches


@pytest.fixture
def copied_run(reference, tmp_path):
    shutil.copytree(reference[0], tmp_path / "run")
    return tmp_path / "run"


@functools.partial(jax.jit, static_argnums=0)
def logits(model, params, batch):
    net = merge(structure(model), params)
    encoded = net.encode(batch.inputs, batch.input_segments)
    decoded = net.decode(batch.targets, batch.target_segments, encoded, batch.input_segments)
    return net.logits(decoded)


def test_a_checkpoint_has_only_adapters_and_frozen_weights_are_written_once(reference, params):
    run, state, _ = reference
    trained = state.params
    assert set(trained) == {"decoder", "encoder", "head"}
    assert set(trained["encoder"]["layers"]["attention"]["query"]) == {"down", "up"}
    size = {
        name: sum(path.stat().st_size for path in folder.rglob("d/*"))
        for name, folder in (("frozen", run / FOLDER), ("last", run / "checkpoints" / "6"))
    }
    assert size["frozen"] > 0
    about = json.loads((run / FOLDER / "about" / "data.json").read_text())
    frozen = len(jax.tree.leaves(params)) - 3  # the head, and both sides' feed_forward/up
    assert len(about["checksums"]["params"]) == frozen
    assert (run / FOLDER).stat().st_mtime < (run / "checkpoints" / "4").stat().st_mtime


def test_the_loaded_weights_are_the_average_of_the_adapters_merged(reference, params, tiny):
    run, state, batches = reference
    average = jax.device_get(find_average(state.optimizer_state))
    expected = jax.device_get(merged(params, average, LORA))
    found = jax.device_get(load_params(run, tiny))
    assert jax.tree.map(np.shape, found) == jax.tree.map(lambda leaf: leaf.shape, abstract(tiny))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
    rows = [np.asarray(logits(tiny, weights, batches[0])) for weights in (found, expected, params)]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-5)
    assert np.abs(rows[0] - rows[2]).max() > 1e-2, "the adapters are not trained"


def test_weights_are_merged_on_a_mesh_as_on_one_device(reference, tiny):
    run, _, _ = reference
    shardings = state_shardings(make_mesh(MeshConfig(fsdp=2, tensor=2)), abstract(tiny))
    sharded = load_params(run, tiny, shardings=shardings)
    assert jax.tree.map(lambda leaf: leaf.sharding, sharded) == shardings
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        jax.device_get(sharded),
        jax.device_get(load_params(run, tiny)),
    )


def test_the_validation_loss_is_that_of_the_merged_weights(
    lora_inputs, tmp_path, tiny, toy_batches
):
    plain = dataclasses.replace(ADAM, average=0.0)
    config = dataclasses.replace(SHORT, validate_every=2)
    batches = [next(toy_batches)]
    train(lora_inputs(tmp_path, optimizer=plain, train=config, validation=batches))
    losses = read_validation(tmp_path)
    total, count = token_loss(structure(tiny), load_params(tmp_path, tiny), batches[0], None)
    np.testing.assert_allclose(losses[4], total / count, rtol=1e-5)
    assert losses[4] < losses[2]


def test_a_run_is_resumed_bit_exactly_without_its_base(reference, lora_inputs, tmp_path):
    run, state, _ = reference
    train(lora_inputs(tmp_path, train=SHORT))
    again = train(lora_inputs(tmp_path, init_weights=fail))
    assert read_losses(tmp_path) == read_losses(run)
    jax.tree.map(np.testing.assert_array_equal, again.params, state.params)


def test_a_run_of_a_mesh_is_resumed_on_one_device_with_the_same_losses(
    reference, lora_inputs, tmp_path
):
    train(lora_inputs(tmp_path, train=SHORT, devices=8, mesh=MeshConfig(fsdp=2, tensor=2)))
    train(lora_inputs(tmp_path, init_weights=fail))
    found, expected = read_losses(tmp_path), read_losses(reference[0])
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)


def test_unfinished_and_foreign_frozen_weights_are_replaced(lora_inputs, tmp_path, params):
    unfinished = tmp_path / f"{FOLDER}.orbax-checkpoint-tmp"
    unfinished.mkdir()
    (unfinished / "piece").write_text("")
    other = jax.tree.map(lambda leaf: leaf + 1, params)
    save_frozen(tmp_path, jax.tree.map(jax.numpy.asarray, other), LORA)
    once = TrainConfig(steps=1, batch_size=8)
    train(lora_inputs(tmp_path, train=once))
    train(lora_inputs(tmp_path / "clean", train=once))
    assert not unfinished.exists()
    assert read_losses(tmp_path) == read_losses(tmp_path / "clean")
    abouts = [
        (folder / FOLDER / "about" / "data.json").read_text()
        for folder in (tmp_path, tmp_path / "clean")
    ]
    assert abouts[0] == abouts[1]


def corrupt_description(folder):
    (folder / "about" / "data.json").write_text("{")


def flip_a_bit(folder):
    path = max(folder.rglob("d/*"), key=lambda file: file.stat().st_size)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("damage", [flip_a_bit, shutil.rmtree, corrupt_description])
def test_damaged_frozen_weights_are_refused_and_no_checkpoint_is_lost(
    damage, copied_run, lora_inputs, tiny
):
    damage(copied_run / FOLDER)
    longer = TrainConfig(steps=7, batch_size=8)
    for use in (
        lambda: load_params(copied_run, tiny),
        lambda: train(lora_inputs(copied_run, train=longer)),
    ):
        with pytest.raises(
            InputError, match=r"(?s)frozen: .* damaged or missing.*Copy this folder"
        ):
            use()
    assert saved_steps(copied_run / "checkpoints") == [6, 4]


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (dataclasses.replace(LORA, rank=4), r"lora\.rank is 2 in the checkpoint and 4 now"),
        (dataclasses.replace(LORA, alpha=8.0), r"lora\.alpha is 4\.0 .* 8\.0 now"),
        (dataclasses.replace(LORA, targets="/query$"), r"lora\.targets"),
        (dataclasses.replace(LORA, whole=""), r"lora\.whole"),
        (LoraConfig(), r"lora\.rank is 2 in the checkpoint and 'nothing' now"),
    ],
)
def test_a_run_with_other_adapters_is_refused(reference, lora_inputs, lora, message):
    with pytest.raises(InputError, match=message):
        train(lora_inputs(reference[0], lora=lora))


def test_the_initial_adapters_depend_on_the_seed(lora_inputs, tmp_path):
    once = TrainConfig(steps=1, batch_size=8)
    downs = []
    for seed in (0, 0, 1):
        run = tmp_path / str(len(downs))
        state = train(lora_inputs(run, seed=seed, train=once, optimizer=OptimizerConfig(peak=1e-9)))
        downs.append(np.asarray(state.params["encoder"]["layers"]["attention"]["value"]["down"]))
    np.testing.assert_array_equal(downs[0], downs[1])
    assert np.abs(downs[0] - downs[2]).max() > 0.01


def test_initial_weights_of_another_shape_are_refused(lora_inputs, tmp_path, params):
    other = {**params, "head": np.ones(3)}
    with pytest.raises(InputError, match=r"the weights have head \(3,\), the model \(16, 32\)"):
        train(lora_inputs(tmp_path, init_weights=lambda _: other))
    assert not (tmp_path / FOLDER).exists()
