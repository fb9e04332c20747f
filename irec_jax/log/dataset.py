"""From the settings of an experiment to its log and its split."""

import dataclasses
from os import PathLike
from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

from irec_jax.errors import InputError
from irec_jax.log.events import BehaviorLog
from irec_jax.log.simulate import SimulateConfig, SimulatedWorld
from irec_jax.log.split import Split, SplitConfig, split_log
from irec_jax.settings import ImportedSettings, load_settings, name_or_settings

SIMULATED = "simulated"


@runtime_checkable
class LogReader(Protocol):
    """A frozen dataclass of the user that reads a behavior log."""

    def read(self) -> BehaviorLog:
        """Reads the log; equal settings and files give the same log."""
        ...


@dataclasses.dataclass(frozen=True)
class DataConfig(SplitConfig):
    """Which log is learned from, and how it is split.

    Attributes:
        log: The folder of a prepared log; `simulated` builds the embedded default in memory. In
            a config file, also settings of your own with `read()`.
        simulate: What the embedded default is like; only read for `simulated`.
    """

    log: Annotated[str | LogReader | ImportedSettings, name_or_settings()] = SIMULATED
    simulate: SimulateConfig = dataclasses.field(default_factory=SimulateConfig)

    def __post_init__(self) -> None:
        """Refuses impossible settings."""
        super().__post_init__()  # reads the fields of this class too
        if not self.log:
            hint = f"Give the folder of a prepared log, or {SIMULATED!r}."
            raise InputError("is empty", where="data.log", hint=hint)

    @property
    def folder(self) -> str:
        """The folder of a prepared log, "" for another source."""
        return self.log if isinstance(self.log, str) and self.log != SIMULATED else ""


def load_log(config: DataConfig | PathLike[str] | str) -> BehaviorLog:
    """Loads the prepared log, or builds the embedded default.

    Args:
        config: Which log, or the folder of a prepared one; what users did does not depend on an
            experiment's seed.

    Raises:
        InputError: The folder is missing or damaged.
    """
    if not isinstance(config, DataConfig):
        return BehaviorLog.load(Path(config))
    if config.log == SIMULATED:
        return SimulatedWorld.build(config.simulate).log()
    if isinstance(config.log, str):
        return BehaviorLog.load(Path(config.log))
    return load_settings(config.log).read()


def load_split(config: DataConfig, seed: int) -> Split:
    """Loads the log and cuts it; the same arguments give the same bytes.

    Args:
        config: Which log and which protocol.
        seed: Orders ties in time and numbers the items.

    Raises:
        InputError: See `load_log` and `split_log`.
    """
    return split_log(load_log(config), config, seed)
