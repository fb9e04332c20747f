"""Settings survive JSON, and what does not fit is refused with its key."""

import dataclasses
import enum
import json
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.settings import from_json, to_json


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    colors: tuple[Color, ...] = ()
    folder: Path | None = None
    number: int = 1
    on: bool = False


outers = st.builds(
    Outer,
    inner=st.builds(Inner, rate=st.floats(-10, 10), kind=st.sampled_from(["a", "b"])),
    colors=st.lists(st.sampled_from(Color)).map(tuple),
    folder=st.none() | st.sampled_from([Path("x/y"), Path("z")]),
    number=st.integers(),
    on=st.booleans(),
)


@given(outers)
def test_settings_survive_json(outer: Outer):
    assert from_json(Outer, json.loads(json.dumps(to_json(outer)))) == outer


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"inner": {"rat": 1.0}}, "unknown key 'rat'.*Did you mean 'rate'"),
        ({"inner": {"kind": "c"}}, "inner.kind: 'c' is not possible"),
        ({"colors": ["rd"]}, "colors: 'rd' is not possible.*Did you mean 'red'"),
        ({"number": "three"}, "number: expected int, got 'three'"),
        ({"number": True}, "number: expected int"),
        ({"colors": "red"}, "colors: expected a list"),
        ({"inner": 3}, "inner: expected an object"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_key(data: dict, message: str):
    with pytest.raises(InputError, match="(?s)" + message):
        from_json(Outer, data)
