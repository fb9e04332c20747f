"""Texts with the titles of items in place of their tokens, for people."""

import re
from collections.abc import Sequence

_TOKEN = re.compile(r"<[^<>\s]+>")


def with_titles(text: str, names: Sequence[str], titles: Sequence[str]) -> str:
    """Replaces each item token by the title in quotation marks; other names are titles already.

    Args:
        text: A prompt or an answer.
        names: How each item is written, as in `ItemIndex.names`.
        titles: The title of each item.

    >>> with_titles("after <item_1> , what ?", ["<item_0>", "<item_1>"], ["Lamp", "Desk"])
    'after "Desk" , what ?'
    """
    if not _TOKEN.search(text):
        return text
    found = {name: title for name, title in zip(names, titles, strict=True) if title}

    def title_of(match: re.Match[str]) -> str:
        title = found.get(match.group())
        return match.group() if title is None else f'"{title}"'

    return _TOKEN.sub(title_of, text)
