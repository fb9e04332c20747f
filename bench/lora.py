"""Validation loss of runs on the same instructions, by task: a base and runs tuned from it.

    python bench/lora.py runs/base runs/adapters_full runs/adapters

All runs share one tokenizer and one log. Prints the mean loss per target token, in nats, without
dropout, of the weights that each run serves; the instructions are those of the last run, with
validation events as answers. For a run with adapters it also prints the largest difference between
the logits of its export and those of the merged weights of its training step.
"""

import argparse
import dataclasses
import functools
import itertools
import tempfile
from pathlib import Path

import jax
import numpy as np
import optax

from irec_jax.batches.batch import Batch
from irec_jax.batches.pipeline import training_batches
from irec_jax.experiment.config import Experiment
from irec_jax.experiment.materials import prepare
from irec_jax.experiment.run_config import load_run
from irec_jax.instructions.render import Renderer
from irec_jax.log.split import Role
from irec_jax.model.lora import abstract_adapters, frozen_part, trained_share
from irec_jax.model.params import Params, Structure, abstract, merge, structure
from irec_jax.model.pretrained import load_hf, save_hf
from irec_jax.training.checkpoint import load_params, saved_steps, with_shardings
from irec_jax.training.frozen import load_frozen
from irec_jax.training.loss import token_loss
from irec_jax.training.orbax_io import load_trees
from irec_jax.training.step import StepDefinition

BATCHES = 40


def validation_batches(run: Path) -> dict[str, list[Batch]]:
    """Returns validation batches per task of a run, and of all tasks mixed as in training."""
    experiment = load_run(run)
    materials = prepare(experiment, run)
    tasks = experiment.instructions.tasks
    chosen = {"all": tasks} | {task.value: (task,) for task in tasks}
    batches_of = {}
    for name, chosen_tasks in chosen.items():
        renderer = Renderer.build(
            materials.split,
            dataclasses.replace(experiment.instructions, tasks=chosen_tasks),
            names=materials.writer.index.names,
            seed=experiment.seed,
            role=Role.VALIDATION,
            teacher=materials.renderer.teacher,
        )
        batches = training_batches(
            renderer,
            materials.writer,
            batch_size=experiment.train.batch_size,
            source_length=experiment.tokens.source_length,
            target_length=experiment.tokens.target_length,
        )
        batches_of[name] = list(itertools.islice(iter(batches), BATCHES))
    return batches_of


@functools.partial(jax.jit, static_argnums=0)
def loss_of(net: Structure, params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Returns the summed loss of a batch and its number of target tokens."""
    return token_loss(net, params, batch, None)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(net: Structure, params: Params, batch: Batch) -> jax.Array:
    """Returns the logits of a batch without dropout, with the targets as decoder inputs."""
    model = merge(net, params)
    encoded = model.encode(batch.inputs, batch.input_segments)
    decoded = model.decode(batch.targets, batch.target_segments, encoded, batch.input_segments)
    return model.logits(decoded)


def largest_difference(run: Path, experiment: Experiment, batch: Batch) -> tuple[float, float]:
    """Returns the largest difference between logits of export and step, and the largest logit."""
    model, lora, net = experiment.model, experiment.lora, structure(experiment.model)
    shapes = abstract(model)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    adapters, frozen = (
        with_shardings(tree, jax.tree.map(lambda _: sharding, tree))
        for tree in (abstract_adapters(shapes, lora), frozen_part(shapes, lora))
    )
    folder = run / "checkpoints" / str(saved_steps(run / "checkpoints")[0])
    trained = load_trees(folder, {"params": adapters})["params"]
    # As in the step: merged within the program that uses them.
    definition = StepDefinition(net, optax.identity(), optax.constant_schedule(0.0), lora=lora)
    merged_logits = jax.jit(lambda *parts: logits_of(net, definition.weights(*parts), batch))
    of_step = np.asarray(merged_logits(trained, load_frozen(run, frozen)))
    with tempfile.TemporaryDirectory() as folder_name:
        save_hf(Path(folder_name) / "hf", model, load_params(run, model))
        of_export = np.asarray(logits_of(net, load_hf(Path(folder_name) / "hf")[1], batch))
    return float(np.abs(of_export - of_step).max()), float(np.abs(of_step).max())


def main() -> None:
    """Prints one line per run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    runs = parser.parse_args().runs
    batches = validation_batches(runs[-1])
    print(" ".join(["run", "trained", *batches]))
    for run in runs:
        experiment = load_run(run)
        net, params = structure(experiment.model), load_params(run, experiment.model)
        losses = []
        for task_batches in batches.values():
            sums = np.sum(
                [jax.device_get(loss_of(net, params, batch)) for batch in task_batches], axis=0
            )
            losses.append(f"{sums[0] / sums[1]:.4f}")
        share = 1.0
        if experiment.lora.rank:
            share = trained_share(abstract(experiment.model), experiment.lora)
        print(" ".join([str(run), f"{share:.2%}", *losses]), flush=True)
        if experiment.lora.rank and not experiment.optimizer.average:
            difference, largest = largest_difference(run, experiment, batches["all"][0])
            print(f"    logits of export and step differ by {difference:.1e}, up to {largest:.3g}")


if __name__ == "__main__":
    main()
