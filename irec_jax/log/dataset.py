"""From the settings of an experiment to its log and its split."""

import dataclasses
from pathlib import Path

from irec_jax.errors import InputError
from irec_jax.log.events import BehaviorLog
from irec_jax.log.simulate import SimulateConfig, World
from irec_jax.log.split import Split, SplitConfig, split_log

SIMULATED = "simulated"


@dataclasses.dataclass(frozen=True)
class DataConfig(SplitConfig):
    """Which log is learned from, and how it is split.

    Attributes:
        log: The folder of a prepared log; `simulated` builds the embedded default in memory.
        simulate: What the embedded default is like; only read for `simulated`.
    """

    log: str = SIMULATED
    simulate: SimulateConfig = dataclasses.field(default_factory=SimulateConfig)

    def __post_init__(self) -> None:
        """Refuses impossible settings."""
        super().__post_init__()  # reads the fields of this class too
        if not self.log:
            hint = f"give the folder of a prepared log, or {SIMULATED!r}"
            raise InputError("is empty", where="data.log", hint=hint)


def load_log(config: DataConfig) -> BehaviorLog:
    """Loads the prepared log, or builds the embedded default.

    Args:
        config: Which log; what users did does not depend on an experiment's seed.

    Raises:
        InputError: The folder is missing or damaged.
    """
    if config.log == SIMULATED:
        return World.build(config.simulate).log()
    return BehaviorLog.load(Path(config.log))


def load_split(config: DataConfig, seed: int) -> Split:
    """Loads the log and cuts it; the same arguments give the same bytes.

    Args:
        config: Which log and which protocol.
        seed: Orders ties in time and numbers the items.

    Raises:
        InputError: See `load_log` and `split_log`.
    """
    return split_log(load_log(config), config, seed)
