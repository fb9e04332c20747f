"""`irec new`: a config file for a log, with settings that suit its size."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from irec_jax.errors import InputError
from irec_jax.experiment.suggestion import suggest, to_config_file
from irec_jax.files import write_text
from irec_jax.log.events import BehaviorLog
from irec_jax.terminal import Console


@dataclasses.dataclass(frozen=True)
class New:
    """Writes a commented config file for a prepared log: tasks, lengths, sizes and steps.

    Example: irec new shop.py --log data/shop

    Attributes:
        experiment: The Python file to write; it must not exist.
        log: The folder that `irec data prepare` wrote.
    """

    experiment: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EXPERIMENT")]
    log: Annotated[Path, tyro.conf.arg(metavar="LOG")]

    def run(self) -> None:
        """Writes the file.

        Raises:
            InputError: The file exists or does not end in .py, or the log is missing or too short.
        """
        where = str(self.experiment)
        if self.experiment.suffix != ".py":
            raise InputError("the name does not end in .py", where=where, hint="Name it shop.py.")
        if self.experiment.exists():
            raise InputError("the file exists", where=where, hint="Choose another name.")
        suggestion = suggest(BehaviorLog.load(self.log))
        name = self.experiment.stem
        text = to_config_file(suggestion, self.log.as_posix(), where, name)
        write_text(self.experiment, text)
        console = Console(highlight=False)
        console.print(f"{where} is written. Next: irec tune {where}", markup=False)
