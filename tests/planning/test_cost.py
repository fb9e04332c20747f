"""Bounds of a step against arithmetic done by hand, and formulas against real arrays."""

import dataclasses

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.experiment.config import Experiment
from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig
from irec_jax.model.params import initialize
from irec_jax.planning.compiled import CompiledProgram, CompileResult, LinkTraffic, Memory
from irec_jax.planning.cost import min_hbm_bytes, train_cost
from irec_jax.planning.estimate import (
    estimate_memory,
    hardware_flops,
    row_flops,
    state_bytes,
    weight_bytes,
)
from irec_jax.planning.programs import lower_train
from irec_jax.planning.topology import Topology
from irec_jax.tokens.config import TokensConfig
from irec_jax.training.config import TrainConfig
from irec_jax.training.optimizer import OptimizerConfig, make_optimizer
from irec_jax.training.sharding import MeshConfig, make_mesh, state_shardings

MODEL = T5Config(
    vocabulary=256,
    width=64,
    head_dim=8,
    heads=4,
    mlp_dim=96,
    encoder_layers=3,
    decoder_layers=2,
    compute="bfloat16",
)
TOKENS = TokensConfig(source_length=32, target_length=16)
EXPERIMENT = Experiment(model=MODEL, tokens=TOKENS, train=TrainConfig(steps=3_600, batch_size=16))
MEMORY = Memory(1000, 100, 0, 0, 5000, 0, 6100, 10**9)
MESH = {"replica": 1, "data": 2, "fsdp": 4, "tensor": 1}


def compiled(*traffic):
    return CompiledProgram("train", MEMORY, tuple(traffic))


def with_remat(remat):
    return dataclasses.replace(EXPERIMENT, model=dataclasses.replace(MODEL, remat=remat))


def test_forward_and_backward_of_full_rows_by_hand():
    rows, source, target, inner = 16, 32, 16, 32
    attention_weights, feed_forward = 4 * 64 * inner, 3 * 64 * 96
    encoder = 3 * rows * source * (attention_weights + feed_forward)
    decoder = (
        2 * rows * target * (6 * 64 * inner + feed_forward) + 2 * rows * source * 2 * 64 * inner
    )
    head = rows * target * 64 * 256
    pairs = 3 * rows * source**2 + 2 * rows * (target**2 + source * target)
    by_hand = 6 * (encoder + decoder + head) + 12 * inner * pairs
    assert row_flops(EXPERIMENT) == pytest.approx(by_hand)
    assert hardware_flops(EXPERIMENT) == pytest.approx(by_hand)
    assert hardware_flops(with_remat("full")) == pytest.approx(by_hand + (by_hand - 6 * head) / 3)
    assert hardware_flops(with_remat("dots")) == pytest.approx(by_hand + 4 * inner * pairs)


def test_padding_does_not_count_as_model_flops():
    # Half the tokens have a quarter of the attention pairs.
    assert row_flops(EXPERIMENT, 0.5) < 0.5 * row_flops(EXPERIMENT)
    assert row_flops(EXPERIMENT, 0.5) > 0.25 * row_flops(EXPERIMENT)


