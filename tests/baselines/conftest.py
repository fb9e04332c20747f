"""A small split with ties, repeats and a cold item, and requests for it."""

import numpy as np
import polars as pl
import pytest

from irec_jax.instructions.forms import Intention, Preference, Request, Scenario, TaskForm
from irec_jax.log.split import Split, SplitProtocol


@pytest.fixture
def tiny() -> Split:
    """Users 7, 8 and 9; training is [0 1 2 1], [3 0 1] and [2]; item 4 is cold."""
    day = 86_400
    return Split(
        protocol=SplitProtocol.LEAVE_ONE_OUT,
        catalog=pl.DataFrame({"item": ["a", "b", "c", "d", "e"]}),
        users=np.array([7, 8, 9], np.int64),
        offsets=np.array([0, 6, 11, 12], np.int64),
        items=np.array([0, 1, 2, 1, 4, 3, 3, 0, 1, 2, 4, 2], np.int32),
        times=np.array([0, 1, 2, 3, 30, 40, 1, 2, 9, 20, 30, 5], np.int64) * day,
        queries=[""] * 12,
        intentions=np.zeros(12, np.int8),
        roles=np.array([0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 2, 0], np.int8),
    )


@pytest.fixture
def make_requests():
    def build(*histories: tuple[int, ...]) -> list[Request]:
        scenario = Scenario(Preference.IMPLICIT, Intention.NONE, TaskForm.MATCHING)
        return [Request(scenario, history) for history in histories]

    return build
