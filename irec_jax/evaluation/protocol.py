"""Evaluation settings, the requests of a task, and the checksum of a split."""

import dataclasses
import hashlib
import zlib
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import tyro
from jaxtyping import Bool, Int

from irec_jax.bounds import Range, check_settings
from irec_jax.errors import InputError
from irec_jax.evaluation.figures import RESERVED_NAMES
from irec_jax.instructions.forms import Ranker, TaskName
from irec_jax.instructions.tasks import Task
from irec_jax.log.split import Role, Split
from irec_jax.settings import ImportedSettings

MIN_RESAMPLES = 100


@runtime_checkable
class Baseline(Protocol):
    """Settings of a baseline: an instance of a frozen dataclass."""

    @property
    def name(self) -> str:
        """The name of its row in a report."""
        ...

    def build(self, split: Split) -> Ranker:
        """Builds the ranker from the training events of a split."""
        ...


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Tasks, requests and baselines of an evaluation. The protocol is `data.protocol`.

    Attributes:
        tasks: The tasks to evaluate; empty for those that the model was tuned on.
        role: The role of the targets. Settings are chosen on `validation` only.
        max_requests: Size of a random sample of the requests of each task; 0 for all requests.
        resamples: Bootstrap samples of the users for each interval.
        baselines: Baselines in the order of their rows, set in the config file, such as
            `(*DEFAULT_BASELINES, Markov(window=3, name="markov 3"))`; empty for
            `irec_jax.baselines.defaults.DEFAULT_BASELINES`.
    """

    tasks: tuple[TaskName, ...] = ()
    role: Literal["validation", "test"] = "test"
    max_requests: int = 0
    resamples: int = 1000
    baselines: tyro.conf.Suppress[tuple[Baseline | ImportedSettings, ...]] = ()

    def __post_init__(self) -> None:
        check_settings(
            self,
            "evaluation.",
            max_requests=Range(0, 10**9, "Set it to 0 for all requests."),
            resamples=Range(MIN_RESAMPLES, 10**6),
        )
        if len(set(self.tasks)) < len(self.tasks):
            names = ", ".join(task.value for task in self.tasks)
            hint = "List each task once."
            raise InputError(f"a task is repeated: {names}", where="evaluation.tasks", hint=hint)
        _check_baselines(self.baselines)


def _check_baselines(baselines: tuple[Baseline | ImportedSettings, ...]) -> None:
    """Refuses what is not a baseline, what cannot be stored, and names that are taken."""
    where, taken = "evaluation.baselines", set(RESERVED_NAMES)
    for baseline in baselines:
        if isinstance(baseline, ImportedSettings):
            continue  # its name is checked when the class is imported
        if not isinstance(baseline, Baseline):
            hint = "Give an instance of a dataclass with `name` and `build(split)`."
            raise InputError(f"{baseline!r} is not a baseline", where=where, hint=hint)
        ImportedSettings.of(baseline, where=where)
        if baseline.name in taken:
            hint = "Set the baseline's `name` to another one."
            raise InputError(f"the name '{baseline.name}' is taken", where=where, hint=hint)
        taken.add(baseline.name)


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationRequests:
    """The requests of one task, as positions of their targets in the split.

    Attributes:
        task: The task of the requests.
        positions: `[requests]` int64 event positions, ascending.
        users: `[requests]` int64, the log's user number of each request.
        targets: `[requests]` int32, the target item of each request.
        warm: `[requests]` whether the target has a training event.
        eligible: Number of requests before sampling.
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
    """Selects the requests of a task whose targets have the config's role.

    The sample of `max_requests` is uniform over requests. It depends on the seed, the task and the
    number of eligible requests only, so all models get the same requests.
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
    """SHA-256 of everything in a split that an evaluation depends on.

    Two reports with the same hash and the same settings have the same requests.
    """
    digest = hashlib.sha256(split.protocol.value.encode())
    digest.update("\0".join(split.catalog["item"].to_list()).encode())
    for array in (split.users, split.offsets, split.items, split.times, split.roles):
        digest.update(np.ascontiguousarray(array, np.int64).astype("<i8").tobytes())
    digest.update("\0".join(split.queries).encode())
    return digest.hexdigest()


def split_counts(split: Split) -> dict[str, int]:
    """Numbers of users, items and events of a split, and of events by role."""
    roles = {f"{role.name.lower()}_events": int((split.roles == role).sum()) for role in Role}
    return {
        "users": len(split.users),
        "items": split.num_items,
        "events": len(split.items),
        **roles,
    }
