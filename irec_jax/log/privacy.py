"""Pseudonyms for users, and forgetting one."""

import dataclasses

import numpy as np
import polars as pl

from irec_jax.errors import InputError
from irec_jax.log.events import BehaviorLog

FORGOTTEN = "user forgotten on request"

_PSEUDONYMS = 3  # the stream of random numbers that belongs to this draw alone


def pseudonyms(names: pl.Series, seed: int) -> pl.Series:
    """Gives every user name a random number; the mapping is kept nowhere.

    Args:
        names: `[events]` user names of any type; a null stays a null.
        seed: Equal names and seeds give equal numbers. With both, the mapping can be
            reproduced, so the seed must be secret if the names are.

    Returns:
        `[events]` int64 named `user`: `0..users - 1`, dealt at random.
    """
    # By sorted names and not by first appearance, so that the order of the rows says nothing.
    known = names.drop_nulls().unique().sort()
    dealt = np.random.default_rng([seed, _PSEUDONYMS]).permutation(len(known))
    mapping = pl.DataFrame({"name": known, "user": pl.Series(dealt, dtype=pl.Int64)})
    joined = names.to_frame("name").join(mapping, on="name", how="left", maintain_order="left")
    return joined["user"]


def forget_user(log: BehaviorLog, user: int) -> BehaviorLog:
    """Gives the log without the interactions of one user; counts and manifest follow.

    Args:
        log: The log.
        user: The user's number in the log.

    Raises:
        InputError: The log has no such user, or no other.
    """
    stays = log.interactions["user"] != user
    forgotten = int((~stays).sum())
    if forgotten == 0:
        raise InputError(f"there is no user {user}", where="interactions", hint="Check the number.")
    if forgotten == log.interactions.height:
        hint = "Delete the log's folder."
        raise InputError(f"user {user} is the only one", where="interactions", hint=hint)
    dropped = dict(log.manifest.dropped)
    dropped[FORGOTTEN] = dropped.get(FORGOTTEN, 0) + forgotten
    manifest = dataclasses.replace(log.manifest, dropped=dropped)
    return BehaviorLog(log.items, log.interactions.filter(stays), manifest).recounted()
