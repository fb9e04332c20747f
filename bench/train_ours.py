"""Our side of `bench/train.py`: the training step of `irec tune` on one device."""

import numpy as np
from train_data import BATCH, Prepared, Rows, Shape

from irec_jax.batches.batch import Batch


def prepare(shape: Shape, rate: float, compute: str) -> Prepared:
    """Builds the training step (`compile_step`) with Adafactor at a constant rate."""
    import jax

    from irec_jax.model.config import T5Config
    from irec_jax.model.params import count
    from irec_jax.training.checkpoint import TrainState
    from irec_jax.training.config import TrainConfig
    from irec_jax.training.device_put import place_batch
    from irec_jax.training.init_weights import from_scratch
    from irec_jax.training.optimizer import OptimizerConfig, make_optimizer
    from irec_jax.training.sharding import MeshConfig, batch_sharding, make_mesh
    from irec_jax.training.step import compile_step

    config = T5Config(
        vocabulary=shape["vocabulary"],
        width=shape["width"],
        head_dim=shape["size"],
        heads=shape["heads"],
        mlp_dim=shape["mlp_dim"],
        encoder_layers=shape["layers"],
        decoder_layers=shape["layers"],
        unroll_layers=True,
        compute="bfloat16" if compute == "bfloat16" else "float32",
    )
    optimizer = OptimizerConfig(kind="adafactor", peak=rate, clip=0.0)
    train = TrainConfig(steps=1_000, batch_size=BATCH)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    compiled = compile_step(config, optimizer, train, mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, compiled.target)
    params = from_scratch(config, 0)(shardings.params)
    parameters = count(params)
    optimizer_state = jax.jit(
        make_optimizer(optimizer, train.steps).init, out_shardings=shardings.optimizer_state
    )(params)
    state = TrainState(jax.device_put(np.int32(0), shardings.step), params, optimizer_state)
    key = jax.random.key(1)
    del params, optimizer_state  # the step donates the arrays of the state
    current = [state]
    del state

    def step(rows: Rows) -> float:
        placed = place_batch(batch_sharding(mesh), BATCH, Batch(*rows))
        with jax.set_mesh(mesh):
            current[0], scalars = compiled.run(current[0], placed, key)
        return float(scalars["loss"])

    versions = {"jax": jax.__version__}
    return Prepared(step, parameters, versions)
