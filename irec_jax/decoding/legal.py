"""Legal item sequences as arrays for a search on the device."""

import dataclasses
import functools

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
        "first_leaf",
        "end_leaf",
        "leaf_order",
    ],
    meta_fields=["depth", "root_branching", "inner_branching"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class LegalSequences:
    """A trie on the device that applies a mask of items without a mask of nodes.

    The leaves below a node are one range of `leaf_order`, so the number of allowed items below it
    is a difference of two cumulative sums over the leaves.

    Attributes:
        row_offsets: `[nodes + 1]` the edges of node `n` are `row_offsets[n]:row_offsets[n + 1]`.
        edge_tokens: `[edges]` the token of each edge.
        edge_targets: `[edges]` the node each edge leads to.
        node_item: `[nodes]` item number at a leaf, -1 elsewhere. Node 0 is the root.
        first_leaf: `[nodes]` first leaf below each node.
        end_leaf: `[nodes]` one past the last leaf below each node.
        leaf_order: `[items]` item number of each leaf.
        depth: Tokens of the longest sequence.
        root_branching: Edges of the root.
        inner_branching: Maximum number of edges of another node; 0 if every sequence is one token.
    """

    row_offsets: Int[Array | np.ndarray, " nodes_plus_one"]
    edge_tokens: Int[Array | np.ndarray, " edges"]
    edge_targets: Int[Array | np.ndarray, " edges"]
    node_item: Int[Array | np.ndarray, " nodes"]
    first_leaf: Int[Array | np.ndarray, " nodes"]
    end_leaf: Int[Array | np.ndarray, " nodes"]
    leaf_order: Int[Array | np.ndarray, " items"]
    depth: int
    root_branching: int
    inner_branching: int

    @property
    def items(self) -> int:
        """Number of items."""
        return self.leaf_order.shape[0]

    def allowed_before(
        self, allowed: Bool[Array, "requests items"]
    ) -> Int[Array, "requests items_plus_one"]:
        """Counts, for each request, the allowed items among the first 0, 1, 2, ... leaves."""
        in_leaf_order = allowed[:, self.leaf_order].astype(jnp.int32)
        return jnp.pad(jnp.cumsum(in_leaf_order, axis=1), ((0, 0), (1, 0)))

    def open_nodes(
        self, before: Int[Array, "requests items_plus_one"], nodes: Int[Array, "requests front"]
    ) -> Bool[Array, "requests front"]:
        """Computes which of `nodes` have an allowed item at or below them."""
        last = jnp.take_along_axis(before, self.end_leaf[nodes], axis=1)
        return last > jnp.take_along_axis(before, self.first_leaf[nodes], axis=1)


def legal_sequences(trie: Trie) -> LegalSequences:
    """Copies `trie` to the device."""
    branching = np.diff(trie.row_offsets)
    return LegalSequences(
        row_offsets=jnp.asarray(trie.row_offsets),
        edge_tokens=jnp.asarray(trie.edge_tokens),
        edge_targets=jnp.asarray(trie.edge_targets),
        node_item=jnp.asarray(trie.node_item),
        first_leaf=jnp.asarray(trie.first_leaf),
        end_leaf=jnp.asarray(trie.first_leaf + trie.leaf_count),
        leaf_order=jnp.asarray(trie.leaf_order),
        depth=trie.depth,
        root_branching=int(branching[0]),
        inner_branching=int(branching[1:].max(initial=0)),
    )
