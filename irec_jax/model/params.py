"""A model as a hashable structure and a plain nested dict of arrays.

`structure` is static, the dict is data; `merge(structure, params)` inside `jax.jit` makes the
model.
Why: docs/decisions/0003-plain-jax-transforms.md.
"""

import functools
import math

import jax
from flax import nnx
from jaxtyping import Array, Key

from irec_jax.model.seq2seq import Seq2Seq, Seq2SeqConfig

Params = dict
"""Nested dict of arrays; arrays of layers have a leading layer axis."""

Structure = nnx.GraphDef
"""A model without its arrays: hashable, so it can be a static argument of `jax.jit`."""


@functools.lru_cache
def structure(config: Seq2SeqConfig) -> Structure:
    """Returns the structure of a config's model; equal configs give the same object."""
    return nnx.split(_abstract(config))[0]


def abstract(config: Seq2SeqConfig) -> Params:
    """Returns the parameter dict with `jax.ShapeDtypeStruct` in place of arrays."""
    return nnx.to_pure_dict(nnx.split(_abstract(config))[1])


def initialize(config: Seq2SeqConfig, key: Key[Array, ""]) -> Params:
    """Draws random float32 parameters; jit it with shardings to create them sharded.

    Deviations in T5: embedding 1, query (width * head_dim) ** -0.5, other products and the untied
    head (input size) ** -0.5, position biases width ** -0.5; norms are 1 (Mesh TensorFlow, T5X).
    """
    return nnx.to_pure_dict(nnx.split(config.build(nnx.Rngs(params=key)))[1])


def merge(structure: Structure, params: Params) -> Seq2Seq:
    """Makes the model, to be used inside one jitted function."""
    return nnx.merge(structure, params)


def count(params: Params) -> int:
    """Counts the numbers in the parameters."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _abstract(config: Seq2SeqConfig) -> Seq2Seq:
    return nnx.eval_shape(lambda: config.build(nnx.Rngs(params=0)))
