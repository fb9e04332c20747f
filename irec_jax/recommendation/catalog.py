"""The catalog as people name it: references to items, and conditions on them."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool

from irec_jax.errors import InputError
from irec_jax.log.checks import check_items
from irec_jax.parquet import read_parquet
from irec_jax.recommendation.filter_language import parse, to_polars

Where = str | pl.Expr | Callable[[Mapping[str, Any]], bool]
"""A condition on items: text in the language of docs/filters.md, a Polars expression, or a function
of an item's row as a dict."""

Reference = str | int
"""An item as people name it: its id or its title, or as a number its row in the catalog."""

SUGGESTIONS = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Catalog:
    """The items that can be recommended.

    Attributes:
        table: Columns as in `items.parquet`; a row's number is its item number.
        titles: Title of each.
        categories: Categories of each, empty where the log has none.
    """

    table: pl.DataFrame
    titles: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, table: pl.DataFrame) -> "Catalog":
        """Reads titles and categories out of the table."""
        titles = tuple(title or "" for title in table["title"].to_list())
        if "categories" in table.columns:
            categories = tuple(tuple(names or ()) for names in table["categories"].to_list())
        else:
            categories = ((),) * len(titles)
        return cls(table, titles, categories)

    @classmethod
    def load(cls, path: Path) -> "Catalog":
        """Reads `catalog.parquet` of a run.

        Raises:
            InputError: The file is missing or is not what a run holds.
        """
        hint = "Copy the whole run folder, or tune again with `irec tune`."
        if not path.is_file():
            raise InputError("the run has no catalog", where=str(path), hint=hint)
        table = read_parquet(path, hint)
        try:
            check_items(table, where=str(path))
        except InputError as error:
            raise InputError(error.problem, where=error.where, hint=hint) from None
        return cls.of(table)

    def __len__(self) -> int:
        return len(self.titles)

    def number(self, reference: Reference, where: str) -> int:
        """Finds the item number of a reference.

        Args:
            reference: An item id, a title (case does not count), or an item number.
            where: What the reference belongs to, for messages.

        Raises:
            InputError: There is no such item, or several have this title.
        """
        if isinstance(reference, int):
            if 0 <= reference < len(self):
                return reference
            last = f"item numbers go from 0 to {len(self) - 1}."
            raise InputError(f"there is no item number {reference}", where=where, hint=last)
        ids = self.table["item"]
        found = np.flatnonzero((ids == reference).to_numpy())
        if not len(found):
            wanted = reference.casefold().strip()
            found = [row for row, title in enumerate(self.titles) if title.casefold() == wanted]
        if len(found) == 1:
            return int(found[0])
        if len(found):
            same = ", ".join(str(ids[int(row)]) for row in found)
            hint = f"give the item id instead: {same}."
            raise InputError(f"{len(found)} items are titled '{reference}'", where=where, hint=hint)
        raise InputError(
            f"there is no item with the id or title '{reference}'",
            where=where,
            hint=self._suggest(reference),
        )

    def numbers(self, references: Sequence[Reference], where: str) -> tuple[int, ...]:
        """Finds the item number of each reference; see `number`."""
        return tuple(self.number(reference, where) for reference in references)

    def mask(self, where: Where | None) -> Bool[np.ndarray, " items"]:
        """Says which items meet a condition; one that is unknown (no price) is not met.

        Raises:
            InputError: The condition cannot be read, names no column, or is neither true nor
                false.
        """
        if where is None:
            return np.ones(len(self), bool)
        if callable(where) and not isinstance(where, pl.Expr):
            return np.array([bool(where(row)) for row in self.table.iter_rows(named=True)], bool)
        condition = where
        if isinstance(condition, str):
            condition = to_polars(parse(condition), self.table.schema)
        try:
            rows = self.table.with_row_index("_row").filter(condition)["_row"]
        except pl.exceptions.PolarsError as error:
            columns = ", ".join(self.table.columns)
            raise InputError(
                " ".join(str(error).split()),
                where="where",
                hint=f"Write an expression that is true or false, over the columns {columns}.",
            ) from error
        mask = np.zeros(len(self), bool)
        mask[rows.to_numpy()] = True
        return mask

    def _suggest(self, reference: str) -> str:
        """Names the items that were probably meant: titles that hold its words, then likeness."""
        wanted = reference.casefold().strip()
        folded = [title.casefold() for title in self.titles]
        rows = [row for row, title in enumerate(folded) if wanted and wanted in title]
        if len(rows) < SUGGESTIONS:
            ids = [str(item).casefold() for item in self.table["item"].to_list()]
            words = [*folded, *ids]
            close = difflib.get_close_matches(wanted, words, n=SUGGESTIONS, cutoff=0.5)
            rows += [words.index(word) % len(self) for word in close]
        if not rows:
            return (
                "give an item's id or its whole title, as they stand in the run's catalog.parquet."
            )
        rows = list(dict.fromkeys(rows))[:SUGGESTIONS]
        ids = self.table["item"]
        return "Did you mean " + ", or ".join(f"'{self.titles[r]}' ({ids[r]})" for r in rows) + "?"
