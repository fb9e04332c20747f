"""What an instruction is worth, and whether it may be Chinese: the simulated log in two languages.

Command: irec tune configs/bilingual.py && irec evaluate runs/bilingual --ablations
Device:  2 CPU cores (AMD EPYC)
Time:    4 minutes
Result:  NDCG@10 of personalized search .678 [.663, .692]; without the user's words .219
         [.205, .232], with another user's .039 [.032, .047], in Chinese .679 [.664, .693], with
         templates never trained on .445 [.428, .463]; sequential recommendation .203 [.189, .216],
         in Chinese .202; product search .475 [.457, .491], in Chinese .476 (full ranking, test,
         2,000 requests a task)
"""

import dataclasses

from irec_jax.cli.quickstart import EXPERIMENT
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.instructions.tasks import NAMED_TASKS

experiment = dataclasses.replace(
    EXPERIMENT,
    instructions=dataclasses.replace(EXPERIMENT.instructions, packs=("en", "zh")),
    evaluation=EvaluationConfig(tasks=NAMED_TASKS, max_requests=2_000),
)
