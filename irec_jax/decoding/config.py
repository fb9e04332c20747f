"""Settings of the search for answers."""

import dataclasses
from typing import Literal

from irec_jax.bounds import SHARE, Range, check_settings
from irec_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class DecodeConfig:
    """How answers are searched for.

    Attributes:
        method: `beam` follows the best beginnings of titles only, and widens until it is certain
            of its answer or as wide as `widest`; with the atomic index it is always certain.
            `exhaustive` scores the whole catalog, exactly, at its price.
        beams: Beginnings kept at each step, at first.
        widest: Beginnings kept at each step, at most; more only if more answers are asked for.
        batch: Requests that are ranked together.
        diversity: 0 keeps the model's order; up to 1, answers of categories that are not yet in
            the list come sooner.
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
