"""The run behind docs/images/how-it-works.svg: the quickstart's shop, smaller, items as titles.

Command: irec tune docs/scripts/picture_run.py --out runs/picture
Device:  2 CPU cores (AMD EPYC), under other load
Time:    4 minutes
Result:  used for one picture only, not evaluated
"""

import dataclasses

from irec_jax.cli.quickstart import EXPERIMENT
from irec_jax.log.dataset import DataConfig
from irec_jax.log.simulate import SimulateConfig
from irec_jax.tokens.config import IndexKind

experiment = dataclasses.replace(
    EXPERIMENT,
    data=DataConfig(simulate=SimulateConfig(users=2_000, items=200)),
    instructions=dataclasses.replace(EXPERIMENT.instructions, answer_items=1),
    tokens=dataclasses.replace(
        EXPERIMENT.tokens, index=IndexKind.TITLE, source_length=128, target_length=32
    ),
    train=dataclasses.replace(EXPERIMENT.train, steps=2_000, batch_size=16),
)
