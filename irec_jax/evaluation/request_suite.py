"""Request suites: hand-written requests with a condition that every good answer meets."""

import dataclasses
import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from irec_jax.errors import InputError, nearest
from irec_jax.evaluation.bootstrap import Figure, bootstrap_each

TOP = 5
"""Answers of a request that are graded."""
ALL = "all"
"""The row over the requests of all abilities."""

_KEYS = {"text", "ability", "where", "warning"}


@dataclasses.dataclass(frozen=True)
class SuiteRequest:
    """A request, and what a good answer is.

    Attributes:
        text: The request, as a user would write it.
        ability: What it tests; a row of the table.
        where: The condition that each returned item must meet, in the filter language; "" for a
            request that must only be warned of.
        warning: The kind of the warning that must come with the answer; "" for none.
    """

    text: str
    ability: str
    where: str = ""
    warning: str = ""


@dataclasses.dataclass(frozen=True)
class RequestSuite:
    """The requests of a file.

    Attributes:
        name: The name of the file, without its ending.
        language: Of the requests, BCP 47.
        requests: In the order of the file.
    """

    name: str
    language: str
    requests: tuple[SuiteRequest, ...]


class SuiteAnswer(NamedTuple):
    """The answer of a ranker to a request of a suite.

    Attributes:
        items: Item numbers, best first, up to `TOP`.
        warnings: The kinds of its warnings.
        condition: The condition that it has read in the request, "" for none.
    """

    items: Sequence[int]
    warnings: tuple[str, ...] = ()
    condition: str = ""


Answerer = Callable[[str], SuiteAnswer]
"""Answers a request in words."""

Meets = Callable[[str], Bool[np.ndarray, " items"]]
"""Selects the items of the catalog that meet a condition; all for ""."""


@dataclasses.dataclass(frozen=True)
class AbilityRow:
    """Satisfaction of one ranker with the requests of one ability.

    Attributes:
        ranker: The name of the ranker.
        ability: The ability, or `ALL`.
        requests: Number of requests.
        satisfaction: Mean share of the first five answers that meet the condition; missing answers
            do not. With its 95 % interval over requests.
    """

    ranker: str
    ability: str
    requests: int
    satisfaction: Figure


@dataclasses.dataclass(frozen=True)
class SuiteReport:
    """Results of rankers on a suite.

    Attributes:
        suite: Its name.
        rows: A row for each ranker and ability.
        flagged: Requests that must be warned of: how many there are, and were warned of as the
            suite says.
        false_warnings: Other requests with a warning.
        exact: Requests whose condition was read exactly: it selects the items of the suite's.
        wrong: Requests whose condition excludes an item that meets the suite's.
        graded: Requests with a condition.
    """

    suite: str
    rows: tuple[AbilityRow, ...]
    flagged: tuple[int, int]
    false_warnings: int
    exact: int = 0
    wrong: int = 0
    graded: int = 0


def suite_names() -> list[str]:
    """Returns the names of the suites of this package."""
    folder = resources.files("irec_jax.evaluation").joinpath("requests")
    return sorted(path.name.removesuffix(".toml") for path in folder.iterdir())


def read_suite(name: str) -> RequestSuite:
    """Reads a suite of this package by its name, or a TOML file by its path.

    Raises:
        InputError: There is no such suite or file, or it is not a suite.
    """
    if name in suite_names():
        path = resources.files("irec_jax.evaluation").joinpath("requests", f"{name}.toml")
        return parse_suite(name, tomllib.loads(path.read_text("utf-8")), name)
    path = Path(name)
    if not path.is_file():
        raise InputError(
            "there is no such suite or file", where=name, hint=nearest(name, suite_names())
        )
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"it is not TOML: {error}", where=name) from error
    return parse_suite(path.stem, raw, name)


