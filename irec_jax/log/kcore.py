"""The k-core: only users and items with at least k events among what remains."""

import numpy as np
from jaxtyping import Bool, Int


def filter_core(
    users: Int[np.ndarray, " events"], items: Int[np.ndarray, " events"], core: int
) -> Bool[np.ndarray, " events"]:
    """Marks the events that remain when rare users and items are dropped until none is left.

    Args:
        users: `[events]` any integers.
        items: `[events]` any integers.
        core: The least number of events of each remaining user and item.

    Returns:
        `[events]` bool; the largest such set, so the order of dropping does not matter.

    >>> filter_core(np.array([0, 0, 1, 1, 2]), np.array([5, 6, 5, 6, 7]), 2).tolist()
    [True, True, True, True, False]
    """
    user_rows, item_rows = _countable(users), _countable(items)
    keep = np.arange(len(users))
    while True:
        enough_of_user = np.bincount(user_rows[keep]) >= core
        enough_of_item = np.bincount(item_rows[keep]) >= core
        stays = enough_of_user[user_rows[keep]] & enough_of_item[item_rows[keep]]
        if stays.all():
            break
        keep = keep[stays]
    mask = np.zeros(len(users), bool)
    mask[keep] = True
    return mask


def count_core(
    users: Int[np.ndarray, " events"], items: Int[np.ndarray, " events"], core: int
) -> dict[str, int]:
    """Counts `users`, `items` and `interactions` of the k-core."""
    keep = filter_core(users, items, core)
    return {
        "users": len(np.unique(users[keep])),
        "items": len(np.unique(items[keep])),
        "interactions": int(keep.sum()),
    }


def _countable(values: Int[np.ndarray, " events"]) -> Int[np.ndarray, " events"]:
    """Renames integers so that `np.bincount` can count them, without sorting where it can."""
    if len(values) and int(values.max()) - int(values.min()) < 4 * len(values):
        return values - values.min()
    return np.unique(values, return_inverse=True)[1]
