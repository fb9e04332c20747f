"""A renderer without a log, so that a record can be checked by its number alone."""

import dataclasses

import numpy as np
import polars as pl

from irec_jax.instructions.forms import Instruction
from irec_jax.tokens.config import TokensConfig
from irec_jax.tokens.items import TokenWriter, make_writer

ITEMS = 50


@dataclasses.dataclass(frozen=True)
class FakeRenderer:
    """Prompts of ragged histories; record numbers may be any from 0 on."""

    mean: float = 12.0
    most: int = 40
    answer: int = 1

    def __len__(self) -> int:
        return 10_000

    def record(self, number: int) -> Instruction:
        random = np.random.default_rng([7, number])
        history = random.integers(0, ITEMS, 1 + min(random.poisson(self.mean), self.most))
        answers = random.integers(0, ITEMS, random.integers(1, self.answer + 1))
        return Instruction(
            inputs="next after " + " ; ".join(f"<item_{item}>" for item in history),
            targets=" ".join(f"<item_{item}>" for item in answers),
            scenario="implicit-none-matching",
            strategy="plain",
            task="sequential_recommendation",
            template="fake",
            language="en",
            user=number,
            target_item=int(answers[0]),
            candidates=(),
            split="train",
            seed=7,
        )


def fake_writer() -> TokenWriter:
    titles = [f"thing number {number}" for number in range(ITEMS)]
    return make_writer(pl.DataFrame({"title": titles}), ["next after ;", *titles], TokensConfig())
