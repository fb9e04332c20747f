"""A model that recommends, and that writes preferences and queries for other logs' instructions.

Command: irec tune configs/teacher.py && irec teach configs/teacher.py --by model \
             --run runs/teacher --out notes/teacher
Device:  2 CPU cores (AMD EPYC)
Time:    6 minutes to tune (a busy machine), 17 seconds to write
Result:  sequential recommendation Recall@10 .221, NDCG@10 .117; product search .483 and .306.
         1,000 held-out users: 3,000 preferences and 1,486 queries, none rejected. BM25 finds the
         item among the first ten by 9.7 % [8.0, 11.6] of the model's specific queries, by 4.9 %
         [3.7, 6.2] of its vague ones, by 13.3 % [11.5, 15.0] of what users typed when they were
         specific, and by chance 1.0 times in a hundred (bench/teacher.py)
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
    ),
    tokens=dataclasses.replace(EXPERIMENT.tokens, target_length=48),
)
