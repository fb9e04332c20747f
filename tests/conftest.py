"""What every test runs under: eight simulated devices, no silent broadcasting, shared programs."""

import os

# Before JAX starts: its devices and thread pools are fixed at the first use.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import pytest

# How long an example takes says more of what else the machine does than of our code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real `data/` and a `tokenizer/`; tests that need it skip without it."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("IREC_TEST_DATA", default))
    if not (folder / "data").is_dir():
        pytest.skip("no real data: set IREC_TEST_DATA to a folder with data/ and tokenizer/")
    return folder


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory) -> Iterator[Path]:
    """A folder where all tests, and the programs they start, keep what the compiler made."""
    folder = tmp_path_factory.mktemp("compiled")
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="session")
def cached(compiled) -> dict[str, str]:
    """Variables with which a program uses that folder too."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
