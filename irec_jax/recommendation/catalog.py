"""The catalog of a run: lookup of items by id or title, and conditions on items."""

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
"""An item: its id or its title as text, or its row in the catalog as a number."""

References = Reference | Sequence[Reference]
"""Items, or one item without a list around it."""

SUGGESTIONS = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Catalog:
    """The items that can be recommended.

    Attributes:
        table: Columns as in `items.parquet`; a row's number is its item number.
        titles: Title of each item.
        categories: Categories of each item, empty where the log has none.
    """

    table: pl.DataFrame
    titles: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, table: pl.DataFrame) -> "Catalog":
        """Makes a catalog of a table with the columns of `items.parquet`."""
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
            InputError: The file is missing, damaged or lacks a column.
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
        """Returns the item number of a reference.

        Args:
            reference: An item id, a title (case does not count), or an item number.
            where: The option or argument that holds the reference, for messages.

        Raises:
            InputError: There is no such item, or several have this title.
        """
        if isinstance(reference, int):
            if 0 <= reference < len(self):
                return reference
            hint = f"Give a number between 0 and {len(self) - 1}."
            raise InputError(f"there is no item number {reference}", where=where, hint=hint)
        ids = self.table["item"]
        rows = np.flatnonzero((ids == reference).to_numpy())
        if not len(rows):
            folded = reference.casefold().strip()
            rows = [row for row, title in enumerate(self.titles) if title.casefold() == folded]
        if len(rows) == 1:
            return int(rows[0])
        if len(rows):
            same = ", ".join(str(ids[int(row)]) for row in rows)
            hint = f"Give the item id instead: {same}."
            raise InputError(f"{len(rows)} items are titled '{reference}'", where=where, hint=hint)
        raise InputError(
            f"there is no item with the id or title '{reference}'",
            where=where,
            hint=self._nearest(reference),
        )

    def numbers(self, references: References, where: str) -> tuple[int, ...]:
        """Returns the item number of each reference; see `number`."""
        # A text is a sequence too: of letters, each of which would be looked up.
        if isinstance(references, str | int):
            references = (references,)
        return tuple(self.number(reference, where) for reference in references)

    def mask(self, where: Where | None) -> Bool[np.ndarray, " items"]:
        """Selects the items that meet a condition; an unknown value (no price) meets none.

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

    def _nearest(self, reference: str) -> str:
        """A hint with up to three items whose titles contain the reference or are like it."""
        folded = reference.casefold().strip()
        titles = [title.casefold() for title in self.titles]
        rows = [row for row, title in enumerate(titles) if folded and folded in title]
        if len(rows) < SUGGESTIONS:
            ids = [str(item).casefold() for item in self.table["item"].to_list()]
            names = [*titles, *ids]
            close = difflib.get_close_matches(folded, names, n=SUGGESTIONS, cutoff=0.5)
            rows += [names.index(name) % len(self) for name in close]
        if not rows:
            return "Give an item's id or its whole title, as in the run's catalog.parquet."
        rows = list(dict.fromkeys(rows))[:SUGGESTIONS]
        ids = self.table["item"]
        return "Did you mean " + ", or ".join(f"'{self.titles[r]}' ({ids[r]})" for r in rows) + "?"
