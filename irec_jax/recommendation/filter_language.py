"""The language of `where`: conditions on the columns of a catalog, as text and as a tree.

Text is parsed into small frozen dataclasses and compiled to a Polars expression; nothing of it is
evaluated as code. docs/filters.md has the grammar.
"""

import dataclasses
import datetime
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import polars as pl
from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedInput

from irec_jax.errors import InputError, nearest

MAX_CHARACTERS = 4_096
MAX_LEVELS = 64

# Polars types are `Any` in hints: beartype cannot read theirs.
WHERE = "where"
HINT = "Write a condition such as \"price < 80 and categories contains 'boots'\"."

Value = int | float | str | datetime.date
"""What a column is compared with; integers are of 64 bits, other numbers finite."""

Operator = Literal["=", "!=", "<", "<=", ">", ">="]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """`column operator value`."""

    column: str
    operator: Operator
    value: Value


@dataclasses.dataclass(frozen=True)
class Membership:
    """`column in (value, ...)`; there is at least one value."""

    column: str
    values: tuple[Value, ...]


@dataclasses.dataclass(frozen=True)
class Contains:
    """`column contains "text"`: a member of a list, or a part of a text."""

    column: str
    text: str


@dataclasses.dataclass(frozen=True)
class IsNull:
    """`column is null`."""

    column: str


@dataclasses.dataclass(frozen=True)
class And:
    """Two or more conditions joined by `and`."""

    conditions: "tuple[Condition, ...]"


@dataclasses.dataclass(frozen=True)
class Or:
    """Two or more conditions joined by `or`."""

    conditions: "tuple[Condition, ...]"


@dataclasses.dataclass(frozen=True)
class Not:
    """`not condition`."""

    condition: "Condition"


Condition = Comparison | Membership | Contains | IsNull | And | Or | Not


def parse(text: str) -> Condition:
    """Parses a condition; column names and types are not checked yet.

    Args:
        text: At most 4,096 characters and 64 levels of parentheses and `not`.

    Raises:
        InputError: It is too long, too deep, or not in the language.
    """
    if len(text) > MAX_CHARACTERS:
        what = f"the condition has {len(text):,} characters, at most {MAX_CHARACTERS:,} are read"
        hint = "Shorten it, for example with `column in (...)`, or pass a function from Python."
        raise InputError(what, where=WHERE, hint=hint)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        what = f"character {error.start + 1} is not valid Unicode"
        raise InputError(what, where=WHERE, hint="Write the condition in UTF-8.") from None
    try:
        parsed: Any = _parser().parse(text)
    except UnexpectedInput as error:
        raise InputError(_describe(error, text), where=WHERE, hint=HINT) from None
    return parsed.condition


def to_text(condition: Condition) -> str:
    """Writes a condition as text that `parse` reads back as an equal condition.

    >>> to_text(And((Comparison("price", "<", 80), Not(IsNull("brand")))))
    'price < 80 and brand is not null'
    """
    match condition:
        case Comparison(column, operator, value):
            return f"{column} {operator} {_literal(value)}"
        case Membership(column, values):
            return f"{column} in ({', '.join(map(_literal, values))})"
        case Contains(column, text):
            return f"{column} contains {_literal(text)}"
        case IsNull(column):
            return f"{column} is null"
        case Not(IsNull(column)):
            return f"{column} is not null"
        case Not(inner):
            return f"not {_enclosed(inner, And | Or)}"
        case And(conditions):
            return " and ".join(_enclosed(part, And | Or) for part in conditions)
        case Or(conditions):
            return " or ".join(_enclosed(part, Or) for part in conditions)


def to_polars(condition: Condition, schema: Mapping[str, Any]) -> pl.Expr:
    """Compiles a condition to an expression that is true, false or null for each row.

    A comparison with null is null, as in SQL; a filter keeps the rows where the result is true.

    Args:
        condition: What `parse` gives.
        schema: Name -> Polars type of the table's columns.

    Raises:
        InputError: A column does not exist, or its type does not allow what is asked of it.
    """
    match condition:
        case And(conditions):
            return pl.all_horizontal(*(to_polars(part, schema) for part in conditions))
        case Or(conditions):
            return pl.any_horizontal(*(to_polars(part, schema) for part in conditions))
        case Not(inner):
            return ~to_polars(inner, schema)
    column = _Column.find(condition.column, schema)
    match condition:
        case Comparison(_, operator, value):
            return _COMPARE[operator](column.expression, column.literal(value))
        case Membership(_, values):
            return column.member_of(values)
        case Contains(_, text):
            return column.contains(text)
        case IsNull():
            return column.expression.is_null()


