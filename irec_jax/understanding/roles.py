"""Roles of spans: what a request says of a value or a number."""

import enum

from irec_jax.understanding.lexicon import Field


class Kind(enum.StrEnum):
    """Kinds of spans; prompts show the kind in the place of the words."""

    CATEGORY = "<category>"
    BRAND = "<brand>"
    ATTRIBUTE = "<attribute>"
    PRICE = "<price>"
    YEAR = "<year>"
    LEVEL = "<level>"


class RequestRole(enum.StrEnum):
    """Roles of spans in a request; the values are the answers of the model."""

    WANTED = "wanted"
    EXCLUDED = "excluded"
    BELOW = "below"
    MOST = "most"
    ABOVE = "above"
    LEAST = "least"
    ABOUT = "about"
    OPEN = "open"


NUMBER_KINDS = (Kind.PRICE, Kind.YEAR)

_VALUE_ROLES = (RequestRole.WANTED, RequestRole.EXCLUDED, RequestRole.OPEN)
_NUMBER_ROLES = (
    RequestRole.BELOW,
    RequestRole.MOST,
    RequestRole.ABOVE,
    RequestRole.LEAST,
    RequestRole.ABOUT,
    RequestRole.OPEN,
)

KIND_OF_FIELD = {
    Field.CATEGORY: Kind.CATEGORY,
    Field.BRAND: Kind.BRAND,
    Field.ATTRIBUTE: Kind.ATTRIBUTE,
}


def roles_of(kind: Kind) -> tuple[RequestRole, ...]:
    """Returns the roles that a span of a kind can have: the legal answers."""
    return _NUMBER_ROLES if kind in NUMBER_KINDS else _VALUE_ROLES
