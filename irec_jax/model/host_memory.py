"""Keeping freed memory of the process, which a model's steps on a CPU ask for again and again."""

import ctypes
import os
import sys

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
# The most that mallopt's int can say. Never trimming at all makes models above this size faster
# still, but a heap that cannot shrink grew to 1.65 times the memory there.
_TRIM_BYTES = 2**31 - 1
# What stays when glibc trims: nearly all that may stay. With a small pad a step that frees more
# than the threshold would lose all of it (docs/decisions/0160-malloc-top-padding.md).
_PAD_BYTES = _TRIM_BYTES - 64 * 2**20


def keep_freed_memory() -> bool:
    """Makes glibc reuse large freed blocks instead of giving their pages back at once.

    XLA asks for one large block per step and frees it after; by default each such block is mapped
    anew and every page of it is zeroed at its first touch, which is a third of a small model's
    training step on a CPU (docs/decisions/0042-freed-memory.md). Call it once, early. It does
    nothing where the C library is another one, or where the user has set `MALLOC_ARENA_MAX`,
    `MALLOC_MMAP_MAX_` or `GLIBC_TUNABLES`.

    Returns:
        Whether it took effect.
    """
    chosen = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
    if not sys.platform.startswith("linux") or any(name in os.environ for name in chosen):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: _TRIM_BYTES, _TOP_PAD: _PAD_BYTES}
    done = [mallopt(key, value) for key, value in settings.items()]
    return all(done)
