"""What every test runs under: eight simulated devices and no silent broadcasting."""

import os

# Before JAX starts: its devices and thread pools are fixed at the first use.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real `data/` and a `tokenizer/`; tests that need it skip without it."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("IREC_TEST_DATA", default))
    if not (folder / "data").is_dir():
        pytest.skip("no real data: set IREC_TEST_DATA to a folder with data/ and tokenizer/")
    return folder
