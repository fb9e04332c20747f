"""Giving every item a text of its own that fits its token budget."""

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
    """The title index before it is flat: a name and its ids for every item.

    Attributes:
        names: The text of each item.
        sequences: `codec.encode(name)` of each, all different, without end-of-sequence.
        cut: How many titles lost words to the budget.
    """

    names: list[str]
    sequences: list[tuple[int, ...]]
    cut: int


def distinct_names(catalog: pl.DataFrame, codec: TextCodec, budget: int) -> TitleNames:
    """Makes titles that read the same in tokens distinct, and all of them short enough.

    Items that share a sequence get the year of release, then also the brand; those that still
    share one are numbered, in the order of the catalog.

    Args:
        catalog: Columns `title` and, where there are, `released` and `brand`.
        codec: Decides what reads the same.
        budget: Most tokens of a name.

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
            told = [column[item] for column in details[:level] if column[item]]
            suffix = f"({', '.join(told)})"
            if told and _is_short(suffix, codec, budget):
                fitted[item] = _fit(titles[item], suffix, codec, budget)
    taken = {fit.ids for fit in fitted}
    met: set[tuple[int, ...]] = set()
    following: dict[tuple[int, ...], int] = {}
    for item, fit in enumerate(fitted):
        if fit.ids not in met:
            met.add(fit.ids)
            continue
        fitted[item] = _numbered(fit, following, codec, budget=budget, taken=taken)
        met.add(fitted[item].ids)
        taken.add(fitted[item].ids)
    return TitleNames([fit.name for fit in fitted], [fit.ids for fit in fitted], cut)


def clean_titles(catalog: pl.DataFrame) -> list[str]:
    """The cleaned title of every item, `UNTITLED` where it has none."""
    return [clean(title or "") or UNTITLED for title in catalog["title"].to_list()]


@dataclasses.dataclass(frozen=True)
class _Fit:
    title: str  # what is left of the title
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
    following: dict[tuple[int, ...], int],
    codec: TextCodec,
    *,
    budget: int,
    taken: set[tuple[int, ...]],
) -> _Fit:
    first = following.get(fit.ids, 2)
    for number in range(first, first + len(taken) + 1):
        suffix = f"{fit.suffix} #{number}".strip()
        if not _is_short(suffix, codec, budget):
            suffix = f"#{number}"
        attempt = _fit(fit.title, suffix, codec, budget)
        if attempt.ids not in taken:
            following[fit.ids] = number + 1
            return attempt
    raise InputError(
        f"the title {fit.title!r} cannot be made distinct within {budget} tokens",
        where="tokens.max_item_tokens",
        hint="raise it, use tokens.index='atomic', or a tokenizer that knows digits",
    )


def _is_short(suffix: str, codec: TextCodec, budget: int) -> bool:
    return len(codec.encode(suffix)) <= budget // 2  # the title keeps the other half


def _fit(title: str, suffix: str, codec: TextCodec, budget: int) -> _Fit:
    """The longest beginning of `title` that fits with `suffix`, in whole words if possible."""
    ids = codec.encode(f"{title} {suffix}".strip())
    if len(ids) <= budget:
        return _Fit(title, suffix, tuple(ids), False)
    words = title.split(" ")
    # Whole words first; if not even one fits, the first word's characters.
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
