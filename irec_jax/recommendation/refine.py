"""Result optimization: pure functions from candidates to candidates."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """Candidate items in the order of recommendation.

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
    """Drops the empty slots of a search: no item, or a score of -inf."""
    return candidates.take(np.flatnonzero((candidates.items >= 0) & (candidates.scores > -np.inf)))


def best_first(candidates: Candidates) -> Candidates:
    """Sorts by score, highest first; equal scores keep their order."""
    return candidates.take(np.argsort(-candidates.scores, kind="stable"))


def drop_repeated(candidates: Candidates, titles: Sequence[str]) -> Candidates:
    """Keeps the first of the items with equal titles.

    Args:
        candidates: Best first.
        titles: `[items]` title of each item of the catalog; case and spacing are ignored.
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

    Each pick maximizes `(1 - weight) * relevance - weight * similarity`. Relevance is the score
    scaled to 0..1 over the candidates, similarity the largest Jaccard similarity of the
    categories to a picked item.

    Args:
        candidates: The pool, best first.
        categories: `[items]` categories of each item of the catalog.
        weight: 0 picks the first `k`, 1 uses the categories alone.
        k: Number of items to pick.
    """
    if weight == 0 or len(candidates) < 2:
        return candidates.take(np.arange(min(k, len(candidates))))
    low, high = candidates.scores.min(), candidates.scores.max()
    relevance = (candidates.scores - low) / max(high - low, np.finfo(np.float32).tiny)
    sets = [frozenset(categories[int(item)]) for item in candidates.items]
    similarity = np.zeros(len(candidates))
    remaining = np.ones(len(candidates), bool)
    picked: list[int] = []
    for _ in range(min(k, len(candidates))):
        value = np.where(remaining, (1 - weight) * relevance - weight * similarity, -np.inf)
        pick = int(np.argmax(value))
        picked.append(pick)
        remaining[pick] = False
        similarity = np.maximum(similarity, [_jaccard(sets[pick], other) for other in sets])
    return candidates.take(picked)


def _jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    union = len(first | second)
    return len(first & second) / union if union else 0.0
