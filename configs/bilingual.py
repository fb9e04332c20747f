"""Instruction ablations on a simulated log with English and Chinese instructions.

Command: irec tune configs/bilingual.py && irec evaluate runs/bilingual --ablations
Device:  2 CPU cores (AMD EPYC)
Time:    4 minutes
Result:  NDCG@10 of personalized search .684 [.667, .698]; without the user's words .226
         [.212, .240], with another user's .037 [.030, .044], in Chinese .685 [.669, .699], with
         held-out templates .386 [.368, .403]; sequential recommendation .209 [.195, .222],
         in Chinese .209; product search .477 [.460, .494], in Chinese .474 (full ranking, test,
         2,000 requests per task)
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
