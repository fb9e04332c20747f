"""Reading parquet files."""

from pathlib import Path

import polars as pl

from irec_jax.errors import InputError


def read_parquet(path: Path, hint: str) -> pl.DataFrame:
    """Reads one parquet file, whatever characters its path has.

    Polars alone takes `[`, `*` and `?` for a pattern and reads other files.

    Args:
        path: The file.
        hint: What the user can do about a damaged file, for the message.

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        return pl.read_parquet(path, glob=False, hive_partitioning=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        what = f"cannot be read: {str(error).splitlines()[0]}"
        raise InputError(what, where=str(path), hint=hint) from error
