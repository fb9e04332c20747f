"""`irec data prepare` and `irec data describe`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from irec_jax.bounds import SEED, check_between
from irec_jax.errors import InputError, nearest
from irec_jax.files import real_path, write_text
from irec_jax.log.describe import describe
from irec_jax.log.description_chart import draw
from irec_jax.log.events import COUNTED_CORE, BehaviorLog, check_log_folder
from irec_jax.log.readers.amazon import read_amazon
from irec_jax.log.readers.mind import read_mind
from irec_jax.log.readers.movielens import read_movielens
from irec_jax.log.readers.movietweetings import read_movietweetings
from irec_jax.log.readers.recbole import read_recbole
from irec_jax.log.readers.table import TableConfig, read_table
from irec_jax.log.simulate import SimulateConfig, SimulatedWorld
from irec_jax.terminal import Console

_SIZES = ("users", "items", "interactions")

_READERS = {
    "movietweetings": read_movietweetings,
    "movielens": read_movielens,
    "amazon": read_amazon,
    "mind": read_mind,
    "recbole": read_recbole,
}
_TFDS = "tfds:"
_SOURCES = ("simulated", *_READERS, f"{_TFDS}NAME", "table")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepare:
    """Makes a behavior log from a source.

    User names become random numbers here; the mapping is not written anywhere.

    For example:

    irec data prepare simulated --out logs/shop --simulate.users 5000

    irec data prepare movietweetings ../data/movietweetings-100k --out logs/films

    irec data prepare amazon ../data/Beauty --out logs/beauty

    irec data prepare tfds:movielens/100k-ratings ~/tensorflow_datasets --out logs/ml-100k

    irec data prepare table ../data/mine --out logs/mine --table.columns.time timestamp

    Attributes:
        source: The source of the data: simulated, movietweetings, movielens, amazon, mind,
            recbole, tfds:NAME (as tfds:movielens/1m-ratings), or table, which reads csv, tsv,
            jsonl and parquet, plain or gz.
        path: The folder that holds the source's files; `simulated` needs none.
        out: The folder to write; an older behavior log in it is replaced.
        overwrite: Replace an older behavior log even where its folder holds other files, too.
        seed: Seed of the pseudonyms. Keep it secret if user names are sensitive.
        simulate: Settings of the simulated world (source `simulated`).
        table: Files and columns (source `table`).
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")] = ""
    out: Path
    overwrite: bool = False
    seed: int = 0
    simulate: SimulateConfig = dataclasses.field(default_factory=SimulateConfig)
    table: TableConfig = dataclasses.field(default_factory=TableConfig)

    def run(self) -> None:
        """Reads the source, writes the folder and prints what it holds.

        Raises:
            InputError: The source cannot be read, or the folder cannot be written.
        """
        self._refuse_unknown_source()
        check_between(self.seed, SEED, "--seed")
        # Checked before the read, which may take long.
        self._refuse_to_replace_the_source()
        check_log_folder(self.out, overwrite=self.overwrite)
        log = self._read()
        log.save(self.out, overwrite=self.overwrite)
        console = Console(highlight=False)
        console.print(_summary(log))
        for kind, names in log.manifest.settings.get("unused_columns", {}).items():
            if names:
                console.print(
                    f"columns of {kind} that were not used: {', '.join(names)}", markup=False
                )
        console.print(f"written to {self.out}", markup=False, soft_wrap=True)

    def _refuse_unknown_source(self) -> None:
        if self.source not in _SOURCES and not self.source.startswith(_TFDS):
            hint = nearest(self.source, _SOURCES)
            raise InputError(f"no source is called {self.source!r}", where="SOURCE", hint=hint)

    def _refuse_to_replace_the_source(self) -> None:
        out = real_path(self.out)
        for name in filter(None, (self.path, self.table.interactions, self.table.items)):
            source = real_path(Path(name))
            if out == source or out in source.parents:
                what = f"the source {name} is inside and would be lost"
                raise InputError(what, where=f"--out {self.out}", hint="Write to another folder.")

    def _read(self) -> BehaviorLog:
        if self.source == "simulated":
            if self.path:
                hint = "Leave the path out; --out names the folder to write."
                raise InputError("simulated reads nothing", where=self.path, hint=hint)
            return SimulatedWorld.build(self.simulate).log()
        if self.source == "table":
            return read_table(Path(self.path) if self.path else None, self.table, self.seed)
        if not self.path:
            hint = f"Run `irec data prepare {self.source} PATH --out DIR`."
            raise InputError("the folder of the files is missing", where="PATH", hint=hint)
        if self.source.startswith(_TFDS):
            # Importing TFDS takes a second, which the others should not wait for.
            from irec_jax.log.readers.tfds import read_tfds

            return read_tfds(self.source.removeprefix(_TFDS), Path(self.path), self.seed)
        return _READERS[self.source](Path(self.path), self.seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Describe:
    """Prints counts, lengths, ties, duplicates and leaks of a behavior log as a table.

    Nothing is written unless --picture names a file. For example:

    irec data describe logs/films --picture films.svg

    Attributes:
        log: The folder of a prepared log.
        picture: An SVG file to write: the lengths of histories and the popularity of items.
    """

    log: Annotated[Path, tyro.conf.Positional]
    picture: Path | None = None

    def run(self) -> None:
        """Prints the table, and writes the picture if its file is named.

        Raises:
            InputError: The folder is missing or damaged.
        """
        description = describe(BehaviorLog.load(self.log))
        table = Table("quantity", "value", "meaning", title=f"{description.source}: {self.log}")
        for row in description.rows():
            table.add_row(*row)
        console = Console(highlight=False)
        console.print(table)
        if self.picture is not None:
            write_text(self.picture, draw(description))
            console.print(f"picture written to {self.picture}", markup=False, soft_wrap=True)


def _summary(log: BehaviorLog) -> Table:
    manifest = log.manifest
    table = Table("", *_SIZES, title=f"behavior log from {manifest.source}")
    for name, prefix in (("all", ""), (f"after the {COUNTED_CORE}-core", f"core{COUNTED_CORE}_")):
        table.add_row(name, *(f"{manifest.counts[prefix + size]:,}" for size in _SIZES))
    dropped = manifest.dropped or {"nothing": 0}
    reasons = "; ".join(
        f"{reason}: {rows:,}" if rows else reason for reason, rows in dropped.items()
    )
    table.caption = f"dropped or repaired rows: {reasons}"
    return table
