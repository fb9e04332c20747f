"""A tuned model learns a third task through adapters: 1.8 % of the weights of the quickstart's.

Command: irec tune configs/quickstart.py --out runs/base --train.steps 4000 \
             --instructions.tasks sequential_recommendation product_search && \
         irec export runs/base --out exports/base && irec tune configs/adapters.py
Device:  2 CPU cores (AMD EPYC), busy with other work
Time:    4 minutes for the base, 90 seconds for the adapters
Result:  loss on validation instructions 2.815 nats a token; the base has 2.918, all weights tuned
         for as many steps (--lora.rank 0 --optimizer.kind adafactor --optimizer.peak 3e-2
         --optimizer.warmup 200) 2.728. Of personalized search alone, the new task: 1.438, 1.879,
         1.252 (bench/lora.py; docs/decisions/0155-quality-of-adapters.md)
"""

import dataclasses

from irec_jax.cli.quickstart import EXPERIMENT
from irec_jax.model.lora import LoraConfig
from irec_jax.training.optimizer import OptimizerConfig

BASE = "exports/base"

experiment = dataclasses.replace(
    EXPERIMENT,
    tokens=dataclasses.replace(EXPERIMENT.tokens, tokenizer=BASE),
    lora=LoraConfig(rank=2, targets="(query|key|value|output|gate|up|down)$"),
    optimizer=OptimizerConfig(kind="adamw", peak=5e-3, schedule="cosine", warmup=100),
    train=dataclasses.replace(
        EXPERIMENT.train,
        pretrained=BASE,
        title_share=0.0,  # the rows of items stay as they were tuned
        steps=1_500,
        checkpoint_every=1_500,
        validate_every=250,
        validate_batches=16,
    ),
)
