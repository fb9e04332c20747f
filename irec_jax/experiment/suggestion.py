"""Settings that suit a log: the rules by which `irec new` chooses tasks, lengths, sizes and steps.

The rules are interpolated between the configs in `configs/`, whose results are measured.
"""

import dataclasses
import json
import math

import numpy as np
import polars as pl

from irec_jax.errors import InputError
from irec_jax.instructions.forms import TaskName
from irec_jax.log.events import BehaviorLog
from irec_jax.log.kcore import count_core

CORES = (5, 3, 2, 1)
"""Cores that are tried; the first that keeps `KEPT_SHARE` of the events is taken."""

KEPT_SHARE = 0.5
EXAMPLES_A_ROW = 2  # of 64 tokens, packed
PASSES = 2.5  # over all instructions, as in configs/quickstart.py
UNDERSTANDING = 0.2  # share of training examples, as in configs/quickstart.py
MIN_STEPS, MAX_STEPS = 500, 50_000
LARGE_CATALOG, LARGE_LOG = 20_000, 1_000_000


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Settings of a first experiment, and the counts that they follow from.

    Attributes:
        users: Users of the core.
        items: Items of the core.
        events: Events of the core.
        queries: Share of the events before which the user typed a query.
        core: For `data.core`.
        tasks: For `instructions.tasks`.
        vocabulary: For `tokens.vocabulary`.
        source_length: For `tokens.source_length`.
        is_large: Whether the model is `T5Config.tiny()`, not the smaller default.
        dropout: For `model.dropout`.
        steps: For `train.steps`.
        understanding: For `instructions.understanding`.
    """

    users: int
    items: int
    events: int
    queries: float
    core: int
    tasks: tuple[TaskName, ...]
    vocabulary: int
    source_length: int
    is_large: bool
    dropout: float
    steps: int
    understanding: float


def suggest(log: BehaviorLog) -> Suggestion:
    """Chooses settings for a log.

    Args:
        log: The log.

    Raises:
        InputError: No user has three events, so that nothing can be held out.
    """
    events = log.interactions
    users = events["user"].to_numpy()
    items = np.unique(events["item"].to_numpy(), return_inverse=True)[1]
    counts = {core: count_core(users, items, core) for core in CORES}
    core = next(
        (c for c in CORES if counts[c]["interactions"] >= KEPT_SHARE * max(len(users), 1)), 1
    )
    size = counts[core]
    if not len(users) or np.unique(users, return_counts=True)[1].max() < 3:
        raise InputError(
            "every user has fewer than three events",
            where="interactions",
            hint="Prepare a log with longer histories: two events of a user are held out.",
        )
    queries = events["query"].drop_nulls() if "query" in events.columns else []
    share = len(queries) / len(users)
    tasks = [TaskName.SEQUENTIAL_RECOMMENDATION]
    if share > 0:
        tasks += [TaskName.PRODUCT_SEARCH, TaskName.PERSONALIZED_SEARCH]
    instructions = size["interactions"] * (1 + 2 * share)
    steps = PASSES * instructions / (EXAMPLES_A_ROW * 32)
    lengths = [len(query.split()) for query in queries]
    words = np.percentile(lengths, 99) if lengths else 0
    is_large = size["items"] > LARGE_CATALOG or size["interactions"] > LARGE_LOG
    return Suggestion(
        users=size["users"],
        items=size["items"],
        events=size["interactions"],
        queries=share,
        core=core,
        tasks=tuple(tasks),
        vocabulary=_vocabulary(size["items"], has_queries=share > 0),
        source_length=64 if words <= 16 else 128,
        is_large=is_large,
        dropout=0.2 if size["interactions"] < 100_000 else 0.1,
        steps=_rounded(math.ceil(min(max(steps, MIN_STEPS), MAX_STEPS))),
        understanding=UNDERSTANDING if _has_values(log.items) else 0.0,
    )


def _has_values(items: pl.DataFrame) -> bool:
    """Whether requests could name a value that several items have."""
    named = [name for name in ("categories", "attributes") if name in items.columns]
    lists = any(items[name].explode().drop_nulls().is_duplicated().any() for name in named)
    return lists or ("brand" in items.columns and items["brand"].drop_nulls().is_duplicated().any())


def _vocabulary(items: int, *, has_queries: bool) -> int:
    """Returns more pieces for more titles; without queries only templates are text."""
    if not has_queries:
        return 512
    return 1_536 if items < LARGE_CATALOG else 4_096


def _rounded(steps: int) -> int:
    """Rounds up to two digits."""
    unit = 10 ** max(int(math.log10(steps)) - 1, 0)
    return math.ceil(steps / unit) * unit


TEMPLATE = '''"""A first experiment for {folder}.

Log:     {users:,} users, {items:,} items, {events:,} events in its {core}-core
Command: irec tune {file} && irec evaluate runs/{name}

`irec settings` lists every setting; each can also be given behind the command.
"""

from irec_jax import (
    DataConfig,
    Experiment,
    InstructionsConfig,
    OptimizerConfig,
    T5Config,
    TokensConfig,
    TrainConfig,
)

experiment = Experiment(
    # Users and items with fewer than {core} events are left out.
    data=DataConfig(log={log}, core={core}),
    # {queries_note}
    instructions=InstructionsConfig(
        tasks={tasks},
        domain="shop",  # chooses the words of prompts: shop, content, social or finance
        answer_items=8,
        understanding={understanding},  # conditions in requests: docs/requests.md
    ),
    # Each item is one token; prompts and answers are packed into rows of these lengths.
    tokens=TokensConfig(vocabulary={vocabulary}, source_length={source_length}, target_length=24),
    # Trained from random weights. For Flan-T5 see docs/pretrained.md.
    model={model}(dropout={dropout}),
    optimizer=OptimizerConfig(peak=3e-2, schedule="cosine", warmup={warmup}),
    # About {passes:.1f} passes over the instructions. Stop and resume at any time.
    train=TrainConfig(steps={steps}, log_every={log_every}, checkpoint_every={checkpoint_every}),
)
'''


def to_config_file(suggestion: Suggestion, log: str, file: str, name: str) -> str:
    """Writes a suggestion as a commented Python config file.

    Args:
        suggestion: The settings.
        log: The folder of the log.
        file: The path of the config file.
        name: The name of its run.
    """
    steps, queries = suggestion.steps, suggestion.queries
    note = f"{queries:.0%} of the events have a query, so search is trained too."
    examples = steps * 32 * EXAMPLES_A_ROW
    return TEMPLATE.format(
        **vars(suggestion) | {"tasks": json.dumps(suggestion.tasks)},
        log=json.dumps(log, ensure_ascii=False),
        folder=log,
        file=file,
        name=name,
        queries_note=note if queries else "The log has no queries; docs/teachers.md adds some.",
        model="T5Config.tiny" if suggestion.is_large else "T5Config",
        warmup=min(200, steps // 10),
        passes=examples / (suggestion.events * (1 + 2 * queries)),
        log_every=max(steps // 20, 10),
        checkpoint_every=max(steps // 4, 100),
    )