def test_a_step_by_hand_on_eight_v5e():
    topology = Topology.parse("v5e:2x4")
    traffic = (
        # Within a slice: 8 devices gather 8 MB, 10 times, over 2 links of 50 GB/s.
        LinkTraffic("all-gather", ("fsdp",), 8, 8_000_000, 10, 1, 2),
        # They reduce 1 MB over one link.
        LinkTraffic("all-reduce", ("data",), 2, 1_000_000, 1, 1, 1),
    )
    result = CompileResult(8, MESH, 0.0, ())
    cost = train_cost(EXPERIMENT, topology, result, compiled(*traffic), fill=0.5, price=2.0)
    assert cost.ici_s == pytest.approx(10 * 7e6 / 100e9 + 1e6 / 50e9)
    assert cost.dcn_s == 0
    assert cost.compute_s == pytest.approx(row_flops(EXPERIMENT) / (8 * 197e12))
    # State read and written, gradients too, temporaries twice, bf16 weights of 4 parts twice.
    hbm_bytes = 2 * 1100 + 2 * 1000 + 2 * 5000 + 2 * 4 * 500
    assert min_hbm_bytes(EXPERIMENT, result, compiled()) == hbm_bytes
    assert cost.hbm_s == pytest.approx(hbm_bytes / 819e9)
    assert cost.bound_s == cost.ici_s
    assert cost.limit == "ICI"
    assert cost.serial_s == pytest.approx(cost.compute_s + cost.hbm_s + cost.ici_s)
    assert cost.tokens == 0.5 * 16 * 48
    assert cost.hours == pytest.approx((cost.bound_s, cost.serial_s))  # 3,600 steps
    assert cost.dollars == pytest.approx((16 * cost.bound_s, 16 * cost.serial_s))
    assert cost.mfu_bound == pytest.approx(row_flops(EXPERIMENT, 0.5) / cost.bound_s / (8 * 197e12))


def test_each_chip_sends_its_part_to_other_slices():
    # 2 slices of 4: within, an all-reduce of 4 (2 * 3/4); between, of 2, a quarter each.
    traffic = LinkTraffic("all-reduce", ("replica", "data"), 8, 8_000_000, 3, 2, 2)
    assert traffic.ici_bytes == pytest.approx(3 * 8e6 * 1.5)
    assert traffic.dcn_bytes == pytest.approx(3 * 8e6 * 1.0 / 4)
    topology = Topology.parse("v5e:2x2*2")
    cost = train_cost(EXPERIMENT, topology, CompileResult(8, MESH, 0.0, ()), compiled(traffic))
    assert cost.dcn_s == pytest.approx(6e6 / 3.125e9)
    assert cost.ici_s == pytest.approx(36e6 / 100e9)
    assert cost.limit == "DCN"


def test_two_devices_of_a_chip_share_its_figures():
    result = CompileResult(8, MESH, 0.0, ())
    cost = train_cost(EXPERIMENT, Topology.parse("tpu7x:2x2x1"), result, compiled(), price=1.0)
    assert cost.compute_s == pytest.approx(row_flops(EXPERIMENT) / (4 * 2307e12))
    assert (cost.chips, cost.devices) == (4, 8)


def test_the_peak_of_local_devices_is_measured():
    cost = train_cost(
        EXPERIMENT, Topology.parse("local"), CompileResult(8, MESH, 1e9, ()), compiled()
    )
    assert cost.compute_s == pytest.approx(row_flops(EXPERIMENT) / 8e9)
    assert (cost.hbm_s, cost.ici_s, cost.dcn_s) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["adafactor", "adamw"])
@pytest.mark.parametrize("config", [MeshConfig(), MeshConfig(fsdp=4), MeshConfig(fsdp=2, tensor=2)])
def test_state_bytes_are_those_of_real_arrays(kind, config):
    mesh = make_mesh(config)
    optimizer = OptimizerConfig(kind=kind)
    experiment = dataclasses.replace(EXPERIMENT, optimizer=optimizer)

    def initial_state(key):
        params = initialize(MODEL, key)
        return params, make_optimizer(optimizer, 10).init(params)

    shapes = jax.eval_shape(initial_state, jax.random.key(0))
    state = jax.jit(initial_state, out_shardings=state_shardings(mesh, shapes, shapes[0]))(
        jax.random.key(0)
    )
    real = [
        sum(array.addressable_shards[0].data.nbytes for array in jax.tree.leaves(part))
        for part in state
    ]
    assert list(state_bytes(experiment, dict(mesh.shape))) == real


