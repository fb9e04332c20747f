"""The real programs of a run, lowered from shapes alone: nothing is allocated."""

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
"""Items that the scoring program is given for each request: one and 99 others."""

INNER_BRANCHING = 64
"""Continuations of a beginning of a title that the decoding program has room for, at most."""

ROOT_BRANCHING = 8_192
"""First tokens of titles that the decoding program has room for, at most."""

NODES_AN_ITEM = 4
"""Nodes of the tree of titles for each item; MovieTweetings' has 3."""


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A program before it is compiled.

    Attributes:
        lowered: What `.compile()` is called on.
        parameters: Bytes of the weights on one device, with adapters and those they change.
        optimizer: Bytes of what the optimizer remembers on one device.
        turns: The most that a loop can run whose end depends on data.
    """

    lowered: Any
    parameters: int
    optimizer: int = 0
    turns: int = 1


def lower_train(experiment: Experiment, mesh: Mesh, items: int) -> Lowered:
    """The step of the training loop.

    Args:
        experiment: With the model's vocabulary resolved.
        mesh: The devices.
        items: Not used; every program takes the same arguments.

    Raises:
        InputError: The mesh cannot cut the batch.
    """
    train, tokens = experiment.train, experiment.tokens
    check_batch(mesh, train.batch_size, train.accumulate)
    step = compile_step(experiment.model, experiment.optimizer, train, mesh, experiment.lora)
    frozen = () if step.frozen is None else (step.frozen,)
    batch = abstract_batch(mesh, train.batch_size, tokens.source_length, tokens.target_length)
    key = jax.eval_shape(lambda: jax.random.key(0))
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=_everywhere(mesh))
    with jax.set_mesh(mesh):
        lowered = step.run.lower(step.target, batch, key, *frozen)
    weights = bytes_on_device((step.target.params, frozen))
    return Lowered(lowered, weights, bytes_on_device(step.target.optimizer_state))


def lower_score(experiment: Experiment, mesh: Mesh, items: int) -> Lowered:
    """The likelihood of `CANDIDATES` given items for each of `decode.batch` requests."""
    params, prompts = _weights(experiment, mesh), _prompts(experiment, mesh)
    requests = experiment.decode.batch
    sequences = _integers(
        (requests, min(CANDIDATES, items), _depth(experiment)), _rows(mesh, requests)
    )
    with jax.set_mesh(mesh):
        lowered = score_items.lower(structure(experiment.model), params, prompts, sequences)
    return Lowered(lowered, bytes_on_device(params), turns=_depth(experiment))


def lower_decode(experiment: Experiment, mesh: Mesh, items: int) -> Lowered:
    """The beam search for `decode.batch` requests over a catalog of so many items."""
    params, prompts = _weights(experiment, mesh), _prompts(experiment, mesh)
    beams = min(experiment.decode.beams, items)
    search = functools.partial(beam_search.lower, structure(experiment.model), params)
    with jax.set_mesh(mesh):
        lowered = search(_trie(experiment, mesh, items), prompts, beams=beams)
    return Lowered(lowered, bytes_on_device(params), turns=_depth(experiment))


PROGRAMS: dict[str, Callable[[Experiment, Mesh, int], Lowered]] = {
    "train": lower_train,
    "score": lower_score,
    "decode": lower_decode,
}


def bytes_on_device(tree: Any) -> int:
    """Bytes of abstract arrays on one device, by their shardings; padding of tiles not counted."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _weights(experiment: Experiment, mesh: Mesh) -> Params:
    whole = abstract(experiment.model)
    return with_shardings(whole, state_shardings(mesh, whole))


def _prompts(experiment: Experiment, mesh: Mesh) -> PromptTokens:
    requests = experiment.decode.batch
    tokens = _integers((requests, experiment.tokens.source_length), _rows(mesh, requests))
    return PromptTokens(tokens, tokens)


def _depth(experiment: Experiment) -> int:
    index = experiment.tokens.item_index()
    # Of a sequence of several tokens one may be the end of the sequence.
    return 1 if index.max_tokens == 1 else index.max_tokens + 1


def _trie(experiment: Experiment, mesh: Mesh, items: int) -> LegalSequences:
    """A catalog's tree by its size alone; the real one is known when the log is read."""
    depth = _depth(experiment)
    is_flat = depth == 1
    nodes = items + 1 if is_flat else NODES_AN_ITEM * items + 1
    of = functools.partial(_integers, sharding=_everywhere(mesh))
    return LegalSequences(
        row_offsets=of((nodes + 1,)),
        edge_tokens=of((nodes - 1,)),
        edge_targets=of((nodes - 1,)),
        node_item=of((nodes,)),
        first_leaf=of((nodes,)),
        end_leaf=of((nodes,)),
        leaf_order=of((items,)),
        depth=depth,
        root_branching=items if is_flat else min(items, ROOT_BRANCHING),
        inner_branching=0 if is_flat else min(items, INNER_BRANCHING),
    )


def _integers(shape: tuple[int, ...], sharding: NamedSharding) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding)


def _rows(mesh: Mesh, rows: int) -> NamedSharding:
    """Rows cut as those of a batch, where the devices divide them."""
    devices = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES if rows % devices == 0 else None))


def _everywhere(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())
