"""The one exception that means "the user can mend this"."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

LONGEST_SHOWN = 80

MAX_SHOWN = 800


class InputError(Exception):
    """Bad data, a bad setting or a bad command, told in one message.

    The command line prints it without a traceback and exits with code 2.

    Args:
        what: What is wrong, with the wrong value in it.
        where: The file (and line, column or row) or the config key it was found in.
        mend: What to do about it.
    """

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        what, where, mend = map(_shortened, (what, where, mend))
        message = f"{where}: {what}" if where else what
        super().__init__(f"{message}\n  To mend it: {mend}" if mend else message)


def _shortened(text: str) -> str:
    """Leaves out the middle of a text that is too long for a message."""
    if len(text) <= MAX_SHOWN:
        return text
    left_out = f" ... {len(text) - MAX_SHOWN:,} characters ... "
    return text[: MAX_SHOWN // 2] + left_out + text[-(MAX_SHOWN // 2) :]


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Says which allowed word was probably meant.

    >>> nearest("titel", ["title", "atomic"])
    "did you mean 'title'? Allowed: title, atomic."
    """
    words = list(allowed)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    guess = f"did you mean '{close[0]}'? " if close else ""
    return f"{guess}Allowed: {', '.join(words)}."


def shown(value: Any) -> str:
    """Writes a value into a message: numbers grouped, anything long shortened.

    >>> shown(65536), shown(2**70), shown("many")
    ('65,536', 'about 10**21', "'many'")
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) < 10**15:
            return f"{value:,}"
        return f"about {'-' if value < 0 else ''}10**{int(math.log10(abs(value)))}"
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."
