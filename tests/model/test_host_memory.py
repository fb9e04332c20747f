"""The allocator setting: fewer page faults in a process that allocates large blocks repeatedly."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys
from irec_jax.model.host_memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
size, touched = map(int, sys.argv[2:])
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
for turn in range(13):
    if turn == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
    ctypes.memset(block, 1, touched)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
MIB = 2**20


# Of the block above the threshold only the first pages are touched: these are what should stay.
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
@pytest.mark.parametrize("size", [64 * MIB, 2_500 * MIB])
def test_freed_memory_is_used_again(size):
    keys = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
    environment = {key: value for key, value in os.environ.items() if key not in keys}

    def faults(how):
        command = [sys.executable, "-c", PROGRAM, how, str(size), str(min(size, 256 * MIB))]
        done = subprocess.run(command, capture_output=True, check=True, env=environment)
        return int(done.stdout)

    assert faults("keep") < faults("default") / 20


def test_the_users_own_setting_is_left_alone(monkeypatch):
    from irec_jax.model.host_memory import keep_freed_memory

    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert not keep_freed_memory()
