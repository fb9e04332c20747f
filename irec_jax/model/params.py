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
"""Nested dict of arrays; the arrays of a stack's layers have a leading layer axis."""

Structure = nnx.GraphDef
"""What a model is without its arrays: hashable, so it can be a static argument of jax.jit."""


@functools.lru_cache
def structure(config: Seq2SeqConfig) -> Structure:
    """The structure of the models of a config; equal configs give the same object."""
    return nnx.split(_abstract(config))[0]


def abstract(config: Seq2SeqConfig) -> Params:
    """The parameter dict with shapes and dtypes (`jax.ShapeDtypeStruct`) in place of arrays."""
    return nnx.to_pure_dict(nnx.split(_abstract(config))[1])


def initialize(config: Seq2SeqConfig, key: Key[Array, ""]) -> Params:
    """Random parameters as T5 starts from, float32; may be jitted, so that they are born sharded.

    The embedding has deviation 1, the query (width * head_dim) ** -0.5, other products and the
    untied head (input size) ** -0.5, position biases width ** -0.5, norms are 1 (Mesh TensorFlow,
    T5X).
    """
    return nnx.to_pure_dict(nnx.split(config.build(nnx.Rngs(params=key)))[1])


def merge(structure: Structure, params: Params) -> Seq2Seq:
    """The model, to be used inside one jitted function and not kept."""
    return nnx.merge(structure, params)


def count(params: Params) -> int:
    """How many numbers the parameters hold."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _abstract(config: Seq2SeqConfig) -> Seq2Seq:
    return nnx.eval_shape(lambda: config.build(nnx.Rngs(params=0)))
