"""A third task for a tuned model by adapters with 1.8 % of the weights of the quickstart.

Command: irec tune configs/quickstart.py --out runs/base --train.steps 4000 \
             --instructions.tasks sequential_recommendation product_search \
             --instructions.understanding 0 && \
         irec export runs/base --out exports/base && irec tune configs/adapters.py
Device:  2 CPU cores (AMD EPYC), under other load
Time:    4 minutes for the base, 90 seconds for the adapters
Result:  loss on validation instructions 2.815 nats per token; 2.918 for the base, and 2.728 with
         all weights tuned for the same steps (--lora.rank 0 --optimizer.kind adafactor
         --optimizer.peak 3e-2 --optimizer.warmup 200). Personalized search, the new task, alone:
         1.438, 1.879, 1.252 (bench/lora.py; docs/decisions/0155-quality-of-adapters.md);
         measured with a vocabulary that distinguished case
"""

import dataclasses

from irec_jax.cli.quickstart import EXPERIMENT
from irec_jax.model.lora import LoraConfig
from irec_jax.training.optimizer import OptimizerConfig

BASE = "exports/base"

experiment = dataclasses.replace(
    EXPERIMENT,
    instructions=dataclasses.replace(EXPERIMENT.instructions, understanding=0.0),
    tokens=dataclasses.replace(EXPERIMENT.tokens, tokenizer=BASE),
    lora=LoraConfig(rank=2, targets="(query|key|value|output|gate|up|down)$"),
    optimizer=OptimizerConfig(kind="adamw", peak=5e-3, schedule="cosine", warmup=100),
    train=dataclasses.replace(
        EXPERIMENT.train,
        pretrained=BASE,
        title_share=0.0,  # item rows keep their tuned values
        steps=1_500,
        checkpoint_every=1_500,
        validate_every=250,
        validate_batches=16,
    ),
)
