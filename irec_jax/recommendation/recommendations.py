"""The answer to a request: recommended items, and what they were chosen by."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import polars as pl
from jaxtyping import Bool
from rich.console import Console, ConsoleOptions
from rich.jupyter import JupyterMixin
from rich.markup import escape
from rich.table import Table

from irec_jax.instructions.forms import Request
from irec_jax.recommendation.request_understanding import Understanding
from irec_jax.recommendation.request_warnings import RequestWarning

SHOWN = ("rank", "item", "title", "score")
SCORE_MEANING = (
    "score: the natural logarithm of the probability that the model answers with the item "
    "(-2.30 is 10 %, -4.61 is 1 %)"
)


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes:
        rank: From 1.
        item: The item's id in the log.
        title: The item's title.
        score: Log-probability of the item's tokens, given the prompt.
        number: The item number, its row in the catalog.
        is_certain: Whether no item outside the list can have a higher score; False only where the
            beam is too narrow to prove it.
    """

    rank: int
    item: str
    title: str
    score: float
    number: int
    is_certain: bool


@dataclasses.dataclass(frozen=True, repr=False)
class Recommendations(Sequence[Recommendation], JupyterMixin):
    """Recommended items, best first; a part of them is taken as of a list.

    Attributes:
        items: The items.
        request: The request that they answer.
        allowed: `[catalog]` whether an item could be returned.
        warnings: Why the answer may be worth little; empty for most requests.
        understood: The conditions that were read in the instruction; None where none were read.
    """

    items: tuple[Recommendation, ...]
    request: Request = dataclasses.field(compare=False)
    allowed: Bool[np.ndarray, " catalog"] = dataclasses.field(compare=False)
    warnings: tuple[RequestWarning, ...] = ()
    understood: Understanding | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Recommendation]:
        return iter(self.items)

    @overload
    def __getitem__(self, index: int) -> Recommendation: ...
    @overload
    def __getitem__(self, index: slice) -> "Recommendations": ...
    def __getitem__(self, index: int | slice) -> "Recommendation | Recommendations":
        if isinstance(index, slice):
            return dataclasses.replace(self, items=self.items[index])
        return self.items[index]

    def __repr__(self) -> str:
        return f"Recommendations{list(self.items)!r}"

    def to_frame(self) -> pl.DataFrame:
        """A row for each item with the fields of `Recommendation`."""
        names = [field.name for field in dataclasses.fields(Recommendation)]
        types = (pl.Int64, pl.String, pl.String, pl.Float64, pl.Int64, pl.Boolean)
        rows = [dataclasses.astuple(item) for item in self.items]
        return pl.DataFrame(rows, dict(zip(names, types, strict=True)), orient="row")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | str]:
        table = Table(
            "rank", "item", "title", "score", caption=SCORE_MEANING, caption_justify="left"
        )
        for item in self.items:
            table.add_row(
                str(item.rank), escape(item.item), escape(item.title), f"{item.score:.2f}"
            )
        if self.understood is not None:
            yield f"understood: {escape(str(self.understood))}"
        yield table
        for warning in self.warnings:
            yield f"warning: {escape(warning.message)}"
