"""Words of requests: one normalization for everything that is compared with a request."""

import re
import unicodedata

from irec_jax.text_cleaning import clean

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "`": "'", "\u00b4": "'"})
_IDEOGRAPH = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
_WORD = re.compile(
    rf"{_IDEOGRAPH}"
    r"|(?:1[89]|20)?\d0'?s\b"  # a decade, such as 90s or 1990's
    r"|\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
    rf"|(?:(?!{_IDEOGRAPH})[^\W\d_])+(?:'(?:(?!{_IDEOGRAPH})[^\W\d_])+)*"
    r"|[<>]=|[^\w\s]"
)


def split_request(text: str) -> tuple[str, ...]:
    """Splits text into words after Unicode normalization (NFKC) and case folding.

    Numbers, decades, punctuation marks and ideographs are words of their own; hyphens and slashes
    between letters separate words and are dropped.

    >>> split_request("Navy-Blue TENT, under $1,200 (from the 90s)")
    ('navy', 'blue', 'tent', ',', 'under', '$', '1,200', '(', 'from', 'the', '90s', ')')
    """
    folded = unicodedata.normalize("NFKC", clean(text)).casefold().translate(_APOSTROPHES)
    folded = re.sub(r"(?<=[^\W\d_])[-_/](?=[^\W\d_])", " ", folded)
    return tuple(_WORD.findall(folded))


def is_letters(word: str) -> bool:
    """Whether a word of `split_request` consists of letters."""
    return word[0].isalpha()


def base_form(word: str) -> str:
    """Returns a word without the endings of the English plural and possessive.

    >>> [base_form(word) for word in ("kettles", "torvald's", "brushes", "glass", "hoodies")]
    ['kettle', 'torvald', 'brush', 'glass', 'hoody']
    """
    word = word.removesuffix("'s").removesuffix("'")
    if len(word) > 4 and word.endswith(("ies", "ie")):
        return word.removesuffix("s")[:-2] + "y"
    if len(word) > 4 and word.endswith(("shes", "ches", "sses", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def singular_forms(word: str) -> tuple[str, ...]:
    """Returns what a word may be the plural of, its base form first.

    >>> singular_forms("scarves"), singular_forms("tent")
    (('scarve', 'scarf', 'scarfe'), ('tent',))
    """
    base = base_form(word)
    if word.endswith("ves"):
        return base, f"{word[:-3]}f", f"{word[:-3]}fe"
    return (base,)
