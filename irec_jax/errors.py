"""The one exception that means a mistake that the user can fix."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

LONGEST_SHOWN = 80
"""Characters of a value in a message."""

MAX_SHOWN = 800
"""Characters of each part of a message."""


class InputError(Exception):
    """Bad data, a bad setting or a bad command, in one message.

    The command line prints it without a traceback and exits with code 2.

    Args:
        problem: What is wrong with the value, with the value in it.
        where: The file (and line, column or row) or the config key it was found in.
        hint: What to do about it.
    """

    def __init__(self, problem: str, *, where: str = "", hint: str = "") -> None:
        self.problem, self.where, self.hint = problem, where, hint
        problem, where, hint = map(_shortened, (problem, where, hint))
        message = f"{where}: {problem}" if where else problem
        super().__init__(f"{message}\n  Hint: {hint}" if hint else message)


def _shortened(text: str) -> str:
    """Leaves out the middle of a text that is too long for a message."""
    if len(text) <= MAX_SHOWN:
        return text
    left_out = f" ... {len(text) - MAX_SHOWN:,} characters ... "
    return text[: MAX_SHOWN // 2] + left_out + text[-(MAX_SHOWN // 2) :]


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return which allowed word was probably meant, as a hint.

    >>> nearest("titel", ["title", "atomic"])
    "Did you mean 'title'? Allowed: title, atomic."
    """
    words = list(allowed)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    guess = f"Did you mean '{close[0]}'? " if close else ""
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
