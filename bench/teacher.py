"""Recall of BM25 with queries that a tuned model generates for users outside of its training data.

    python bench/teacher.py configs/teacher.py bench-teacher

Every fifth user is held out of the experiment's log, at random. A run is tuned on the others
(`irec tune`, resumed if it was stopped) and generates preferences and queries for those held out
(`irec teach`). BM25 searches the items' texts with each query about an event. Prints the Recall@10
of the event's item, ties count half, and the same for queries that the held-out users typed, with
95 % intervals (bootstrap over users).
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from irec_jax.baselines.bm25 import BM25Index, item_texts
from irec_jax.evaluation.bootstrap import Figure, bootstrap
from irec_jax.evaluation.metrics import full_ranks, recall
from irec_jax.experiment.loading import load_experiment
from irec_jax.instructions.forms import Intention
from irec_jax.instructions.tasks import INTENTION_CODES
from irec_jax.log.dataset import DataConfig, load_log, load_split
from irec_jax.log.events import BehaviorLog
from irec_jax.log.split import Split
from irec_jax.teachers.teacher_texts import TextKind, read_teacher_texts

FIRST = 10
SHARE = 5
EVENTS = 3
RESAMPLES = 1_000

QueryCase = tuple[int, str, str]
"""A user, the query, and the item that it should retrieve."""


def hold_out(log: BehaviorLog, seed: int) -> tuple[BehaviorLog, BehaviorLog]:
    """Splits a log by users: every fifth user is held out."""
    users = np.random.default_rng(seed).permutation(log.interactions["user"].unique().sort())
    is_held_out = log.interactions["user"].is_in(users[: len(users) // SHARE].tolist())
    parts = (log.interactions.filter(~is_held_out), log.interactions.filter(is_held_out))
    known, held_out = (BehaviorLog.assemble(log.items, part, log.manifest) for part in parts)
    return known, held_out


def generated_queries(texts: Path, split: Split, kind: TextKind) -> list[QueryCase]:
    """Returns the generated queries of a kind."""
    table = read_teacher_texts(texts)[0]
    rows = {int(user): row for row, user in enumerate(split.users)}
    cases = []
    for row in table.filter(table["kind"] == kind.value).iter_rows(named=True):
        position = int(split.offsets[rows[row["user"]]]) + row["event_index"]
        cases.append((row["user"], row["text"], _item(split, position)))
    return cases


def typed_queries(split: Split, intention: Intention) -> list[QueryCase]:
    """Returns the queries of a kind that users typed."""
    positions = np.flatnonzero(split.intentions == INTENTION_CODES[intention]).tolist()
    owners = np.searchsorted(split.offsets, positions, side="right") - 1
    return [
        (int(split.users[owner]), split.queries[position], _item(split, position))
        for owner, position in zip(owners.tolist(), positions, strict=True)
    ]


def _item(split: Split, position: int) -> str:
    return split.catalog["item"][int(split.items[position])]


def bm25_recall(
    index: BM25Index, rows: dict[str, int], cases: Sequence[QueryCase], seed: int
) -> Figure:
    """Computes the Recall@10 of BM25 with a bootstrap interval over users."""
    users, queries, items = zip(*cases, strict=True)
    targets = np.array([rows[item] for item in items])
    ranks = full_ranks(index.scores(queries), targets, [()] * len(cases))
    hits = recall(ranks, FIRST)[:, None]
    return bootstrap(hits, np.array(users), RESAMPLES, seed).figures()[0]


def irec(*arguments: str) -> None:
    """Runs `irec`, and exits if it fails."""
    if subprocess.run([sys.executable, "-m", "irec_jax.cli.main", *arguments]).returncode:
        sys.exit(f"irec {' '.join(arguments)} failed")


def main() -> None:
    """Tunes, generates, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("folder", type=Path, help="where logs, run and texts are kept")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    log = load_log(experiment.data)
    known, held_out, run, texts = (
        arguments.folder / name for name in ("known", "held-out", "run", "texts")
    )
    for part, folder in zip(hold_out(log, experiment.seed), (known, held_out), strict=True):
        part.save(folder)
    source = str(arguments.experiment)
    irec("tune", source, "--data.log", str(known), "--out", str(run))
    of_held_out = ("--data.log", str(held_out), "--data.core", "1", "--events", str(EVENTS))
    irec(*("teach", source, *of_held_out, "--by", "model", "--run", str(run), "--out", str(texts)))

    split = load_split(DataConfig(log=str(held_out), core=1), experiment.seed)
    index = BM25Index.build(item_texts(log.items))
    rows = {item: row for row, item in enumerate(log.items["item"])}
    manifest = read_teacher_texts(texts)[1]
    print(
        f"{split.num_users:,} held-out users; texts: {manifest.written}; "
        f"rejected: {manifest.rejected or 'none'}"
    )
    print(f"chance: {FIRST / len(rows):.4f}")
    for name, cases in (
        ("the model's, vague", generated_queries(texts, split, TextKind.VAGUE)),
        ("the model's, specific", generated_queries(texts, split, TextKind.SPECIFIC)),
        ("typed, vague", typed_queries(split, Intention.VAGUE)),
        ("typed, specific", typed_queries(split, Intention.SPECIFIC)),
    ):
        figure = bm25_recall(index, rows, cases, experiment.seed)
        print(f"{name}: {figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}] of {len(cases):,}")
        print(f"    example: {cases[0][1]}  ({log.items['title'][rows[cases[0][2]]]})")


if __name__ == "__main__":
    main()
