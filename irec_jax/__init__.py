"""Instruction-tuned T5 recommenders in JAX: from a behavior log to exact, honest recommendations.

All that an application needs::

    from irec_jax import Recommender

    shop = Recommender.load("runs/shop")
    shop.recommend(history=["i17", "i4"], instruction="a lighter one, for the family", k=10)

A config file starts with `from irec_jax import Experiment`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irec_jax.experiment.config import Experiment
    from irec_jax.recommendation.recommender import Recommender

__version__ = "0.1.0"
__all__ = ["Experiment", "Recommender", "__version__"]

# Importing JAX takes seconds, so the modules are imported when a name is first used.
_MODULES = {
    "Experiment": "irec_jax.experiment.config",
    "Recommender": "irec_jax.recommendation.recommender",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'irec_jax' has no attribute '{name}'")
