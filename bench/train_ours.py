"""Our side of `bench/train.py`: the step that `irec tune` runs, on one device."""

import numpy as np
from train_data import BATCH, Prepared, Rows, Shape

from irec_jax.batches.batch import Batch


def prepare(shape: Shape, rate: float, compute: str) -> Prepared:
    """The real step (`compile_step`) with Adafactor at a constant rate."""
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
    places = jax.tree.map(lambda leaf: leaf.sharding, compiled.target)
    params = from_scratch(config, 0)(places.params)
    parameters = count(params)
    memory = jax.jit(
        make_optimizer(optimizer, train.steps).init, out_shardings=places.optimizer_state
    )(params)
    state = TrainState(jax.device_put(np.int32(0), places.step), params, memory)
    key = jax.random.key(1)
    del params, memory  # the step takes the state's arrays over
    kept = [state]
    del state

    def step(rows: Rows) -> float:
        placed = place_batch(batch_sharding(mesh), BATCH, Batch(*rows))
        with jax.set_mesh(mesh):
            kept[0], scalars = compiled.run(kept[0], placed, key)
        return float(scalars["loss"])

    versions = {"jax": jax.__version__}
    return Prepared(step, parameters, versions)
