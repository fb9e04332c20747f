"""Flan-T5-XL tuned for recommendation on one v5e slice of 64 chips, weights sharded 16 ways.

"pretrained/flan-t5-xl" is a folder with the published weights: config.json, the safetensors
files and tokenizer.json of google/flan-t5-xl on the Hugging Face Hub.
configs/flan_t5_xxl_v5p.py changes the size only.

Prepare: irec data prepare amazon PATH --out data/amazon
         irec instruct configs/flan_t5_xl_v5e.py --packed sets/amazon-flan-t5-xl --workers 32
Command: irec tune configs/flan_t5_xl_v5e.py, planned with
         irec plan configs/flan_t5_xl_v5e.py --topology v5e:8x8 --vocabulary 32128
Device:  v5e:8x8 (64 chips), planned only
Time:    1.3 to 2.6 hours for 20,000 steps (bounds: 225 to 473 ms per step)
Result:  planned: 9.8 of 15.75 GiB per chip in training, 3.6 in scoring, 3.3 in the beam search;
         MFU at most 94 % (docs/planning.md states the accuracy)
"""

from irec_jax import Experiment
from irec_jax.decoding.config import DecodeConfig
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.log.dataset import DataConfig
from irec_jax.model.config import T5Config
from irec_jax.tokens.config import IndexKind, TokensConfig
from irec_jax.training.config import TrainConfig
from irec_jax.training.optimizer import OptimizerConfig
from irec_jax.training.sharding import MeshConfig

experiment = Experiment(
    data=DataConfig(log="data/amazon"),
    instructions=InstructionsConfig(domain="shop", max_history=50, answer_items=8),
    tokens=TokensConfig(
        tokenizer="pretrained/flan-t5-xl",
        index=IndexKind.TITLE,
        max_item_tokens=24,
        source_length=512,
        target_length=128,
    ),
    model=T5Config.flan("xl", compute="bfloat16", remat="dots"),
    mesh=MeshConfig(data=4, fsdp=16),
    optimizer=OptimizerConfig(kind="adafactor", peak=1e-3, schedule="constant", warmup=1_000),
    train=TrainConfig(
        steps=20_000,
        batch_size=512,
        packed="sets/amazon-flan-t5-xl",
        pretrained="pretrained/flan-t5-xl",
        checkpoint_every=1_000,
        checkpoint_minutes=20.0,
        z_loss=1e-4,
    ),
    decode=DecodeConfig(beams=32, batch=8),
)
