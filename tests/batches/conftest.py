import pytest

from .fakes import FakeRenderer, fake_writer


@pytest.fixture(scope="session")
def writer():
    return fake_writer()


@pytest.fixture
def renderer():
    return FakeRenderer()
