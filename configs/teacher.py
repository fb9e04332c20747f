"""A model that recommends and generates preferences and queries for other users.

Command: irec tune configs/teacher.py && irec teach configs/teacher.py --by model \
             --run runs/teacher --out texts/teacher
Device:  2 CPU cores (AMD EPYC)
Time:    4 minutes to tune, 45 seconds to generate 37,451 texts
Result:  sequential recommendation Recall@10 .221, NDCG@10 .117; product search .483 and .306.
         Tuned without every fifth user (bench/teacher.py), it generates 3,000 preferences and
         4,507 queries for these 1,000 users, none rejected. Recall@10 of BM25 (ties count half):
         6.4 % [5.4, 7.4] with its specific queries, 1.8 % [1.3, 2.4] with its vague ones, 12.3 %
         [11.5, 13.3] with the specific queries that these users typed, 1.0 % by chance
         (measured with a vocabulary that distinguished case)
"""

import dataclasses

from irec_jax.cli.quickstart import EXPERIMENT
from irec_jax.instructions.forms import TaskName

experiment = dataclasses.replace(
    EXPERIMENT,
    instructions=dataclasses.replace(
        EXPERIMENT.instructions,
        tasks=(
            TaskName.SEQUENTIAL_RECOMMENDATION,
            TaskName.PRODUCT_SEARCH,
            TaskName.HISTORY_TO_PREFERENCE,
            TaskName.ITEM_TO_QUERY,
        ),
        teacher="metadata",
        understanding=0.0,
    ),
    tokens=dataclasses.replace(EXPERIMENT.tokens, target_length=48),
    train=dataclasses.replace(EXPERIMENT.train, steps=6_000),
)
