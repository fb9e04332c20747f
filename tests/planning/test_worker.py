"""Memory that is read from the messages of a refused program."""

import pytest

from irec_jax.errors import InputError
from irec_jax.planning.programs import LoweredProgram
from irec_jax.planning.worker import _memory_of_refusal

GIB = 2**30
LOWERED = LoweredProgram(None, parameters=3 * GIB, optimizer=GIB)


def test_temporaries_are_added_to_the_state():
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (64.50G) exceeds available HBM (15.75G)."
    )
    memory = _memory_of_refusal(message, LOWERED, 16 * GIB)
    assert memory.total == 68.5 * GIB
    assert memory.temporary == 64.5 * GIB
    assert not memory.fits


def test_placed_memory_includes_the_state():
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. "
        "Exceeded hbm capacity by 4.75G.\n\nTotal hbm usage >= 20.75G:\n reserved 256.00M"
    )
    memory = _memory_of_refusal(message, LOWERED, 16 * GIB)
    assert memory.total == 20.75 * GIB
    assert memory.temporary == 16.75 * GIB


def test_another_reason_is_reported_unchanged():
    with pytest.raises(InputError, match="no such layout"):
        _memory_of_refusal("INTERNAL: no such layout", LOWERED, GIB)
