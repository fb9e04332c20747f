"""Roles: what a word of a request is for, as the model is asked and answers."""

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


class Role(enum.StrEnum):
    """What a request says of a span; the values are the answers of the model."""

    WANTED = "wanted"
    EXCLUDED = "excluded"
    BELOW = "below"
    MOST = "most"
    ABOVE = "above"
    LEAST = "least"
    ABOUT = "about"
    OPEN = "open"


NUMBER_KINDS = (Kind.PRICE, Kind.YEAR)

_VALUE_ROLES = (Role.WANTED, Role.EXCLUDED, Role.OPEN)
_NUMBER_ROLES = (Role.BELOW, Role.MOST, Role.ABOVE, Role.LEAST, Role.ABOUT, Role.OPEN)

KIND_OF_FIELD = {
    Field.CATEGORY: Kind.CATEGORY,
    Field.BRAND: Kind.BRAND,
    Field.ATTRIBUTE: Kind.ATTRIBUTE,
}


def roles_of(kind: Kind) -> tuple[Role, ...]:
    """Returns the roles that a span of a kind can have: the legal answers."""
    return _NUMBER_ROLES if kind in NUMBER_KINDS else _VALUE_ROLES
