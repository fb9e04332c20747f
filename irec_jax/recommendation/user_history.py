"""The history of a user in the log that a run was tuned on."""

from pathlib import Path

from irec_jax.errors import InputError
from irec_jax.log.dataset import DataConfig, load_split
from irec_jax.run_checksums import refuse_missing_log
from irec_jax.run_folder import CONFIG_FILE, read_config
from irec_jax.run_settings import from_run_json


def user_history(run: Path, user: int) -> tuple[str, ...]:
    """Returns the ids of all items of a user of the run's log, oldest first.

    Args:
        run: The run folder.
        user: The user's number in the log.

    Raises:
        InputError: The log is not at the path of the run's config, or has no such user.
    """
    config, path = read_config(run), run / CONFIG_FILE
    data = from_run_json(DataConfig, config.get("data", {}), where=f"{path}.data")
    refuse_missing_log(run, data.folder)
    split = load_split(data, int(config.get("seed", 0)))
    rows = (split.users == user).nonzero()[0]
    if not len(rows):
        examples = ", ".join(str(known) for known in split.users[:5])
        raise InputError(
            f"the run's log has no user {user}",
            where="user",
            hint=f"Give a user number such as {examples}, or a history for a new user.",
        )
    items = split.items[split.offsets[rows[0]] : split.offsets[rows[0] + 1]]
    return tuple(split.catalog["item"][items].to_list())
