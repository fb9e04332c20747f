"""Instruction-tuned T5 recommenders in JAX: from a behavior log to exact, honest recommendations.

All that an application needs::

    from irec_jax import Recommender

    shop = Recommender.load("runs/shop")
    shop.recommend(history=["i17", "i4"], instruction="a lighter one, for the family", k=10)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irec_jax.recommendation.recommender import Recommender

__version__ = "0.1.0"
__all__ = ["Recommender", "__version__"]


def __getattr__(name: str) -> Any:
    # Importing JAX takes seconds; `irec --help` should not.
    if name == "Recommender":
        from irec_jax.recommendation.recommender import Recommender

        return Recommender
    raise AttributeError(f"module 'irec_jax' has no attribute '{name}'")
