"""Result optimization: small pure functions from candidates to candidates, to be composed."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """Items that may be recommended, in the order they would be.

    Attributes:
        items: `[candidates]` item numbers.
        scores: `[candidates]` log-probabilities.
    """

    items: Int[np.ndarray, " candidates"]
    scores: Float[np.ndarray, " candidates"]

    def __len__(self) -> int:
        return len(self.items)

    def take(self, positions: Sequence[int] | Int[np.ndarray, " kept"]) -> "Candidates":
        """Keeps the candidates at `positions`, in that order."""
        positions = np.asarray(positions, np.int64)
        return Candidates(self.items[positions], self.scores[positions])


def drop_missing(candidates: Candidates) -> Candidates:
    """Drops the empty slots of a search, which have no item or a score of -inf."""
    return candidates.take(np.flatnonzero((candidates.items >= 0) & (candidates.scores > -np.inf)))


def best_first(candidates: Candidates) -> Candidates:
    """Sorts by score, highest first; equal scores keep their order."""
    return candidates.take(np.argsort(-candidates.scores, kind="stable"))


def keep_allowed(candidates: Candidates, allowed: Bool[np.ndarray, " items"]) -> Candidates:
    """Keeps the items that the mask over the catalog allows."""
    return candidates.take(np.flatnonzero(allowed[candidates.items]))


def drop_repeated(candidates: Candidates, titles: Sequence[str]) -> Candidates:
    """Keeps the first of the items that a reader cannot tell apart.

    Args:
        candidates: In the order of preference.
        titles: `[items]` title of each item of the catalog; case and spacing do not count.
    """
    seen: set[str] = set()
    kept = []
    for position, item in enumerate(candidates.items):
        title = " ".join(titles[int(item)].casefold().split())
        if title not in seen:
            seen.add(title)
            kept.append(position)
    return candidates.take(kept)


def diversify(
    candidates: Candidates, categories: Sequence[Sequence[str]], weight: float, k: int
) -> Candidates:
    """Picks `k` by maximal marginal relevance (Carbonell and Goldstein, 1998).

    Each pick is the highest `(1 - weight) * relevance - weight * likeness`, where relevance is
    the score scaled to 0..1 over the candidates and likeness the largest Jaccard overlap of the
    categories with an item that is already picked.

    Args:
        candidates: The pool, best first.
        categories: `[items]` categories of each item of the catalog.
        weight: 0 gives the first `k`, 1 looks at categories alone.
        k: How many to pick.
    """
    if weight == 0 or len(candidates) < 2:
        return candidates.take(np.arange(min(k, len(candidates))))
    low, high = candidates.scores.min(), candidates.scores.max()
    relevance = (candidates.scores - low) / max(high - low, np.finfo(np.float32).tiny)
    sets = [frozenset(categories[int(item)]) for item in candidates.items]
    likeness = np.zeros(len(candidates))
    left = np.ones(len(candidates), bool)
    picked: list[int] = []
    for _ in range(min(k, len(candidates))):
        value = np.where(left, (1 - weight) * relevance - weight * likeness, -np.inf)
        pick = int(np.argmax(value))
        picked.append(pick)
        left[pick] = False
        likeness = np.maximum(likeness, [_jaccard(sets[pick], other) for other in sets])
    return candidates.take(picked)


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    union = len(one | other)
    return len(one & other) / union if union else 0.0
