"""`irec quickstart`: simulation, tuning, evaluation and recommendations on a laptop."""

import dataclasses
import time
from pathlib import Path

from rich.markup import escape

from irec_jax.api.evaluate_run import evaluate
from irec_jax.api.tune_run import run_locked, tune_materials
from irec_jax.cli.evaluate import show
from irec_jax.errors import InputError
from irec_jax.evaluation.figures import BEST, TUNED, Report
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.experiment.config import Experiment
from irec_jax.experiment.materials import prepare
from irec_jax.instructions.built_in_tasks import (
    NAMED_TASKS,
    PERSONALIZED_SEARCH,
    PRODUCT_SEARCH,
    SEQUENTIAL_RECOMMENDATION,
)
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import TaskName
from irec_jax.instructions.tasks import Task
from irec_jax.log.dataset import DataConfig
from irec_jax.log.simulate import SimulateConfig
from irec_jax.log.split import Role, Split
from irec_jax.model.config import T5Config
from irec_jax.recommendation.recommendations import SCORE_MEANING, Recommendations
from irec_jax.recommendation.recommender import Recommender
from irec_jax.run_checksums import check_run_folder
from irec_jax.terminal import Console
from irec_jax.tokens.config import TokensConfig
from irec_jax.training.config import TrainConfig
from irec_jax.training.optimizer import OptimizerConfig

EXPERIMENT = Experiment(
    data=DataConfig(simulate=SimulateConfig(users=5_000, items=1_000)),
    instructions=InstructionsConfig(
        tasks=NAMED_TASKS, domain="shop", answer_items=8, understanding=0.2
    ),
    tokens=TokensConfig(vocabulary=1_536, source_length=64, target_length=24),
    model=T5Config(
        width=64,
        head_dim=16,
        heads=4,
        mlp_dim=128,
        encoder_layers=2,
        decoder_layers=1,
        dropout=0.1,
        unroll_layers=True,
    ),
    optimizer=OptimizerConfig(kind="adafactor", peak=3e-2, schedule="cosine", warmup=200),
    train=TrainConfig(steps=8_000, batch_size=32, log_every=250, checkpoint_every=2_000, keep=1),
    evaluation=EvaluationConfig(
        tasks=(TaskName.SEQUENTIAL_RECOMMENDATION, TaskName.PRODUCT_SEARCH)
    ),
)

EXAMPLE_ANSWERS = 3
PLAIN_REQUESTS = ("a lamp under 30 dollars", "A backpack, not navy", "watrproof boots by Haldor")
SHOWN_HISTORY = 4


@dataclasses.dataclass(frozen=True)
class Quickstart:
    """Simulates a shop's log, tunes a small model on it, evaluates it and recommends.

    The best possible score of the simulated log is known and is a row of the table. Example:

        irec quickstart --out runs/quickstart --instruction "worth paying more, for camping trips"

    Attributes:
        out: The run folder; a run that was stopped is resumed.
        instruction: The query of the fifth example, in your own words.
    """

    out: Path = Path("runs/quickstart")
    instruction: str = "something that stays dry for camping"

    def run(self) -> None:
        """Runs the command.

        Raises:
            InputError: The folder cannot become a run, or there is no instruction.
        """
        start_time = time.monotonic()
        check_run_folder(self.out)
        if not self.instruction.strip():
            hint = "Write what the fifth example should ask for, or leave it out."
            raise InputError("the instruction is empty", where="--instruction", hint=hint)
        console = Console(highlight=False)
        console.rule("1. simulated behavior log")
        with run_locked(self.out):
            materials = prepare(EXPERIMENT, self.out)
            _print_counts(console, materials.split)
            console.rule("2. tuning on its instructions")
            tune_materials(materials, self.out)
        console.rule("3. evaluation over the whole catalog")
        report = evaluate(self.out)
        show(report, self.out)
        console.print(_verdict(report))
        console.rule("4. example answers")
        console.print(f"In brackets is the {SCORE_MEANING}.")
        _print_examples(console, Recommender.load(self.out), materials.split, self.instruction)
        console.rule(f"done in {(time.monotonic() - start_time) / 60:.1f} minutes")
        console.print(f"Try it: irec recommend {self.out} --instruction '...'")


def _print_counts(console: Console, split: Split) -> None:
    queries = sum(bool(query) for query in split.queries)
    console.print(
        f"{split.num_users:,} users, {split.num_items:,} items, {len(split.items):,} events, "
        f"{queries:,} of them with a query"
    )


def _verdict(report: Report) -> str:
    """One line for each task: whether the tuned model is significantly above every baseline."""
    lines = []
    for task in report.tasks:
        tuned = task.row(TUNED).figures["ndcg@10"]
        baselines = [row for row in task.rows if row.ranker not in (TUNED, BEST)]
        is_above = all(tuned.is_above(row.figures["ndcg@10"]) for row in baselines)
        verdict = "above every baseline (non-overlapping 95 % confidence intervals)"
        share = tuned.value / task.row(BEST).figures["ndcg@10"].value
        lines.append(
            f"{task.task.replace('_', ' ')}: the tuned model is "
            f"{verdict if is_above else 'not above every baseline'}, "
            f"and reaches {share:.0%} of the best possible NDCG@10"
        )
    return "\n".join(lines)


def _print_examples(
    console: Console, recommender: Recommender, split: Split, instruction: str
) -> None:
    """Prints examples: two histories, two searches, a typed query, and plain requests."""
    examples = [
        (SEQUENTIAL_RECOMMENDATION, 0),
        (SEQUENTIAL_RECOMMENDATION, 1),
        (PRODUCT_SEARCH, 2),
        (PERSONALIZED_SEARCH, 3),
    ]
    for number, (task, user) in enumerate(examples, start=1):
        _print_example(console, recommender, split, task, (number, user))
    answers = recommender.recommend(instruction=instruction, k=EXAMPLE_ANSWERS)
    console.print(f'\n[bold]5. your instruction[/]: "{escape(instruction)}"')
    _print_answers(console, answers, None)
    for number, request in enumerate(PLAIN_REQUESTS, start=6):
        answers = recommender.recommend(instruction=request, k=EXAMPLE_ANSWERS)
        console.print(f'\n[bold]{number}. a request with conditions[/]: "{escape(request)}"')
        _print_answers(console, answers, None)


def _print_example(
    console: Console, recommender: Recommender, split: Split, task: Task, place: tuple[int, int]
) -> None:
    number, user = place
    positions = task.eligible(split, Role.TEST)
    position = int(positions[user % len(positions)])
    request = task.request(split, position)
    titles = split.catalog["title"]
    console.print(f"\n[bold]{number}. {task.name.value.replace('_', ' ')}[/]", highlight=False)
    for item in request.history[-SHOWN_HISTORY:]:
        console.print(f"   history: {escape(titles[item])}")
    if request.instruction:
        console.print(f'   query: "{escape(request.instruction)}"')
    answers = recommender.recommend(
        history=request.history, instruction=request.instruction, k=EXAMPLE_ANSWERS
    )
    _print_answers(console, answers, int(split.items[position]))


def _print_answers(console: Console, answers: Recommendations, target: int | None) -> None:
    if target is None and answers.understood is not None:
        console.print(f"   understood: {escape(str(answers.understood))}")
    for warning in answers.warnings:
        console.print(f"   warning: {escape(warning.message)}")
    for answer in answers:
        hit = "  <- the user's next item" if answer.number == target else ""
        console.print(f"   {answer.rank}. {escape(answer.title)} ({answer.score:.2f}){hit}")