@pytest.mark.parametrize(
    ("lora", "config"),
    [
        (LoraConfig(rank=2), MeshConfig()),
        (LoraConfig(4, 8.0, "/(gate|down)$", "^head$"), MeshConfig(fsdp=2, tensor=2)),
    ],
)
def test_state_bytes_with_adapters_are_those_of_the_compiled_step(lora, config):
    mesh = make_mesh(config)
    settings = OptimizerConfig(kind="adamw")
    experiment = dataclasses.replace(EXPERIMENT, lora=lora, optimizer=settings)
    lowered = lower_train(experiment, mesh, 100)
    assert state_bytes(experiment, dict(mesh.shape)) == (lowered.parameters, lowered.optimizer)
    argument_bytes = lowered.lowered.compile().memory_analysis().argument_size_in_bytes
    rows = 16 // (mesh.shape["data"] * mesh.shape["fsdp"])
    batch, step, key = 2 * rows * (32 + 16) * 4, 4, 8
    assert argument_bytes == lowered.parameters + lowered.optimizer + batch + step + key


def test_flops_exclude_gradients_of_frozen_weights():
    def flops(**settings):
        return row_flops(dataclasses.replace(EXPERIMENT, lora=LoraConfig(rank=2, **settings)))

    source, target, inner = 16 * 32, 16 * 16, 32
    all_trained = row_flops(EXPERIMENT)
    everything = r"(query|key|value|output|gate|up|down|^head)$"
    assert flops(targets=everything) == pytest.approx(all_trained)
    assert flops(targets=everything[:-8] + ")$") == pytest.approx(
        all_trained - 2 * target * 64 * 256
    )
    assert flops(targets=everything[:-8] + ")$", whole="^head$") == pytest.approx(all_trained)
    keys = 2 * 64 * inner * (3 * source + 2 * target + 2 * source)
    without_keys = everything.replace("key|", "")
    assert flops(targets=without_keys) == pytest.approx(all_trained - keys)
    experiment = dataclasses.replace(with_remat("full"), lora=LoraConfig(rank=2))
    recomputed = hardware_flops(experiment) - row_flops(experiment)
    assert recomputed == pytest.approx(hardware_flops(with_remat("full")) - all_trained)


def test_frozen_weights_are_read_but_not_written():
    lora = dataclasses.replace(EXPERIMENT, lora=LoraConfig(rank=2))
    mesh = {**MESH, "fsdp": 1}
    weights = weight_bytes(lora, mesh)
    memory = MEMORY._replace(parameters=weights.frozen + weights.trained)
    result = CompileResult(8, mesh, 1e9, ())
    state = 4 * weights.trained + 2 * memory.optimizer + weights.frozen
    passes = 2 * weights.model / 4 * 2
    hbm_bytes = min_hbm_bytes(lora, result, CompiledProgram("train", memory))
    assert hbm_bytes == pytest.approx(state + 2 * memory.temporary + passes)
    estimate = estimate_memory(lora, mesh)
    assert estimate.optimizer < estimate_memory(EXPERIMENT, mesh).optimizer


@settings(max_examples=30, deadline=None)
@given(parts=st.sampled_from([1, 2]), fsdp=st.sampled_from([1, 2, 4, 8]))
def test_each_change_that_is_tried_needs_less_memory(parts, fsdp):
    mesh = {"replica": 1, "data": 8 // fsdp, "fsdp": fsdp, "tensor": 1}

    def total(remat, parts=parts, mesh=mesh):
        train = dataclasses.replace(EXPERIMENT.train, accumulate=parts)
        model = dataclasses.replace(MODEL, remat=remat, encoder_layers=12, decoder_layers=12)
        return estimate_memory(dataclasses.replace(EXPERIMENT, model=model, train=train), mesh)

    sizes = [total(remat).activations for remat in ("none", "dots", "full")]
    assert sizes == sorted(sizes, reverse=True)
    assert total("full", 2).activations == pytest.approx(total("full", 1).activations / 2, abs=2)
