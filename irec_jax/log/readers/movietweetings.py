"""Reads MovieTweetings: film ratings taken from tweets, with IMDb titles and genres."""

from pathlib import Path

from irec_jax.errors import InputError
from irec_jax.log.events import BehaviorLog, LogManifest
from irec_jax.log.readers.source import find_table, open_table
from irec_jax.log.readers.table import Columns, TableConfig, log_of

# The 100K snapshot of 2013, unpacked, as published; its 5-core is 4,333 / 2,414 / 68,055.
SNAPSHOT_INTERACTIONS = "62b67d88f9ee8425d7d395185f4e76a93add2cda78bceafe16a8ff0c853d6b82"
SNAPSHOT_ITEMS = "d581020ed08e00f75243da9c24bb7bd11c3406e2c8fb0cea2cf2c8da0825e3ac"
SNAPSHOT_COUNTS = {
    "users": 16_554,
    "items": 10_506,
    "interactions": 100_000,
    "core5_users": 4_333,
    "core5_items": 2_414,
    "core5_interactions": 68_055,
}

_CONFIG = TableConfig(
    columns=Columns(time="timestamp", released="year"),
    kind="rating",
    license="MIT, (c) 2013 Simon Dooms; titles, years and genres come from IMDb",
)


def read_movietweetings(folder: Path, seed: int) -> BehaviorLog:
    """Reads a folder with `interactions.tsv.gz` and `items.tsv.gz`.

    Args:
        folder: Interactions have the columns user, item, rating (0 to 10) and timestamp; items
            have item (IMDb numbers, kept as text with their leading zeros), title, categories
            (joined by `|`) and year.
        seed: Deals the users' pseudonyms.

    Raises:
        InputError: A file cannot be read, or it is the 100K snapshot by checksum or size, and
            its counts are not the published ones.
    """
    hint = "Give the folder that holds interactions.tsv.gz and items.tsv.gz."
    interactions = open_table(find_table(folder, "interactions", hint))
    items = open_table(find_table(folder, "items", hint))
    log = log_of(interactions, items, _CONFIG, seed, known=LogManifest("movietweetings"))
    known = (
        interactions.sha256 == SNAPSHOT_INTERACTIONS
        or items.sha256 == SNAPSHOT_ITEMS
        or interactions.table.height == SNAPSHOT_COUNTS["interactions"]
    )
    if known and log.manifest.counts != SNAPSHOT_COUNTS:
        wrong = [
            f"{log.manifest.counts[name]:,} {name.replace('_', ' ')}, published are {count:,}"
            for name, count in SNAPSHOT_COUNTS.items()
            if log.manifest.counts[name] != count
        ]
        hint = "Fetch the 100K snapshot again."
        raise InputError("; ".join(wrong), where=str(folder), hint=hint)
    return log
