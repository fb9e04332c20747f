"""Settings that a run has stored, which another version of the package may have written."""

from typing import Any, TypeVar

from irec_jax.errors import InputError
from irec_jax.settings import from_json

T = TypeVar("T")


def from_run_json(cls: type[T], data: Any, *, where: str) -> T:
    """Reads settings that a run has stored, as `from_json`.

    Args:
        cls: The dataclass to build.
        data: The parsed JSON.
        where: The file and key of `data`, for messages.

    Raises:
        InputError: As `from_json`; the hint names another version of the package as a cause.
    """
    try:
        return from_json(cls, data, where=where)
    except InputError as error:
        version = "If another version of irec-jax tuned the run, use that one, or tune again."
        hint = f"{error.hint} {version}".strip()
        raise InputError(error.problem, where=error.where, hint=hint) from None
