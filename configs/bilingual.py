"""What an instruction is worth, and whether it may be Chinese: the simulated log in two languages.

Command: irec tune configs/bilingual.py && irec evaluate runs/bilingual --ablations
Device:  2 CPU cores (AMD EPYC)
Time:    pending
Result:  pending
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