_COMPARE = {
    "=": pl.Expr.eq,
    "!=": pl.Expr.ne,
    "<": pl.Expr.lt,
    "<=": pl.Expr.le,
    ">": pl.Expr.gt,
    ">=": pl.Expr.ge,
}


class _Column(NamedTuple):
    """A column that a condition names, and what its type allows."""

    name: str
    dtype: Any

    @classmethod
    def find(cls, name: str, schema: Mapping[str, Any]) -> "_Column":
        if name not in schema:
            what = f"there is no column '{name}'"
            raise InputError(what, where=WHERE, hint=nearest(name, schema))
        return cls(name, schema[name])

    @property
    def expression(self) -> pl.Expr:
        return pl.col(self.name)

    @property
    def kind(self) -> str:
        """`number`, `text`, `date` or `list`, or the type's own name."""
        if self.dtype.is_numeric():
            return "number"
        names = {pl.String: "text", pl.Date: "date", pl.List: "list"}
        return names.get(self.dtype.base_type(), str(self.dtype))

    def literal(self, value: Value) -> pl.Expr:
        return pl.lit(self._converted(value))

    def member_of(self, values: tuple[Value, ...]) -> pl.Expr:
        if self.kind == "number":  # Polars compares, but does not look up, numbers of other types.
            return pl.any_horizontal(*(self.expression == self.literal(v) for v in values))
        return self.expression.is_in([self._converted(value) for value in values])

    def contains(self, text: str) -> pl.Expr:
        if self.dtype == pl.List(pl.String):
            return self.expression.list.contains(text)
        if self.kind == "text":
            return self.expression.str.contains(text, literal=True)
        what = f"column '{self.name}' is a {self.kind}, and `contains` needs a text or a list"
        raise InputError(what, where=WHERE, hint="Compare it with =, < or >, or use `in`.")

    def _converted(self, value: Value) -> Value:
        """A value as one of the column's type."""
        given = _kind(value)
        if given == self.kind:
            return value
        if self.kind == "text" and isinstance(value, datetime.date):
            return value.isoformat()
        if self.kind == "date" and isinstance(value, str):
            return _date(value)
        what = f"column '{self.name}' is a {self.kind} and cannot be compared with the {given} "
        hints = {
            "list": f'Use `{self.name} contains "..."`.',
            "text": f'Put the value in quotes: "{value}".',
            "number": "Write a number without quotes.",
            "date": "Write a date as 2014-05-01.",
        }
        hint = hints.get(self.kind, "Pass a Polars expression from Python.")
        raise InputError(what + _literal(value), where=WHERE, hint=hint)


def _kind(value: Value) -> str:
    if isinstance(value, str):
        return "text"
    return "date" if isinstance(value, datetime.date) else "number"


def _literal(value: Value) -> str:
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return value.isoformat() if isinstance(value, datetime.date) else repr(value)


def _enclosed(condition: Condition, kinds: Any) -> str:
    text = to_text(condition)
    return f"({text})" if isinstance(condition, kinds) else text