def parse_suite(name: str, raw: Mapping[str, Any], where: str) -> RequestSuite:
    """Makes a suite from a parsed TOML file.

    Raises:
        InputError: A key is missing or unknown, or there is no request.
    """
    entries = raw.get("request")
    if not isinstance(entries, list) or not entries or not isinstance(raw.get("language"), str):
        hint = 'Begin with language = "en", and write each request as a table [[request]].'
        raise InputError("it has no language or no request", where=where, hint=hint)
    requests = []
    for number, entry in enumerate(entries, start=1):
        place = f"{where}: request {number}"
        is_table = isinstance(entry, dict) and all(isinstance(v, str) for v in entry.values())
        if not is_table or not entry.keys() <= _KEYS or not {"text", "ability"} <= entry.keys():
            hint = f"Its keys are {', '.join(sorted(_KEYS))}, all texts."
            raise InputError("a key is missing, unknown or not a text", where=place, hint=hint)
        if not entry.get("where") and not entry.get("warning"):
            hint = "Give it a condition (where), or the kind of a warning."
            raise InputError("nothing says what a good answer is", where=place, hint=hint)
        requests.append(SuiteRequest(**entry))
    return RequestSuite(name, raw["language"], tuple(requests))


def grade_suite(
    suite: RequestSuite,
    answerers: Mapping[str, Answerer],
    meets: Meets,
    *,
    warned: str,
    seed: int,
    resamples: int,
) -> SuiteReport:
    """Asks every ranker every request of a suite.

    Args:
        suite: The requests.
        answerers: The rankers by name.
        meets: Evaluates the conditions of the suite on the catalog.
        warned: The ranker whose warnings are counted.
        seed: Of the bootstrap.
        resamples: Draws of the bootstrap.

    Raises:
        InputError: A condition of the suite does not fit the catalog.
    """
    graded = [request for request in suite.requests if request.where]
    good = [meets(request.where) for request in graded]
    answers = {
        name: [answer(request.text) for request in suite.requests]
        for name, answer in answerers.items()
    }
    shares = {
        name: np.array(
            [
                [_share(answer.items, right)]
                for answer, right in zip(
                    (a for a, request in zip(given, suite.requests, strict=True) if request.where),
                    good,
                    strict=True,
                )
            ]
        )
        for name, given in answers.items()
    }
    rows = _rows(graded, shares, seed, resamples) if graded else ()
    asked = list(zip(suite.requests, answers[warned], strict=True))
    flagged = [(request, answer) for request, answer in asked if request.warning]
    read = [meets(answer.condition) for request, answer in asked if request.where]
    return SuiteReport(
        suite=suite.name,
        rows=rows,
        flagged=(len(flagged), sum(r.warning in a.warnings for r, a in flagged)),
        false_warnings=sum(bool(a.warnings) for r, a in asked if not r.warning),
        exact=sum(bool((mine == right).all()) for mine, right in zip(read, good, strict=True)),
        wrong=sum(bool((right & ~mine).any()) for mine, right in zip(read, good, strict=True)),
        graded=len(graded),
    )


def _rows(
    graded: Sequence[SuiteRequest],
    shares: Mapping[str, Float[np.ndarray, "requests 1"]],
    seed: int,
    resamples: int,
) -> tuple[AbilityRow, ...]:
    abilities = np.array([request.ability for request in graded])
    rows = []
    for ability in [*dict.fromkeys(abilities.tolist()), ALL]:
        chosen = np.ones(len(graded), bool) if ability == ALL else abilities == ability
        part = {name: values[chosen] for name, values in shares.items()}
        drawn = bootstrap_each(part, np.arange(chosen.sum()), resamples, seed)
        rows += [
            AbilityRow(name, ability, int(chosen.sum()), result.figures()[0])
            for name, result in drawn.items()
        ]
    return tuple(rows)


def _share(items: Sequence[int], right: Bool[np.ndarray, " items"]) -> float:
    """Share of the answers that are right; the catalog may have fewer right items than `TOP`."""
    possible = min(TOP, max(int(right.sum()), 1))
    return sum(bool(right[item]) for item in items[:TOP]) / possible
