"""Random item indexes and what a search over them should find."""

import numpy as np
import pytest

from irec_jax.tokens.trie import build_trie


def random_index(rng: np.random.Generator, items: int, kind: str, vocabulary: int):
    """Distinct legal sequences of both kinds: a list of token lists."""
    if kind == "atomic":
        return [[int(token)] for token in rng.permutation(np.arange(2, vocabulary))[:items]]
    sequences: set[tuple[int, ...]] = set()
    while len(sequences) < items:
        # Few tokens and short lengths, so that beginnings are shared and one title may
        # continue another's.
        words = rng.integers(2, min(vocabulary, 9), rng.integers(1, 5))
        sequences.add((*words.tolist(), 1))
    order = sorted(sequences)
    return [list(order[number]) for number in rng.permutation(items)]


def flat(sequences):
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])])
    return offsets.astype(np.int64), np.concatenate(sequences).astype(np.int32)


class Index:
    """A random index in every form that the tests need."""

    def __init__(self, seed: int, items: int, kind: str, vocabulary: int):
        self.sequences = random_index(np.random.default_rng(seed), items, kind, vocabulary)
        self.offsets, self.tokens = flat(self.sequences)
        self.trie = build_trie(self.offsets, self.tokens)

    def padded(self):
        length = max(map(len, self.sequences))
        return np.array(
            [sequence + [0] * (length - len(sequence)) for sequence in self.sequences], np.int32
        )


@pytest.fixture(scope="session")
def make_index():
    return Index


@pytest.fixture(scope="session")
def assert_is_best():
    """Compares one request's answer with the scores of all items, ties in either order."""

    def check(items, scores, bound, truth, allowed, exact):
        found = items[items >= 0]
        count = min(len(items), int(allowed.sum()))
        assert len(set(found.tolist())) == len(found), "an item twice"
        assert allowed[found].all(), "an item that is not allowed"
        assert (items[len(found) :] == -1).all()
        assert np.isneginf(scores[len(found) :]).all()
        np.testing.assert_allclose(scores[: len(found)], truth[found], atol=1e-4)
        assert (np.diff(scores[: len(found)]) <= 0).all()
        missed = np.setdiff1d(np.flatnonzero(allowed), found)
        assert (truth[missed] <= bound + 1e-4).all(), "an item above the bound was not found"
        if exact:
            assert (scores[: len(found)] >= bound).all()
            assert len(found) == count
            best = np.sort(truth[allowed])[::-1][:count]
            np.testing.assert_allclose(scores[:count], best, atol=1e-4)

    return check
