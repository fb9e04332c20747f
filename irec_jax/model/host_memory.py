"""Reuse of freed memory between the steps of a model on a CPU."""

import ctypes
import os
import sys

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
# The largest int of mallopt. Without any trimming, models above this size are faster still, but
# the heap grew to 1.65 times the memory.
_TRIM_BYTES = 2**31 - 1
# Memory kept when glibc trims. With a small pad, a step that frees more than the threshold would
# return all of it (docs/decisions/0160-malloc-top-padding.md).
_PAD_BYTES = _TRIM_BYTES - 64 * 2**20


def keep_freed_memory() -> bool:
    """Makes glibc reuse large freed blocks instead of returning their pages to the system.

    XLA allocates one large block per step and frees it after. By default each block is mapped
    again and each of its pages is zeroed at the first access, which takes a third of a small
    model's training step on a CPU (docs/decisions/0042-freed-memory.md). Call it once, early. It
    does nothing if the C library is not glibc, or if the user has set `MALLOC_ARENA_MAX`,
    `MALLOC_MMAP_MAX_` or `GLIBC_TUNABLES`.

    Returns:
        Whether it took effect.
    """
    variables = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
    if not sys.platform.startswith("linux") or any(name in os.environ for name in variables):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: _TRIM_BYTES, _TOP_PAD: _PAD_BYTES}
    accepted = [mallopt(key, value) for key, value in settings.items()]
    return all(accepted)
