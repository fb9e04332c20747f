"""Settings survive JSON, and what does not fit is refused with its key."""

import dataclasses
import enum
import json
import sys
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.settings import ImportedSettings, from_json, load_module, load_settings, to_json

pytestmark = pytest.mark.fast


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


@runtime_checkable
class Scorer(Protocol):
    @property
    def name(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class Constant:
    inner: Inner = Inner()
    colors: tuple[Color, ...] = (Color.RED,)
    name: str = "constant"


@dataclasses.dataclass(frozen=True)
class Scorers:
    """Settings that take others of any class.

    Attributes:
        several: A tuple of them.
        either: One of them, or a word.
    """

    several: tyro.conf.Suppress[tuple[Scorer | ImportedSettings, ...]] = ()
    either: tyro.conf.Suppress[Literal["log", "none"] | Scorer | ImportedSettings] = "log"
    number: int = 1


CONFIG_FILE = """
from __future__ import annotations
import dataclasses
from pathlib import Path

LOG = Path(__file__).with_name("runs.txt")
LOG.write_text(LOG.read_text() + "x" if LOG.exists() else "x")

@dataclasses.dataclass(frozen=True)
class Mine:
    weight: float = 1.0
    name: str = "mine"

scorer = Mine(weight=0.5)
"""


def round_trip(scorers: Scorers) -> Scorers:
    return from_json(Scorers, json.loads(json.dumps(to_json(scorers))), where="config.json")


def test_an_imported_class_is_stored_by_its_path_and_fields_and_stays_unimported():
    before = Scorers(several=(Constant(), Constant(name="other")), either=Constant())
    after = round_trip(before)
    expected = ImportedSettings(
        f"{__name__}:Constant",
        settings={
            "inner": {"rate": 0.5, "kind": "a"},
            "colors": ["red"],
            "name": "constant",
        },
    )
    assert after.several[0] == after.either == expected
    assert to_json(after) == to_json(before), "a run that is resumed writes the same config"
    assert round_trip(after) == after


@pytest.fixture
def this_module(monkeypatch):
    """Makes this module importable by its name, as a user's installed module is."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Constant.__module__])


def test_load_settings_imports_the_class_and_reads_its_fields(this_module):
    before = Constant(Inner(rate=2.0), (Color.BLUE,), "mine")
    after = round_trip(Scorers(several=(before,), either="none"))
    assert load_settings(after.several[0]) == before
    assert load_settings(after.either) == "none"
    assert load_settings(before) is before


def test_a_class_of_a_config_file_is_stored_with_the_file_and_run_again_only_when_loaded(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(CONFIG_FILE)
    mine = load_module(path).scorer
    after = round_trip(Scorers(either=mine)).either
    assert after == ImportedSettings("small:Mine", str(path), {"weight": 0.5, "name": "mine"})
    assert load_settings(after) == mine, "the module of this process is used"
    assert (tmp_path / "runs.txt").read_text() == "x"
    del sys.modules[type(mine).__module__]
    assert to_json(load_settings(after)) == {"weight": 0.5, "name": "mine"}
    assert (tmp_path / "runs.txt").read_text() == "xx"


def test_a_config_file_that_fails_leaves_no_module(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text("1 / 0")
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError):
        load_module(path)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"import": "no_such_module:X"}, "no_such_module:X cannot be imported: ModuleNotFound"),
        ({"import": "json:NoSuch"}, "json:NoSuch cannot be imported: AttributeError"),
        ({"import": "json:loads"}, "json:loads is not a dataclass"),
        ({"import": "small:X", "file": "gone.py"}, "small:X cannot be imported from gone.py: File"),
        ({"import": "irec_jax.settings:ImportedSettings", "settings": {"pth": 1}}, "unknown key"),
    ],
)
def test_a_class_that_cannot_be_loaded_is_one_error_with_key_and_path(data, message):
    value: Any = from_json(Scorers, {"several": [data]}, where="config.json").several[0]
    with pytest.raises(InputError, match=message) as error:
        load_settings(value)
    assert error.value.where == "config.json.several"
    assert error.value.hint


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"several": ["x"]}, "several: expected an instance of a dataclass"),
        ({"several": [{"import": "a:B", "fields": {}}]}, "several: unknown key 'fields'"),
        ({"either": "lgo"}, "(?s)either: 'lgo' is not possible.*'log'"),
        ({"either": {"import": 3}}, "either: .* is not possible"),
    ],
)
def test_what_names_no_class_is_refused_with_its_key(data, message):
    with pytest.raises(InputError, match=message):
        from_json(Scorers, data)


def test_settings_that_cannot_be_stored_are_refused():
    @dataclasses.dataclass(frozen=True)
    class Local:
        name: str = "local"

    with pytest.raises(InputError, match=r"key: the class .*Local cannot be imported by its name"):
        ImportedSettings.of(Local(), where="key")
    with pytest.raises(InputError, match="key: 3 is not an instance of a dataclass"):
        ImportedSettings.of(3, where="key")


def test_the_command_line_sets_the_leaves_beside_imported_settings(capsys):
    before = Scorers(several=(Constant(),), either=Constant())
    assert tyro.cli(Scorers, default=before, args=["--number", "2"]) == dataclasses.replace(
        before, number=2
    )
    with pytest.raises(SystemExit) as stop:
        tyro.cli(Scorers, default=before, args=["--help"])
    assert stop.value.code == 0
    assert "several" not in capsys.readouterr().out
