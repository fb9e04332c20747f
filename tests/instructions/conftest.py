"""Small splits made by hand, for the instructions room."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest

from irec_jax.log.split import Role, Split, SplitProtocol


def make_split(
    histories: Sequence[Sequence[int]],
    titles: Sequence[str],
    queries: dict[tuple[int, int], tuple[str, int]] | None = None,
) -> Split:
    """Makes a leave-one-out split; `queries[user row, place]` is (text, intention code)."""
    lengths = [len(history) for history in histories]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    count = int(offsets[-1])
    roles = np.full(count, Role.TRAIN.value, dtype=np.int8)
    texts, intentions = [""] * count, np.zeros(count, dtype=np.int8)
    for row, length in enumerate(lengths):
        if length >= 3:
            roles[offsets[row + 1] - 1] = Role.TEST.value
            roles[offsets[row + 1] - 2] = Role.VALIDATION.value
    for (row, place), (text, code) in (queries or {}).items():
        texts[offsets[row] + place], intentions[offsets[row] + place] = text, code
    catalog = pl.DataFrame({"item": [f"sku{n}" for n in range(len(titles))], "title": list(titles)})
    return Split(
        protocol=SplitProtocol.LEAVE_ONE_OUT,
        catalog=catalog,
        users=np.arange(len(histories), dtype=np.int64) + 900_001,
        offsets=offsets,
        items=np.array([i for history in histories for i in history], dtype=np.int32),
        times=np.arange(count, dtype=np.int64) * 10,
        queries=texts,
        intentions=intentions,
        roles=roles,
    )


TITLES = [f"Brand{n} lamp model{n}" for n in range(12)]


@pytest.fixture
def titles() -> list[str]:
    return list(TITLES)


@pytest.fixture
def split() -> Split:
    """Five users: 6, 5, 3, 2 and 1 events; two vague and three specific queries."""
    histories = [[0, 1, 2, 3, 4, 5], [5, 6, 7, 8, 9], [1, 3, 5], [10, 11], [2]]
    queries = {
        (0, 0): ("something bright", 1),
        (0, 2): ("red desk light", 2),
        (0, 5): ("gift for a reader", 1),
        (1, 3): ("tall floor light", 2),
        (1, 2): ("cheap {light}\n for \u202e bed", 2),
    }
    return make_split(histories, TITLES, queries)


@pytest.fixture(scope="session")
def make() -> Callable[..., Split]:
    return make_split


@pytest.fixture(scope="session")
def titles_forever() -> list[str]:
    """As `titles`, for properties, which may not use a fixture made anew for each test."""
    return list(TITLES)
