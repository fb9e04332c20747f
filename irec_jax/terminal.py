"""Printing text that others wrote: titles, ids and instructions cannot steer the terminal."""

import re
from collections.abc import Iterable
from typing import Any

import rich.console
from rich.segment import Segment

# Control characters but tab and line feed, marks that turn the direction, lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Replaces characters that a terminal acts on by their escapes; tabs and line feeds stay.

    >>> printable("a\x1b[31m red title")
    'a\\x1b[31m red title'
    """
    return _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)


class Console(rich.console.Console):
    """A console of rich on which every text is `printable`; its own colors stay."""

    def render(self, *arguments: Any, **settings: Any) -> Iterable[Segment]:
        """Renders an object to segments, as rich's own method."""
        for segment in super().render(*arguments, **settings):
            if segment.control:
                yield segment
            else:
                yield segment._replace(text=printable(segment.text))
