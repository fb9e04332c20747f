"""Small splits, shared with the tests of instructions."""

from ..instructions.conftest import make, split, titles

__all__ = ["make", "split", "titles"]
