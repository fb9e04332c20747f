"""Which requests are graded, for whom, against which right answer."""

import dataclasses
import hashlib
import zlib
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from irec_jax.bounds import DAYS, Range, check_settings
from irec_jax.errors import InputError
from irec_jax.instructions.tasks import Task, TaskName
from irec_jax.log.split import Role, Split

MIN_RESAMPLES = 100


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is graded. The protocol is the split's: see `data.protocol`.

    Attributes:
        tasks: The tasks to grade; none named = those that the model was tuned on.
        role: Whose targets are asked for. Settings are chosen on `validation` only.
        max_requests: A random sample of so many requests a task; 0 = all of them.
        resamples: Bootstrap samples of the users behind each interval.
        recent_days: The window of the recent popularity baseline.
        ablations: Also grade the model with its instructions taken away or changed.
    """

    tasks: tuple[TaskName, ...] = ()
    role: Literal["validation", "test"] = "test"
    max_requests: int = 0
    resamples: int = 1000
    recent_days: float = 7.0
    ablations: bool = False

    def __post_init__(self) -> None:
        check_settings(
            self,
            "evaluation.",
            max_requests=Range(0, 10**9, "Set it to 0 for all requests."),
            resamples=Range(MIN_RESAMPLES, 10**6),
            recent_days=DAYS,
        )
        if len(set(self.tasks)) < len(self.tasks):
            names = ", ".join(task.value for task in self.tasks)
            raise InputError(f"a task is named twice in {names}", where="evaluation.tasks")


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationRequests:
    """The requests of one task, as positions of their targets in the split.

    Attributes:
        task: The task that asks.
        positions: `[requests]` int64 event positions, ascending.
        users: `[requests]` int64, the log's user number of each.
        targets: `[requests]` int32, the right item of each.
        warm: `[requests]` whether the right item has a training event.
        eligible: How many requests there were before sampling.
    """

    task: Task
    positions: Int[np.ndarray, " requests"]
    users: Int[np.ndarray, " requests"]
    targets: Int[np.ndarray, " requests"]
    warm: Bool[np.ndarray, " requests"]
    eligible: int

    def __len__(self) -> int:
        return len(self.positions)


def select_requests(
    task: Task, split: Split, config: EvaluationConfig, seed: int
) -> EvaluationRequests:
    """Finds the requests of a task whose targets have the config's role.

    The sample of `max_requests` is uniform over requests and depends on the seed, the task and
    the number of eligible requests only, so two models are always asked the same.
    """
    positions = task.eligible(split, Role[config.role.upper()])
    eligible = len(positions)
    if 0 < config.max_requests < eligible:
        rng = np.random.default_rng([seed, zlib.crc32(task.name.value.encode())])
        chosen = rng.choice(eligible, config.max_requests, replace=False)
        positions = positions[np.sort(chosen)]
    users = split.users[split.event_users()[positions]]
    targets = split.items[positions]
    warm = split.warm_items()[targets]
    return EvaluationRequests(task, positions, users, targets, warm, eligible)


def split_hash(split: Split) -> str:
    """A sha256 of everything in a split that an evaluation depends on.

    Two reports with the same hash (and the same settings) asked the same questions.
    """
    digest = hashlib.sha256(split.protocol.value.encode())
    digest.update("\0".join(split.catalog["item"].to_list()).encode())
    for array in (split.users, split.offsets, split.items, split.times, split.roles):
        digest.update(np.ascontiguousarray(array, np.int64).astype("<i8").tobytes())
    digest.update("\0".join(split.queries).encode())
    return digest.hexdigest()


def split_counts(split: Split) -> dict[str, int]:
    """How large a split is, and how many events play which role."""
    roles = {f"{role.name.lower()}_events": int((split.roles == role).sum()) for role in Role}
    return {
        "users": len(split.users),
        "items": split.num_items,
        "events": len(split.items),
        **roles,
    }