def _date(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        what = f"'{text}' is not a date"
        raise InputError(what, where=WHERE, hint="Write a date as 2014-05-01.") from None


def _number(text: str) -> int | float:
    if text.lstrip("+-").isdigit():
        number = int(text)
        in_bounds = -(2**63) <= number < 2**63
    else:
        number = float(text)
        in_bounds = math.isfinite(number)
    if not in_bounds:
        hint = "Use an integer of 64 bits or a finite number."
        raise InputError(f"the number {text[:40]} is too large", where=WHERE, hint=hint)
    return number


_GRAMMAR = r"""
?start: any
?any: all (_OR all)*
?all: negated (_AND negated)*
?negated: _NOT negated -> negation
    | test
?test: "(" any ")" -> nested
    | NAME COMPARE value -> comparison
    | NAME _IN values -> membership
    | NAME _NOT _IN values -> no_membership
    | NAME _CONTAINS STRING -> contains
    | NAME _NOT _CONTAINS STRING -> contains_not
    | NAME _IS _NULL -> is_null
    | NAME _IS _NOT _NULL -> is_not_null
values: "(" value ("," value)* ")"
?value: NUMBER | STRING | DATE
COMPARE: "==" | "=" | "!=" | "<>" | "<=" | "<" | ">=" | ">"
DATE.2: /[0-9]{4}-[0-9]{2}-[0-9]{2}\b/
NUMBER: /[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?(?!\w)/i
STRING: /"([^"]|"")*"|'([^']|'')*'/
_AND.2: /and\b/i
_OR.2: /or\b/i
_NOT.2: /not\b/i
_IN.2: /in\b/i
_IS.2: /is\b/i
_NULL.2: /null\b/i
_CONTAINS.2: /contains\b/i
NAME: /[^\W\d]\w*/
%ignore /\s+/
"""
_SAME = {"==": "=", "<>": "!="}


class _Parsed(NamedTuple):
    """A condition, and how many levels of parentheses and `not` it has."""

    condition: Condition
    levels: int = 0


@v_args(inline=True)
class _Builder(Transformer):
    """Builds conditions from the bottom up while the parser reads, so without recursion."""

    def NAME(self, token: Token) -> str:
        return str(token)

    def STRING(self, token: Token) -> str:
        quote = token[0]
        return token[1:-1].replace(2 * quote, quote)

    def DATE(self, token: Token) -> datetime.date:
        return _date(token)

    def NUMBER(self, token: Token) -> int | float:
        return _number(token)

    def comparison(self, column: str, operator: Token, value: Value) -> _Parsed:
        same: Any = _SAME.get(operator, str(operator))
        return _Parsed(Comparison(column, same, value))

    def values(self, *values: Value) -> tuple[Value, ...]:
        return values

    def membership(self, column: str, values: tuple[Value, ...]) -> _Parsed:
        return _Parsed(Membership(column, values))

    def no_membership(self, column: str, values: tuple[Value, ...]) -> _Parsed:
        return _Parsed(Not(Membership(column, values)))

    def contains(self, column: str, text: str) -> _Parsed:
        return _Parsed(Contains(column, text))

    def contains_not(self, column: str, text: str) -> _Parsed:
        return _Parsed(Not(Contains(column, text)))

    def is_null(self, column: str) -> _Parsed:
        return _Parsed(IsNull(column))

    def is_not_null(self, column: str) -> _Parsed:
        return _Parsed(Not(IsNull(column)))

    def nested(self, inner: _Parsed) -> _Parsed:
        return _Parsed(inner.condition, _deeper(inner))

    def negation(self, inner: _Parsed) -> _Parsed:
        return _Parsed(Not(inner.condition), _deeper(inner))

    def all(self, *parts: _Parsed) -> _Parsed:
        return _Parsed(And(tuple(p.condition for p in parts)), max(p.levels for p in parts))

    def any(self, *parts: _Parsed) -> _Parsed:
        return _Parsed(Or(tuple(p.condition for p in parts)), max(p.levels for p in parts))


def _deeper(inner: _Parsed) -> int:
    if inner.levels == MAX_LEVELS:
        what = f"the condition has more than {MAX_LEVELS} levels of parentheses and `not`"
        raise InputError(what, where=WHERE, hint="Join conditions with `and` and `or` instead.")
    return inner.levels + 1


@functools.cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", transformer=_Builder())


def _describe(error: UnexpectedInput, text: str) -> str:
    """Says where a text leaves the language."""
    place = error.pos_in_stream
    if place is None or place >= len(text) or getattr(error, "token", Token("", "")).type == "$END":
        return "the condition ends too early" if text.strip() else "the condition is empty"
    return f"cannot be read from character {place + 1}: '{text[place : place + 20]}'"
