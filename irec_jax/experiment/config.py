"""The config tree: one frozen dataclass per package, composed here."""

import dataclasses

from irec_jax.bounds import SEED, check_settings
from irec_jax.decoding.config import DecodeConfig
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.log.dataset import DataConfig
from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig
from irec_jax.tokens.config import TokensConfig
from irec_jax.training.config import TrainConfig
from irec_jax.training.optimizer import OptimizerConfig
from irec_jax.training.sharding import MeshConfig


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that decides a run; the same experiment gives the same run.

    Attributes:
        data: The behavior log and how it is split.
        instructions: Which tasks are asked, in which language and domain.
        tokens: The tokenizer, the item index and the lengths of packed rows.
        model: The T5 model; its `vocabulary` is set to what the tokens need.
        lora: Which weights are trained through adapters; by default all are trained.
        mesh: How the devices are laid out.
        optimizer: The optimizer and its schedule.
        train: Steps, batch size, checkpoints.
        decode: How answers are searched for.
        evaluation: What is graded and how.
        seed: The one source of all randomness.
    """

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    instructions: InstructionsConfig = dataclasses.field(default_factory=InstructionsConfig)
    tokens: TokensConfig = dataclasses.field(default_factory=TokensConfig)
    model: T5Config = dataclasses.field(default_factory=T5Config)
    lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    decode: DecodeConfig = dataclasses.field(default_factory=DecodeConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses impossible settings."""
        check_settings(self, "", seed=SEED)
