import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.tokens.trie import build_trie

pytestmark = pytest.mark.fast


def flat(sequences):
    offsets = np.cumsum([0, *map(len, sequences)]).astype(np.int64)
    return offsets, np.array([token for one in sequences for token in one], np.int32)


def nested(sequences):
    root = {}
    for item, sequence in enumerate(sequences):
        node = root
        for token in sequence:
            node = node.setdefault(token, {})
        node["item"] = item
    return root


def same_tree(trie, node, wanted):
    """Compares with a tree of dicts, and returns the items below in the order of sequences."""
    first, last = trie.row_offsets[node], trie.row_offsets[node + 1]
    below = []
    if "item" in wanted:
        assert first == last
        assert trie.node_item[node] == wanted["item"]
        below = [wanted["item"]]
    else:
        assert trie.node_item[node] == -1
        assert trie.edge_tokens[first:last].tolist() == sorted(wanted)
        for edge in range(first, last):
            child = wanted[trie.edge_tokens[edge]]
            below += same_tree(trie, trie.edge_targets[edge], child)
    start = trie.first_leaf[node]
    assert trie.leaf_order[start : start + trie.leaf_count[node]].tolist() == below
    return below


ENDED = st.lists(
    st.lists(st.integers(2, 6), max_size=5).map(lambda tokens: (*tokens, 1)),
    min_size=1,
    max_size=40,
    unique=True,
)


@given(ENDED)
def test_equals_a_tree_of_dicts(sequences):
    trie = build_trie(*flat(sequences))
    wanted = nested(sequences)
    assert sorted(same_tree(trie, 0, wanted)) == list(range(len(sequences)))
    assert len(trie.node_item) == 1 + len({s[:k] for s in sequences for k in range(1, len(s) + 1)})
    assert trie.depth == max(map(len, sequences))


def test_one_token_an_item():
    trie = build_trie(*flat([(7,), (5,), (6,)]))
    assert trie.edge_tokens.tolist() == [5, 6, 7]
    assert trie.node_item.tolist() == [-1, 1, 2, 0]
    assert trie.depth == 1


@pytest.mark.parametrize(
    "sequences",
    [[], [()], [(3, 1), ()], [(3, 1), (3, 1)], [(3,), (3, 1)], [(3, 4, 1), (3, 4)], [(-1, 1)]],
)
def test_sequences_that_are_not_prefix_free_are_refused(sequences):
    with pytest.raises(ValueError, match="item"):
        build_trie(*flat(sequences))


def test_a_hundred_thousand_items():
    random = np.random.default_rng(0)
    body = random.integers(2, 2_000, (100_000, 9)).astype(np.int32)
    lengths = random.integers(3, 10, 100_000)
    sequences = {(*row[:n], 1) for row, n in zip(body.tolist(), lengths.tolist(), strict=True)}
    chosen = sorted(sequences)
    trie = build_trie(*flat(chosen))
    leaves = np.flatnonzero(trie.node_item >= 0)
    assert trie.node_item[leaves[np.argsort(trie.first_leaf[leaves])]].tolist() == list(
        range(len(chosen))
    )
