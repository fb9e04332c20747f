"""Instruction ablations on a simulated log with English and Chinese instructions.

Command: irec tune configs/bilingual.py && irec evaluate runs/bilingual --ablations
Device:  2 CPU cores (AMD EPYC)
Time:    6 minutes
Result:  NDCG@10 of personalized search .698 [.681, .712]; without the user's words .222
         [.208, .236], with another user's .036 [.029, .043], in Chinese .696 [.682, .712], with
         held-out templates .533 [.515, .550]; sequential recommendation .207 [.194, .222],
         in Chinese .207; product search .499 [.482, .516], in Chinese .502, with held-out
         templates .446 [.428, .463] (full ranking, test, 2,000 requests per task); satisfaction
         with the requests of shop_en .992 [.98, 1.00], of shop_zh .938 [.90, .97]
"""

import dataclasses

from irec_jax.cli.quickstart import EXPERIMENT
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.instructions.built_in_tasks import NAMED_TASKS

experiment = dataclasses.replace(
    EXPERIMENT,
    instructions=dataclasses.replace(
        EXPERIMENT.instructions, packs=("en", "zh"), understanding=0.3
    ),
    train=dataclasses.replace(EXPERIMENT.train, steps=10_000),
    evaluation=EvaluationConfig(tasks=NAMED_TASKS, max_requests=2_000),
)
