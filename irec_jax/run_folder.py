"""Names of the files in a run folder, and the reading of its config."""

import json
from pathlib import Path
from typing import Any

from irec_jax.errors import InputError

CONFIG_FILE = "config.json"
"""The resolved experiment."""
CATALOG_FILE = "catalog.parquet"
"""The items, in the order of their numbers."""
CHECKSUMS_FILE = "checksums.json"
"""Checksums of the log, the catalog, the tokens and the packs."""
TOKENS_FOLDER = "tokens"
"""The tokenizer and the item index."""
PACKS_FOLDER = "packs"
"""Copies of the template packs."""
CHECKPOINTS_FOLDER = "checkpoints"
"""A folder for each saved step."""
FROZEN_FOLDER = "frozen"
"""The base weights of a run that trains adapters."""
METRICS_FOLDER = "metrics"
"""Metrics by step and by interval, TensorBoard events and profiler traces."""
LOG_FILE = "log.txt"
"""Messages to the user, with their times."""
LAUNCH_FOLDER = "launch"
"""The state of a launch and its job files."""
REPORTS_FOLDER = "reports"
"""A folder for each protocol, with the three files below."""
REPORT_FILE = "report.json"
REPORT_PAGE = "index.html"
RANKS_FILE = "ranks.parquet"


def read_config(run: Path) -> dict[str, Any]:
    """Reads `config.json` of a run as JSON.

    Raises:
        InputError: There is no such folder, it has no config, or the file is not a JSON object.
    """
    path = run / CONFIG_FILE
    if not path.is_file():
        raise InputError(
            f"the run has no {CONFIG_FILE}" if run.is_dir() else "there is no such run folder",
            where=str(run),
            hint="Give the folder that `irec tune` wrote.",
        )
    hint = "Copy it again from where the run was tuned."
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"it is not JSON: {error}", where=str(path), hint=hint) from error
    if not isinstance(config, dict):
        raise InputError("it is not a JSON object", where=str(path), hint=hint)
    return config
