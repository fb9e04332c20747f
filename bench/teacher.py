"""How much a tuned model's own queries tell: BM25 finds items by them, by users' words, by chance.

    python bench/teacher.py configs/teacher.py notes/teacher

The notes are what `irec teach --by model` wrote for the events of held-out users. Each query is
looked up in the items' texts with BM25; what is printed is how often the event's own item is
among the first ten, ties counted half, with a 95 % interval over the queries.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from irec_jax.baselines.bm25 import BM25, item_texts
from irec_jax.experiment import load_experiment
from irec_jax.instructions.forms import Intention
from irec_jax.instructions.tasks import INTENTION_CODES
from irec_jax.instructions.teachers.notes import NoteKind, read_notes
from irec_jax.log.dataset import load_split
from irec_jax.log.split import Role, Split

FIRST = 10


def hits(index: BM25, pairs: Sequence[tuple[str, int]]) -> np.ndarray:
    """Returns for each (query, item) the chance that the item is among the first ten."""
    found = []
    for query, item in pairs:
        scores = index.scores(query)
        above, level = int((scores > scores[item]).sum()), int((scores == scores[item]).sum())
        found.append(np.clip((FIRST - above) / level, 0.0, 1.0))
    return np.array(found)


def written(folder: Path, split: Split, kind: NoteKind) -> list[tuple[str, int]]:
    """Returns the queries of the notes about test events, with the items of the events."""
    table = read_notes(folder)[0]
    rows = {int(user): row for row, user in enumerate(split.users)}
    pairs = []
    for note in table.filter(table["kind"] == kind.value).iter_rows(named=True):
        position = int(split.offsets[rows[note["user"]]]) + note["place"]
        if split.roles[position] == Role.TEST:
            pairs.append((note["text"], int(split.items[position])))
    return pairs


def typed(split: Split, intention: Intention) -> list[tuple[str, int]]:
    """Returns the queries that users typed before test events."""
    positions = split.targets(Role.TEST)
    chosen = positions[split.intentions[positions] == INTENTION_CODES[intention]]
    return [(split.queries[p], int(split.items[p])) for p in chosen.tolist()]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("notes", type=Path)
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment)
    split = load_split(experiment.data, experiment.seed)
    index = BM25.build(item_texts(split.catalog))
    kinds = {
        "the model's, vague": written(arguments.notes, split, NoteKind.VAGUE),
        "the model's, specific": written(arguments.notes, split, NoteKind.SPECIFIC),
        "typed, vague": typed(split, Intention.VAGUE),
        "typed, specific": typed(split, Intention.SPECIFIC),
    }
    print(f"chance: {FIRST / split.num_items:.4f}")
    for name, pairs in kinds.items():
        found = hits(index, pairs)
        drawn = np.random.default_rng(0).choice(found, (1_000, len(found))).mean(axis=1)
        low, high = np.percentile(drawn, [2.5, 97.5])
        print(f"{name}: {found.mean():.4f} [{low:.4f}, {high:.4f}] of {len(found):,}")
        print(f"    such as: {pairs[0][0]}  ({split.catalog['title'][pairs[0][1]]})")


if __name__ == "__main__":
    main()
