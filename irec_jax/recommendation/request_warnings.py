"""Warnings about requests that a run was not made for; it answers them all the same."""

import dataclasses
import enum
from collections.abc import Collection

from irec_jax.instructions.forms import Request, Scenario, scenario_words
from irec_jax.recommendation.request_understanding import Understanding
from irec_jax.tokens.items import TokenWriter
from irec_jax.tokens.text import UNKNOWN

UNKNOWN_SHARE = 0.5
"""Share of the letters of an instruction that the tokenizer does not know, from which one warns."""

UNKNOWN_WORDS_SHARE = 0.4
"""Share of the words that neither the run nor a dictionary knows, from which one warns."""

SHOWN = 3
"""Unknown words that a warning names."""

_NOT_TEXT = "\ufffd"
"""What a part of a letter's bytes decodes to."""


class WarningKind(enum.StrEnum):
    """Kinds of warnings, for programs."""

    UNTRAINED_TASK = "untrained_task"
    UNKNOWN_LETTERS = "unknown_letters"
    UNKNOWN_WORDS = "unknown_words"
    CONTRADICTION = "contradiction"
    NO_ITEM = "no_item"


@dataclasses.dataclass(frozen=True)
class RequestWarning:
    """A warning about a request.

    Attributes:
        kind: For programs.
        message: For people.
    """

    kind: WarningKind
    message: str


def request_warnings(
    request: Request,
    trained: Collection[Scenario],
    writer: TokenWriter,
    understood: Understanding | None = None,
) -> tuple[RequestWarning, ...]:
    """Returns the reasons why the answer to a request may be worth little.

    Args:
        request: The request.
        trained: The scenarios of the tasks that the run was tuned on.
        writer: Its tokenizer.
        understood: What was understood of the instruction, if conditions were read.
    """
    warnings = []
    if request.scenario not in trained:
        kind = scenario_words(request.scenario.code)
        message = f"the run was not tuned on requests of this kind: {kind}"
        warnings.append(RequestWarning(WarningKind.UNTRAINED_TASK, message))
    letters = [letter for letter in request.instruction if letter.isalnum()]
    unknown = [letter for letter in letters if not _is_known(letter, writer)]
    is_read = understood is not None and any(c.is_hard for c in understood.constraints)
    if letters and len(unknown) >= UNKNOWN_SHARE * len(letters) and not is_read:
        shown = "".join(dict.fromkeys(unknown))[:10]
        message = f"the run does not know most letters of the instruction, such as {shown}"
        warnings.append(RequestWarning(WarningKind.UNKNOWN_LETTERS, message))
    if understood is not None:
        warnings += _warnings_of(understood)
    return tuple(warnings)


def _warnings_of(understood: Understanding) -> list[RequestWarning]:
    warnings = []
    if understood.unknown_share >= UNKNOWN_WORDS_SHARE:
        shown = ", ".join(f"'{word}'" for word in dict.fromkeys(understood.unknown[:SHOWN]))
        message = f"most words of the instruction are unknown, such as {shown}"
        warnings.append(RequestWarning(WarningKind.UNKNOWN_WORDS, message))
    if not understood.dropped:
        return warnings
    dropped = ", ".join(map(str, understood.dropped))
    if understood.contradiction:
        message = f"the request contradicts itself: {understood.contradiction}; ignored: {dropped}"
        return [*warnings, RequestWarning(WarningKind.CONTRADICTION, message)]
    ways = "; ".join(
        f"{count} without '{constraint}'" for constraint, count in understood.relaxations
    )
    fits = f" (items that meet the rest: {ways})" if ways else ""
    message = f"no item meets all of the request{fits}; ignored: {dropped}"
    return [*warnings, RequestWarning(WarningKind.NO_ITEM, message)]


def _is_known(letter: str, writer: TokenWriter) -> bool:
    """Whether a piece has the letter; others are written as bytes, or as the unknown token."""
    return not any(
        token == UNKNOWN or _NOT_TEXT in writer.decode([token]) for token in writer.encode(letter)
    )
