"""Settings of this process, before JAX computes anything."""

import logging
import os

from irec_jax.model.host_memory import keep_freed_memory
from irec_jax.planning.topology import libtpu_arguments

LIBTPU = "LIBTPU_INIT_ARGS"


def set_up_process() -> None:
    """Sets the memory allocator, libtpu's arguments and the level of messages; once is enough."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ[LIBTPU] = libtpu_arguments(os.environ.get(LIBTPU, ""))
    keep_freed_memory()
    logging.getLogger("absl").setLevel(logging.ERROR)
