"""`irec tune`: trains the model of an experiment, or resumes it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from irec_jax.batches.pipeline import Cuts, training_batches
from irec_jax.experiment import Materials, fingerprint, load_experiment, prepare, save_run
from irec_jax.model.params import abstract, count
from irec_jax.tokens.text import IndexKind
from irec_jax.training.checkpoint import TrainState
from irec_jax.training.ledger import tell
from irec_jax.training.loop import Start, Training, train
from irec_jax.training.sharding import make_mesh
from irec_jax.training.start import ItemTitles, from_pretrained, from_scratch


@dataclasses.dataclass(frozen=True)
class Tune:
    """Trains the model of an experiment, or resumes it where it stopped.

    Any leaf of the experiment can be set behind the file:

        irec tune configs/movietweetings_tiny.py --out runs/movies --train.steps 2000

    Attributes:
        experiment: A Python file that defines `experiment`, as in configs/.
        out: The run folder; runs/NAME OF THE FILE unless told.
    """

    experiment: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EXPERIMENT")]
    out: Path | None = None

    def run(self, overrides: Sequence[str] = ()) -> None:
        """Runs the command.

        Args:
            overrides: `--section.key value` words for the experiment.
        """
        run = self.out or Path("runs") / self.experiment.stem
        experiment = load_experiment(self.experiment, overrides)
        tune(prepare(experiment, run), run)
        Console().print(f"The run is in {run}. Next: irec evaluate {run}")


def tune(materials: Materials, run: Path) -> TrainState:
    """Trains on what was prepared and leaves a whole run folder behind.

    Raises:
        InputError: If the folder holds a run of another config, or settings do not fit.
        Interrupted: After Ctrl-C, with everything saved.
    """
    experiment = materials.experiment
    save_run(run, materials)
    cuts = Cuts()
    batches = training_batches(
        materials.renderer,
        materials.writer,
        batch_size=experiment.train.batch_size,
        source_length=experiment.tokens.source_length,
        target_length=experiment.tokens.target_length,
        cuts=cuts,
    )
    _say_what_is_trained(materials, run)
    state = train(
        Training(
            run=run,
            model=experiment.model,
            start=_start(materials),
            batches=iter(batches),
            mesh=make_mesh(experiment.mesh),
            optimizer=experiment.optimizer,
            train=experiment.train,
            seed=experiment.seed,
            # What the model is, the checkpoint knows itself.
            fingerprint={k: v for k, v in fingerprint(experiment).items() if k != "model"},
        )
    )
    if cuts.inputs or cuts.targets:
        tell(
            run,
            f"cut to fit: {cuts.inputs} prompts and {cuts.targets} answers of {cuts.records}; "
            "tokens.source_length and tokens.target_length decide",
        )
    return state


def _start(materials: Materials) -> Start:
    experiment, index = materials.experiment, materials.writer.index
    titles = None
    if index.kind is IndexKind.ATOMIC and experiment.train.title_share:
        offsets, tokens = index.title_tokens
        titles = ItemTitles(index.text_vocabulary, offsets, tokens, experiment.train.title_share)
    if experiment.train.pretrained:
        folder = Path(experiment.train.pretrained)
        return from_pretrained(folder, experiment.model, experiment.seed, titles)
    return from_scratch(experiment.model, experiment.seed, titles)


def _say_what_is_trained(materials: Materials, run: Path) -> None:
    experiment, split, renderer = materials.experiment, materials.split, materials.renderer
    tell(
        run,
        f"run {run}: {split.num_users:,} users, {split.num_items:,} items, "
        f"{len(split.items):,} events, {len(renderer):,} instructions a pass "
        f"({renderer.cut_histories:,} of their histories cut to "
        f"{experiment.instructions.max_history} items)",
    )
    index = materials.writer.index
    if index.cut_titles:
        tell(run, f"{index.cut_titles:,} titles cut to {experiment.tokens.max_item_tokens} tokens")
    tell(run, f"{count(abstract(experiment.model)):,} parameters, vocabulary {index.vocabulary:,}")
