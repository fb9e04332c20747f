"""The legal item sequences, laid out for a search on the device."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from irec_jax.tokens.trie import Trie


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "row_offsets",
        "edge_tokens",
        "edge_targets",
        "node_item",
        "leaf_start",
        "leaf_end",
        "leaf_items",
    ],
    meta_fields=["depth", "root_branching", "inner_branching"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class LegalSequences:
    """A trie whose leaves are numbered so that the leaves below any node are one range.

    With leaves in depth-first order, a per-request mask of items needs no mask of nodes: how
    many allowed items lie below a node is a difference of two running sums over the leaves.

    Attributes:
        row_offsets: `[nodes + 1]` the edges of node `n` are `row_offsets[n]:row_offsets[n + 1]`.
        edge_tokens: `[edges]` the token of each edge.
        edge_targets: `[edges]` the node each edge leads to.
        node_item: `[nodes]` item number at a leaf, -1 elsewhere. Node 0 is the root.
        leaf_start: `[nodes]` first leaf below each node.
        leaf_end: `[nodes]` one past the last leaf below each node.
        leaf_items: `[items]` item number of each leaf.
        depth: Tokens of the longest sequence.
        root_branching: Edges of the root.
        inner_branching: Most edges of any other node; 0 if every sequence is one token.
    """

    row_offsets: Int[Array | np.ndarray, " nodes_plus_one"]
    edge_tokens: Int[Array | np.ndarray, " edges"]
    edge_targets: Int[Array | np.ndarray, " edges"]
    node_item: Int[Array | np.ndarray, " nodes"]
    leaf_start: Int[Array | np.ndarray, " nodes"]
    leaf_end: Int[Array | np.ndarray, " nodes"]
    leaf_items: Int[Array | np.ndarray, " items"]
    depth: int
    root_branching: int
    inner_branching: int

    @property
    def items(self) -> int:
        """How many items the trie holds."""
        return self.leaf_items.shape[0]

    def allowed_before(
        self, allowed: Bool[Array, "requests items"]
    ) -> Int[Array, "requests items_plus_one"]:
        """Counts, for each request, the allowed items among the first 0, 1, 2, ... leaves."""
        in_leaf_order = allowed[:, self.leaf_items].astype(jnp.int32)
        return jnp.pad(jnp.cumsum(in_leaf_order, axis=1), ((0, 0), (1, 0)))

    def open_nodes(
        self, before: Int[Array, "requests items_plus_one"], nodes: Int[Array, "requests front"]
    ) -> Bool[Array, "requests front"]:
        """Says which of `nodes` have an allowed item at or below them."""
        last = jnp.take_along_axis(before, self.leaf_end[nodes], axis=1)
        return last > jnp.take_along_axis(before, self.leaf_start[nodes], axis=1)


def legal_sequences(trie: Trie) -> LegalSequences:
    """Numbers the leaves of `trie` depth-first and moves it to the device, once per catalog."""
    offsets = np.asarray(trie.row_offsets, np.int64)
    targets = np.asarray(trie.edge_targets, np.int64)
    branching = np.diff(offsets)
    levels = [np.zeros(1, np.int64)]
    while (edges := _edges_of(levels[-1], offsets)).size:
        levels.append(targets[edges])
    leaves = _count_leaves(levels, offsets, targets, np.asarray(trie.node_item) >= 0)
    start = _first_leaves(levels, offsets, leaves)
    item_nodes = np.flatnonzero(np.asarray(trie.node_item) >= 0)
    leaf_items = np.zeros(len(item_nodes), np.int32)
    leaf_items[start[item_nodes]] = trie.node_item[item_nodes]

    def put(array: np.ndarray) -> Array:
        return jnp.asarray(array, jnp.int32)

    return LegalSequences(
        row_offsets=put(offsets),
        edge_tokens=put(trie.edge_tokens),
        edge_targets=put(targets),
        node_item=put(trie.node_item),
        leaf_start=put(start),
        leaf_end=put(start + leaves),
        leaf_items=put(leaf_items),
        depth=len(levels) - 1,
        root_branching=int(branching[0]),
        inner_branching=int(branching[1:].max(initial=0)),
    )


def _edges_of(
    nodes: Int[np.ndarray, " level"], offsets: Int[np.ndarray, " nodes_plus_one"]
) -> Int[np.ndarray, " edges"]:
    """Lists the edges of `nodes`, node by node."""
    counts = offsets[nodes + 1] - offsets[nodes]
    first = np.cumsum(counts) - counts
    return np.repeat(offsets[nodes] - first, counts) + np.arange(counts.sum())


def _count_leaves(
    levels: list[np.ndarray],
    offsets: Int[np.ndarray, " nodes_plus_one"],
    targets: Int[np.ndarray, " edges"],
    is_leaf: Bool[np.ndarray, " nodes"],
) -> Int[np.ndarray, " nodes"]:
    """Counts the leaves at or below each node, from the deepest level up."""
    leaves = is_leaf.astype(np.int64)
    for nodes in reversed(levels):
        children = targets[_edges_of(nodes, offsets)]
        parents = np.repeat(nodes, offsets[nodes + 1] - offsets[nodes])
        np.add.at(leaves, parents, leaves[children])
    return leaves


def _first_leaves(
    levels: list[np.ndarray],
    offsets: Int[np.ndarray, " nodes_plus_one"],
    leaves: Int[np.ndarray, " nodes"],
) -> Int[np.ndarray, " nodes"]:
    """Gives each node its first leaf, from the root down."""
    start = np.zeros(len(leaves), np.int64)
    for nodes, children in itertools.pairwise(levels):
        counts = offsets[nodes + 1] - offsets[nodes]
        before = np.cumsum(leaves[children]) - leaves[children]
        inner = counts > 0
        first_child = (np.cumsum(counts) - counts)[inner]
        start[children] = before + np.repeat(
            start[nodes[inner]] - before[first_child], counts[inner]
        )
    return start
