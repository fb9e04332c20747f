"""What is read from a compiler's refusal, and what an exchange crosses."""

import pytest

from irec_jax.errors import InputError
from irec_jax.planning.programs import Lowered
from irec_jax.planning.worker import _refused

GIB = 2**30
LOWERED = Lowered(None, parameters=3 * GIB, optimizer=GIB)


def test_temporaries_come_on_top_of_the_state():
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (64.50G) exceeds available HBM (15.75G)."
    )
    memory = _refused(message, LOWERED, 16 * GIB)
    assert memory.total == 68.5 * GIB
    assert memory.temporary == 64.5 * GIB
    assert not memory.fits


def test_what_was_placed_is_all_there_is():
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. "
        "Exceeded hbm capacity by 4.75G.\n\nTotal hbm usage >= 20.75G:\n reserved 256.00M"
    )
    memory = _refused(message, LOWERED, 16 * GIB)
    assert memory.total == 20.75 * GIB
    assert memory.temporary == 16.75 * GIB


def test_anything_else_is_told_as_it_is():
    with pytest.raises(InputError, match="no such layout"):
        _refused("INTERNAL: no such layout", LOWERED, GIB)
