"""Film recommendations from MovieTweetings 100k with a model for a laptop.

Prepare: irec data prepare movietweetings PATH --out data/movietweetings
Command: irec tune configs/movietweetings_tiny.py && irec evaluate runs/movietweetings_tiny
Device:  2 CPU cores (AMD EPYC)
Time:    77 seconds
Result:  Recall@10 .2222 [.210, .234], NDCG@10 .1203 [.113, .128] (full ranking, test); windowed
         Markov .2257 / .1259, popularity .1461 / .0738
"""

from irec_jax import Experiment
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import TaskName
from irec_jax.log.dataset import DataConfig
from irec_jax.model.config import T5Config
from irec_jax.tokens.config import TokensConfig
from irec_jax.training.config import TrainConfig
from irec_jax.training.optimizer import OptimizerConfig

experiment = Experiment(
    data=DataConfig(log="data/movietweetings"),
    instructions=InstructionsConfig(
        tasks=(TaskName.SEQUENTIAL_RECOMMENDATION,),
        domain="content",
        max_history=20,
        answer_items=8,
    ),
    tokens=TokensConfig(source_length=64, target_length=24),
    model=T5Config(
        width=64,
        head_dim=16,
        heads=4,
        mlp_dim=128,
        encoder_layers=2,
        decoder_layers=1,
        dropout=0.2,
        unroll_layers=True,
    ),
    optimizer=OptimizerConfig(kind="adafactor", peak=3e-2, schedule="cosine", warmup=200),
    train=TrainConfig(steps=2_000, batch_size=32, log_every=100, checkpoint_every=500, keep=1),
)
