"""Distinct item names within a token budget."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import polars as pl

from irec_jax.errors import InputError
from irec_jax.text_cleaning import clean
from irec_jax.tokens.text import TextCodec

UNTITLED = "untitled"


@dataclasses.dataclass(frozen=True)
class TitleNames:
    """A name and its ids for every item.

    Attributes:
        names: The text of each item.
        sequences: `codec.encode(name)` of each, all different, without end-of-sequence.
        cut: Number of titles that were shortened.
    """

    names: list[str]
    sequences: list[tuple[int, ...]]
    cut: int


def distinct_names(catalog: pl.DataFrame, codec: TextCodec, budget: int) -> TitleNames:
    """Makes titles short enough and their token sequences distinct.

    Items that share a sequence get the year of release, then also the brand. Items that still
    share one are numbered in the order of the catalog.

    Args:
        catalog: Columns `title` and, optionally, `released` and `brand`.
        codec: Encodes the names.
        budget: Maximum number of tokens of a name.

    Raises:
        InputError: Numbers do not fit the budget, or the tokenizer knows no digits.
    """
    titles = clean_titles(catalog)
    details = _details(catalog)
    fitted = [_fit(title, "", codec, budget) for title in titles]
    cut = sum(fit.cut for fit in fitted)
    for level in range(1, len(details) + 1):
        shared = _shared(fitted)
        for item in shared:
            known = [column[item] for column in details[:level] if column[item]]
            suffix = f"({', '.join(known)})"
            if known and _is_short(suffix, codec, budget):
                fitted[item] = _fit(titles[item], suffix, codec, budget)
    taken = {fit.ids for fit in fitted}
    seen: set[tuple[int, ...]] = set()
    next_number: dict[tuple[int, ...], int] = {}
    for item, fit in enumerate(fitted):
        if fit.ids not in seen:
            seen.add(fit.ids)
            continue
        fitted[item] = _numbered(fit, next_number, codec, budget=budget, taken=taken)
        seen.add(fitted[item].ids)
        taken.add(fitted[item].ids)
    return TitleNames([fit.name for fit in fitted], [fit.ids for fit in fitted], cut)


def clean_titles(catalog: pl.DataFrame) -> list[str]:
    """The cleaned title of every item, `UNTITLED` where it has none."""
    return [clean(title or "") or UNTITLED for title in catalog["title"].to_list()]


@dataclasses.dataclass(frozen=True)
class _Fit:
    title: str  # the part that fits
    suffix: str
    ids: tuple[int, ...]
    cut: bool

    @property
    def name(self) -> str:
        return f"{self.title} {self.suffix}".strip()


def _details(catalog: pl.DataFrame) -> list[list[str]]:
    details = []
    if "released" in catalog.columns:
        years = catalog["released"].cast(pl.String).str.extract(r"(\d{4})").fill_null("")
        details.append(years.to_list())
    if "brand" in catalog.columns:
        details.append([clean(brand or "") for brand in catalog["brand"].to_list()])
    return details


def _shared(fitted: Sequence[_Fit]) -> list[int]:
    count = Counter(fit.ids for fit in fitted)
    return [item for item, fit in enumerate(fitted) if count[fit.ids] > 1]


def _numbered(
    fit: _Fit,
    next_number: dict[tuple[int, ...], int],
    codec: TextCodec,
    *,
    budget: int,
    taken: set[tuple[int, ...]],
) -> _Fit:
    first = next_number.get(fit.ids, 2)
    for number in range(first, first + len(taken) + 1):
        suffix = f"{fit.suffix} #{number}".strip()
        if not _is_short(suffix, codec, budget):
            suffix = f"#{number}"
        attempt = _fit(fit.title, suffix, codec, budget)
        if attempt.ids not in taken:
            next_number[fit.ids] = number + 1
            return attempt
    raise InputError(
        f"the title {fit.title!r} cannot be made distinct within {budget} tokens",
        where="tokens.max_item_tokens",
        hint="Raise it, set tokens.index to 'atomic', or use a tokenizer that knows digits.",
    )


def _is_short(suffix: str, codec: TextCodec, budget: int) -> bool:
    return len(codec.encode(suffix)) <= budget // 2  # the title keeps the other half


def _fit(title: str, suffix: str, codec: TextCodec, budget: int) -> _Fit:
    """Finds the longest prefix of `title` that fits with `suffix`, of whole words if possible."""
    ids = codec.encode(f"{title} {suffix}".strip())
    if len(ids) <= budget:
        return _Fit(title, suffix, tuple(ids), False)
    words = title.split(" ")
    # Whole words first; if the first word does not fit, its characters.
    for parts, join in ((words, " "), (list(words[0]), "")):
        low, high = 0, len(parts)
        while high - low > 1:
            middle = (low + high) // 2
            text = f"{join.join(parts[:middle])} {suffix}".strip()
            low, high = (middle, high) if len(codec.encode(text)) <= budget else (low, middle)
        if low:
            kept = join.join(parts[:low])
            return _Fit(kept, suffix, tuple(codec.encode(f"{kept} {suffix}".strip())), True)
    return _Fit("", suffix, tuple(codec.encode(suffix)), True)
