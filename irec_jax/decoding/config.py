"""Settings of the search for answers."""

import dataclasses
from typing import Literal

from irec_jax.bounds import SHARE, Range, check_settings
from irec_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class DecodeConfig:
    """Settings of the search for answers.

    Attributes:
        method: `beam` keeps the best prefixes only, and widens until the answer is certain or it
            is as wide as `widest`; with the atomic index the answer is always certain.
            `exhaustive` computes the exact score of every item, at a higher cost.
        beams: Initial number of prefixes kept at each step.
        widest: Maximum number of prefixes kept at each step; more only for more answers.
        batch: Requests per batch.
        diversity: 0 keeps the model's order; up to 1, answers of categories that are not yet in
            the list move up.
    """

    method: Literal["beam", "exhaustive"] = "beam"
    beams: int = 64
    widest: int = 1024
    batch: int = 64
    diversity: float = 0.0

    def __post_init__(self) -> None:
        check_settings(
            self,
            "decode.",
            beams=Range(1, 2**16),
            widest=Range(1, 2**20),
            batch=Range(1, 2**16),
            diversity=SHARE,
        )
        if self.widest < self.beams:
            raise InputError(
                f"{self.widest} is less than decode.beams = {self.beams}", where="decode.widest"
            )
