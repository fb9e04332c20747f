"""Flax T5 of transformers 4 as a side of `bench/train.py`."""

import inspect
from typing import Any

from train_data import Prepared, Rows, Shape


def prepare(shape: Shape, rate: float, compute: str) -> Prepared:
    """Builds one jitted step of FlaxT5ForConditionalGeneration with Optax's Adafactor."""
    import jax
    import jax.numpy as jnp
    import optax
    import transformers

    config = transformers.T5Config(
        vocab_size=shape["vocabulary"],
        d_model=shape["width"],
        d_kv=shape["size"],
        num_heads=shape["heads"],
        d_ff=shape["mlp_dim"],
        num_layers=shape["layers"],
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    _accept_old_names()
    dtype = jnp.bfloat16 if compute == "bfloat16" else jnp.float32
    model = transformers.FlaxT5ForConditionalGeneration(config, seed=0, dtype=dtype)
    optimizer = optax.adafactor(rate)
    params = model.params
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))

    def update(params: Any, optimizer_state: Any, key: Any, rows: Rows) -> tuple:
        key, dropout_key = jax.random.split(key)
        decoder_inputs = jnp.pad(rows.targets[:, :-1], ((0, 0), (1, 0)))

        def mean_loss(params: Any) -> Any:
            logits = model(
                input_ids=rows.inputs,
                attention_mask=rows.input_segments,
                decoder_input_ids=decoder_inputs,
                params=params,
                dropout_rng=dropout_key,
                train=True,
            ).logits.astype(jnp.float32)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, rows.targets)
            real = (rows.target_segments > 0).astype(jnp.float32)
            return (losses * real).sum() / real.sum()

        loss, gradient = jax.value_and_grad(mean_loss)(params)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state, key, loss

    jitted = jax.jit(update, donate_argnums=(0, 1, 2))
    state = [params, jax.jit(optimizer.init)(params), jax.random.key(1)]

    def step(rows: Rows) -> float:
        *state[:], loss = jitted(*state, rows)
        return float(loss)

    del params
    model._params = None  # the step donates its arrays
    versions = {"jax": jax.__version__, "transformers": transformers.__version__}
    return Prepared(step, parameters, versions)


def _accept_old_names() -> None:
    """Lets `jnp.clip` accept `a_min` and `a_max`, which JAX 0.10 removed and transformers uses."""
    import jax.numpy as jnp

    clip = jnp.clip
    if "a_max" in inspect.signature(clip).parameters:
        return

    def old_clip(array: Any, a_min: Any = None, a_max: Any = None) -> Any:
        return clip(array, a_min, a_max)

    jnp.clip = old_clip
