"""Which examples share a row: vector bin packing of encoder and decoder lengths together."""

import numpy as np
from jaxtyping import Int


def pack(
    source: Int[np.ndarray, " examples"],
    target: Int[np.ndarray, " examples"],
    source_length: int,
    target_length: int,
) -> list[list[int]]:
    """Groups examples into rows, a row at a time, greedily.

    A row starts with the largest example left and then takes, of those that still fit on both
    sides, the one that leaves the least, as a weighted square of the two free shares: the
    norm-based greedy of Panigrahy et al. 2011, "Heuristics for Vector Bin Packing", section 3.
    The weights are the mean demand on each side, so the side that runs out first counts most.

    Args:
        source: Encoder tokens of each example, 1 to `source_length`.
        target: Decoder tokens of each example, 1 to `target_length`.
        source_length: Encoder columns of a row.
        target_length: Decoder columns of a row.

    Returns:
        Example numbers of each row; every example is in exactly one.
    """
    if not len(source):
        return []
    share = np.stack([source / source_length, target / target_length])
    order = np.argsort(-share.max(axis=0), kind="stable")
    need_source, need_target, share = source[order], target[order], share[:, order]
    weight = np.sqrt(share.mean(axis=1, keepdims=True))
    left = len(order)
    first = 0
    rows = []
    used = np.zeros(left, bool)
    while left:
        while used[first]:
            first += 1
        free = np.array([source_length, target_length])
        chosen, row = first, []
        while True:
            row.append(int(order[chosen]))
            used[chosen] = True
            free -= (need_source[chosen], need_target[chosen])
            fits = ~used & (need_source <= free[0]) & (need_target <= free[1])
            if not fits.any():
                break
            gap = weight * ((free / (source_length, target_length))[:, None] - share)
            waste = np.where(fits, (gap * gap).sum(axis=0), np.inf)
            chosen = int(np.argmin(waste))
        left -= len(row)
        rows.append(row)
    return rows
