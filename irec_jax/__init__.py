"""Instruction-tuned T5 recommenders in JAX: from a behavior log to exact, honest recommendations.

All that an application needs::

    from irec_jax import Recommender

    shop = Recommender.load("runs/shop")
    shop.recommend(history=["i17", "i4"], instruction="a lighter one, for the family", k=10)

From a log to a report::

    from irec_jax import evaluate, tune

    run = tune("my_experiment.py")
    evaluate(run)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irec_jax.api.compare_runs import compare
    from irec_jax.api.evaluate_requests import evaluate_requests
    from irec_jax.api.evaluate_run import evaluate
    from irec_jax.api.tune_run import tune
    from irec_jax.decoding.config import DecodeConfig
    from irec_jax.evaluation.protocol import EvaluationConfig
    from irec_jax.experiment.config import Experiment
    from irec_jax.instructions.config import InstructionsConfig
    from irec_jax.log.dataset import DataConfig, load_log
    from irec_jax.log.simulate import SimulateConfig
    from irec_jax.model.config import T5Config
    from irec_jax.model.lora import LoraConfig
    from irec_jax.recommendation.recommender import Recommender
    from irec_jax.recommendation.request_extras import Extras
    from irec_jax.recommendation.request_understanding import UnderstandingMode
    from irec_jax.tokens.config import TokensConfig
    from irec_jax.training.config import TrainConfig
    from irec_jax.training.optimizer import OptimizerConfig
    from irec_jax.training.sharding import MeshConfig

__version__ = "0.1.0"

# Importing JAX takes seconds, so the modules are imported when a name is first used.
_MODULES = {
    "DataConfig": "irec_jax.log.dataset",
    "DecodeConfig": "irec_jax.decoding.config",
    "EvaluationConfig": "irec_jax.evaluation.protocol",
    "Experiment": "irec_jax.experiment.config",
    "Extras": "irec_jax.recommendation.request_extras",
    "InstructionsConfig": "irec_jax.instructions.config",
    "LoraConfig": "irec_jax.model.lora",
    "MeshConfig": "irec_jax.training.sharding",
    "OptimizerConfig": "irec_jax.training.optimizer",
    "Recommender": "irec_jax.recommendation.recommender",
    "SimulateConfig": "irec_jax.log.simulate",
    "T5Config": "irec_jax.model.config",
    "TokensConfig": "irec_jax.tokens.config",
    "TrainConfig": "irec_jax.training.config",
    "UnderstandingMode": "irec_jax.recommendation.request_understanding",
    "compare": "irec_jax.api.compare_runs",
    "evaluate": "irec_jax.api.evaluate_run",
    "evaluate_requests": "irec_jax.api.evaluate_requests",
    "load_log": "irec_jax.log.dataset",
    "tune": "irec_jax.api.tune_run",
}

__all__ = [
    "DataConfig",
    "DecodeConfig",
    "EvaluationConfig",
    "Experiment",
    "Extras",
    "InstructionsConfig",
    "LoraConfig",
    "MeshConfig",
    "OptimizerConfig",
    "Recommender",
    "SimulateConfig",
    "T5Config",
    "TokensConfig",
    "TrainConfig",
    "UnderstandingMode",
    "__version__",
    "compare",
    "evaluate",
    "evaluate_requests",
    "load_log",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'irec_jax' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
