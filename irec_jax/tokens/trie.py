"""Prefix tree of all legal item token sequences, as flat arrays."""

import dataclasses

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True, eq=False)
class Trie:
    """A prefix tree in compressed sparse row form; node 0 is the root.

    Nodes are numbered level by level and, in a level, in the order of their sequences, so the
    edges of node `n` are `row_offsets[n]:row_offsets[n + 1]`, sorted by token, and edge `e`
    leads to node `e + 1`. The items below a node are adjacent in `leaf_order`, so a
    cumulative sum turns a filter over items into a filter over nodes.

    Attributes:
        row_offsets: `[nodes + 1]` int32, the edges of each node.
        edge_tokens: `[edges]` int32.
        edge_targets: `[edges]` int32 nodes.
        node_item: `[nodes]` int32, the item number of a leaf, -1 elsewhere.
        leaf_order: `[items]` int32, item numbers in the order of their sequences.
        first_leaf: `[nodes]` int32, index in `leaf_order` of the first item below a node.
        leaf_count: `[nodes]` int32, number of items below a node (1 for a leaf).
        depth: Tokens of the longest sequence.
    """

    row_offsets: Int[np.ndarray, " nodes_plus_one"]
    edge_tokens: Int[np.ndarray, " edges"]
    edge_targets: Int[np.ndarray, " edges"]
    node_item: Int[np.ndarray, " nodes"]
    leaf_order: Int[np.ndarray, " items"]
    first_leaf: Int[np.ndarray, " nodes"]
    leaf_count: Int[np.ndarray, " nodes"]
    depth: int


def build_trie(
    offsets: Int[np.ndarray, " items_plus_one"], tokens: Int[np.ndarray, " total"]
) -> Trie:
    """Builds the tree of `tokens[offsets[i]:offsets[i + 1]]` for every item `i`.

    Raises:
        ValueError: No item, an empty sequence, a negative token, two equal sequences, or one
            that begins with another.
    """
    lengths = np.diff(offsets)
    if not len(lengths) or lengths.min() < 1 or tokens.min() < 0:
        raise ValueError("a trie needs at least one item, each with a token, none negative")
    depth = int(lengths.max())
    table = np.full((len(lengths), depth), -1, np.int32)
    table[np.arange(depth) < lengths[:, None]] = tokens
    order = np.lexsort(table.T[::-1])
    table, lengths = table[order], lengths[order]

    # Cell (level, row) of the sorted table is a node if the row's prefix is new; counting these
    # cells level by level numbers the nodes.
    is_new = np.ones(table.shape, bool)
    is_new[1:] = np.logical_or.accumulate(table[1:] != table[:-1], axis=1)
    is_new = (is_new & (table >= 0)).T
    node_of = np.cumsum(is_new.ravel()).reshape(is_new.shape)
    levels, rows = np.nonzero(is_new)
    nodes = len(rows) + 1
    leaves = node_of[lengths - 1, np.arange(len(lengths))]
    leaf_count = np.bincount(node_of[(table >= 0).T], minlength=nodes)
    leaf_count[0] = len(lengths)
    if np.any(leaf_count[leaves] > 1):
        raise ValueError("two items have one sequence, or one begins with another")
    node_item = np.full(nodes, -1, np.int32)
    node_item[leaves] = order
    parents = np.where(levels > 0, node_of[levels - 1, rows], 0)
    degree = np.bincount(parents, minlength=nodes)
    return Trie(
        row_offsets=np.concatenate([[0], np.cumsum(degree)]).astype(np.int32),
        edge_tokens=table[rows, levels],
        edge_targets=np.arange(1, nodes, dtype=np.int32),
        node_item=node_item,
        leaf_order=order.astype(np.int32),
        first_leaf=np.concatenate([[0], rows]).astype(np.int32),
        leaf_count=leaf_count.astype(np.int32),
        depth=depth,
    )
