"""The tiny experiment, by the name that commands give it."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def config(tiny_config: Path) -> Path:
    return tiny_config
