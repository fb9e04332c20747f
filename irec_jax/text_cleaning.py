"""Text from people made safe to stand inside a prompt."""

import unicodedata

# Invisible marks that change the order in which text is shown, so that a title could make a
# prompt read differently from what the model gets. Right-to-left letters themselves stay.
_DIRECTION_MARKS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def clean(text: str) -> str:
    r"""Makes text one line of words with single spaces, ready for UTF-8.

    Newlines, tabs and runs of spaces become one space; control characters and marks that turn
    the reading direction go; half of a surrogate pair becomes "?". Braces, quotes, emoji and
    letters of every script stay as they are. Cleaning twice changes nothing.

    >>> clean("  Café\n{lamp}\x00 \u202e2 ")
    'Café {lamp} 2'
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(" " if c.isspace() else c for c in text if not _is_invisible(c))
        text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(text.split())


def _is_invisible(character: str) -> bool:
    if character in _DIRECTION_MARKS:
        return True
    return unicodedata.category(character) == "Cc" and not character.isspace()
