"""Small splits."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest

from irec_jax.log.split import Role, Split, SplitProtocol


def build_split(
    histories: Sequence[Sequence[int]],
    *,
    items: int,
    roles: Sequence[Sequence[int]] | None = None,
    queries: Sequence[str] | None = None,
    protocol: SplitProtocol = SplitProtocol.LEAVE_ONE_OUT,
) -> Split:
    """Makes one user per history; by default the last event is TEST, the one before VALIDATION."""
    lengths = [len(history) for history in histories]
    events = sum(lengths)
    if roles is None:
        roles = [
            [Role.TRAIN] * (length - 2) + [Role.VALIDATION, Role.TEST]
            if length >= 3
            else [Role.TRAIN] * length
            for length in lengths
        ]
    queries = list(queries) if queries else [""] * events
    return Split(
        protocol=protocol,
        catalog=pl.DataFrame({"item": [f"i{number}" for number in range(items)]}),
        users=np.arange(len(histories), dtype=np.int64) + 100,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array([item for history in histories for item in history], np.int32),
        times=np.concatenate([np.arange(length) for length in lengths]).astype(np.int64),
        queries=queries,
        intentions=np.array([2 if query else 0 for query in queries], np.int8),
        roles=np.array([int(role) for row in roles for role in row], np.int8),
    )


@pytest.fixture(scope="session")
def make_split() -> Callable[..., Split]:
    return build_split


@pytest.fixture(scope="session")
def random_split() -> Split:
    """60 users of 3 to 12 different items out of 40."""
    rng = np.random.default_rng(3)
    histories = [rng.permutation(40)[: rng.integers(3, 13)].tolist() for _ in range(60)]
    return build_split(histories, items=40)
