"""Flan-T5-XXL tuned for recommendation on one v5p slice of 64 chips, weights cut 16 ways.

"pretrained/flan-t5-xxl" is a placeholder for a folder with the published weights: config.json, the
safetensors files and tokenizer.json of google/flan-t5-xxl on the Hugging Face Hub.

Prepare: irec data prepare amazon PATH --out data/amazon
         irec instruct configs/flan_t5_xxl_v5p.py --packed sets/amazon-flan-t5-xxl --workers 32
Command: irec tune configs/flan_t5_xxl_v5p.py, planned with
         irec plan configs/flan_t5_xxl_v5p.py --topology v5p:4x4x4 --vocabulary 32128
Device:  v5p:4x4x4 (64 chips), planned only
Time:    2.1 to 3.3 hours of steps for 20,000 of them (bounds: 375 to 592 ms a step)
Result:  planned: 22.3 of 95.74 GiB a chip in training, 8.6 in scoring, 8.0 in the beam search;
         MFU at most 94 % (docs/planning.md says how far to trust these)
"""

import dataclasses

from irec_jax import Experiment
from irec_jax.decoding.config import DecodeConfig
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.log.dataset import DataConfig
from irec_jax.model.config import XXL
from irec_jax.tokens.config import IndexKind, TokensConfig
from irec_jax.training.config import TrainConfig
from irec_jax.training.optimizer import OptimizerConfig
from irec_jax.training.sharding import MeshConfig

experiment = Experiment(
    data=DataConfig(log="data/amazon"),
    instructions=InstructionsConfig(domain="shop", max_history=50, answer_items=8),
    tokens=TokensConfig(
        tokenizer="pretrained/flan-t5-xxl",
        index=IndexKind.TITLE,
        max_item_tokens=24,
        source_length=512,
        target_length=128,
    ),
    model=dataclasses.replace(XXL, compute="bfloat16", remat="dots"),
    mesh=MeshConfig(data=4, fsdp=16),
    optimizer=OptimizerConfig(kind="adafactor", peak=1e-3, schedule="constant", warmup=1_000),
    train=TrainConfig(
        steps=20_000,
        batch_size=512,
        packed="sets/amazon-flan-t5-xxl",
        pretrained="pretrained/flan-t5-xxl",
        checkpoint_every=1_000,
        checkpoint_minutes=20.0,
        z_loss=1e-4,
    ),
    decode=DecodeConfig(beams=32, batch=8),
)
