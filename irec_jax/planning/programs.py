"""The programs of a run, lowered from abstract arrays: nothing is allocated."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from irec_jax.decoding.beam import beam_search
from irec_jax.decoding.legal import LegalSequences
from irec_jax.decoding.score import score_items
from irec_jax.decoding.steps import PromptTokens
from irec_jax.experiment.config import Experiment
from irec_jax.model.params import Params, abstract, structure
from irec_jax.training.checkpoint import with_shardings
from irec_jax.training.sharding import BATCH_AXES, check_batch, state_shardings
from irec_jax.training.step import abstract_batch, compile_step

CANDIDATES = 100
"""Items per request of the scoring program: the target and 99 others."""

INNER_BRANCHING = 64
"""Maximum branching of the trie below its root, in the decoding program."""

ROOT_BRANCHING = 8_192
"""Maximum branching of the root of the trie: first tokens of titles."""

NODES_PER_ITEM = 4
"""Nodes of the trie of titles per item; MovieTweetings has 3."""


@dataclasses.dataclass(frozen=True)
class LoweredProgram:
    """A program before it is compiled.

    Attributes:
        lowered: The `jax.stages.Lowered` of the program.
        parameters: Bytes of the weights on one device, adapters included.
        optimizer: Bytes of the optimizer state on one device.
        max_trips: Maximum trip count of loops whose trip count depends on data.
    """

    lowered: Any
    parameters: int
    optimizer: int = 0
    max_trips: int = 1


def lower_train(experiment: Experiment, mesh: Mesh, items: int) -> LoweredProgram:
    """Lowers the training step.

    Args:
        experiment: With the model's vocabulary resolved.
        mesh: The devices.
        items: Not used: all programs have the same signature.

    Raises:
        InputError: The mesh does not divide the batch.
    """
    train, tokens = experiment.train, experiment.tokens
    check_batch(mesh, train.batch_size, train.accumulate)
    step = compile_step(experiment.model, experiment.optimizer, train, mesh, experiment.lora)
    frozen = () if step.frozen is None else (step.frozen,)
    batch = abstract_batch(mesh, train.batch_size, tokens.source_length, tokens.target_length)
    key = jax.eval_shape(lambda: jax.random.key(0))
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=_replicated(mesh))
    with jax.set_mesh(mesh):
        lowered = step.run.lower(step.target, batch, key, *frozen)
    weights = bytes_on_device((step.target.params, frozen))
    return LoweredProgram(lowered, weights, bytes_on_device(step.target.optimizer_state))


def lower_score(experiment: Experiment, mesh: Mesh, items: int) -> LoweredProgram:
    """Lowers the scoring of `CANDIDATES` given items for each of `decode.batch` requests."""
    params, prompts = _weights(experiment, mesh), _prompts(experiment, mesh)
    requests = experiment.decode.batch
    sequences = _integers(
        (requests, min(CANDIDATES, items), _depth(experiment)), _request_sharding(mesh, requests)
    )
    with jax.set_mesh(mesh):
        lowered = score_items.lower(structure(experiment.model), params, prompts, sequences)
    return LoweredProgram(lowered, bytes_on_device(params), max_trips=_depth(experiment))


def lower_decode(experiment: Experiment, mesh: Mesh, items: int) -> LoweredProgram:
    """Lowers the beam search for `decode.batch` requests over a catalog of `items` items."""
    params, prompts = _weights(experiment, mesh), _prompts(experiment, mesh)
    beams = min(experiment.decode.beams, items)
    search = functools.partial(beam_search.lower, structure(experiment.model), params)
    with jax.set_mesh(mesh):
        lowered = search(_trie(experiment, mesh, items), prompts, beams=beams)
    return LoweredProgram(lowered, bytes_on_device(params), max_trips=_depth(experiment))


PROGRAMS: dict[str, Callable[[Experiment, Mesh, int], LoweredProgram]] = {
    "train": lower_train,
    "score": lower_score,
    "decode": lower_decode,
}


def bytes_on_device(tree: Any) -> int:
    """Computes the bytes of abstract arrays on one device, without the padding of tiles."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _weights(experiment: Experiment, mesh: Mesh) -> Params:
    weights = abstract(experiment.model)
    return with_shardings(weights, state_shardings(mesh, weights))


def _prompts(experiment: Experiment, mesh: Mesh) -> PromptTokens:
    requests = experiment.decode.batch
    tokens = _integers(
        (requests, experiment.tokens.source_length), _request_sharding(mesh, requests)
    )
    return PromptTokens(tokens, tokens)


def _depth(experiment: Experiment) -> int:
    index = experiment.tokens.item_index()
    # Of a sequence of several tokens one may be the end of the sequence.
    return 1 if index.max_tokens == 1 else index.max_tokens + 1


def _trie(experiment: Experiment, mesh: Mesh, items: int) -> LegalSequences:
    """Returns an abstract trie for the size of the catalog; the real one needs the log."""
    depth = _depth(experiment)
    is_flat = depth == 1
    nodes = items + 1 if is_flat else NODES_PER_ITEM * items + 1
    integers = functools.partial(_integers, sharding=_replicated(mesh))
    return LegalSequences(
        row_offsets=integers((nodes + 1,)),
        edge_tokens=integers((nodes - 1,)),
        edge_targets=integers((nodes - 1,)),
        node_item=integers((nodes,)),
        first_leaf=integers((nodes,)),
        end_leaf=integers((nodes,)),
        leaf_order=integers((items,)),
        depth=depth,
        root_branching=items if is_flat else min(items, ROOT_BRANCHING),
        inner_branching=0 if is_flat else min(items, INNER_BRANCHING),
    )


def _integers(shape: tuple[int, ...], sharding: NamedSharding) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding)


def _request_sharding(mesh: Mesh, rows: int) -> NamedSharding:
    """Returns the sharding of requests: like a batch, if the devices divide their number."""
    devices = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES if rows % devices == 0 else None))


def _replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())
