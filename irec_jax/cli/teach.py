"""`irec teach`: has a model write preferences, queries and reasons."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.table import Table

from irec_jax.bounds import TEMPERATURE, Range, check_numbers
from irec_jax.errors import InputError
from irec_jax.experiment import load_experiment
from irec_jax.files import real_path
from irec_jax.instructions.prompts import PromptWriter
from irec_jax.instructions.templates import load_packs
from irec_jax.log.dataset import load_split
from irec_jax.log.split import Split
from irec_jax.run_checksums import CATALOG_FILE
from irec_jax.teachers.chat import ask_chat
from irec_jax.teachers.chat_endpoint import ChatConfig
from irec_jax.teachers.cost_ledger import CostLedger
from irec_jax.teachers.model import GenerateFn, generate_texts
from irec_jax.teachers.results import TextResult, collect_texts, summarize
from irec_jax.teachers.teacher_prompts import (
    ChatPromptWriter,
    RunPromptWriter,
    Scope,
    TextRequest,
    make_requests,
    wanted_texts,
)
from irec_jax.teachers.teacher_texts import (
    TeacherTextsManifest,
    check_texts_folder,
    write_teacher_texts,
)
from irec_jax.terminal import Console

ANSWERS_SUFFIX = ".answers.jsonl"


@dataclasses.dataclass(frozen=True)
class Teach:
    """Has a model write what a log does not say: what users like, and what they ask for.

    A chat model behind any endpoint that speaks OpenAI's protocol, or a tuned run. Each text is
    checked: right language and length, no title, no number of the log. Training on them:
    `--instructions.teacher notes --instructions.notes OUT`. Any setting of the experiment can be
    changed: `--section.key value`.

    Example: irec teach configs/quickstart.py --by chat --out notes/shop --users 500
    --chat.base-url http://localhost:8000/v1 --chat.model Qwen/Qwen3-8B
    """

    experiment: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EXPERIMENT")]
    """The experiment, a Python file as in configs/."""
    by: Literal["chat", "model"]
    """Who writes."""
    out: Path
    """The folder of notes to write."""
    trained: Annotated[Path | None, tyro.conf.arg(name="run", metavar="RUN")] = None
    """The run that answers, for `--by model`; tuned on turned-around tasks."""
    users: int | None = None
    """How many users, drawn by the seed; left out, all. Three preference texts each."""
    events: int = 3
    """For how many events a user queries are written: the newest test, validation and training
    ones first."""
    reasons: bool = False
    """Also why the items of these events suit their users."""
    attempts: int = 3
    """How often a text is asked for that does not pass the checks."""
    temperature: float = 0.7
    """Of the draws of a run; 0 takes the most likely words."""
    answers: Path | None = None
    """The file that keeps a chat model's answers; left out, OUT.answers.jsonl."""
    chat: ChatConfig = dataclasses.field(default_factory=ChatConfig)
    """The endpoint, its prices and the budget."""

    def run(self, overrides: Sequence[str] = ()) -> None:
        """Asks, writes the notes and prints what became of the questions.

        Raises:
            InputError: Settings do not fit, the endpoint does not answer, the budget is spent,
                or no text passed.
        """
        self._check()
        check_texts_folder(self.out)
        experiment = load_experiment(self.experiment, overrides)
        instructions = experiment.instructions
        packs = load_packs(instructions.packs, instructions.domain)
        scope = Scope(
            languages=tuple(pack.language for pack in packs),
            users=self.users,
            events=self.events,
            reasons=self.reasons,
            seed=experiment.seed,
        )
        split = load_split(experiment.data, experiment.seed)
        console = Console(highlight=False, soft_wrap=True)
        if self.by == "chat":
            model = self.chat.model
            questions = make_requests(
                split, scope, ChatPromptWriter.build(split, instructions.domain)
            )
            outcomes, told = self._ask_endpoint(questions, split, scope)
        else:
            run = self._run_folder()
            model, told = real_path(run).name, ""
            questions = make_requests(split, scope, RunPromptWriter(split, _wording(run, split)))
            outcomes = generate_texts(
                questions,
                _writer(run, self.temperature),
                total=_count(split, scope),
                attempts=self.attempts,
                seed=experiment.seed,
            )
        manifest = summarize(outcomes, split, scope, self.by, model)
        self._refuse_nothing(manifest)
        write_teacher_texts(self.out, collect_texts(outcomes, self.by, model), manifest)
        console.print(_table(manifest))
        console.print(_summary(manifest), markup=False)
        if told:
            console.print(told, markup=False)
        console.print(
            f"Wrote {self.out}. Next: irec tune {self.experiment} --instructions.teacher notes "
            f"--instructions.notes {self.out}",
            markup=False,
        )

    def _ask_endpoint(
        self, questions: Iterable[TextRequest], split: Split, scope: Scope
    ) -> tuple[list[TextResult], str]:
        path = self.answers or self.out.with_name(self.out.name + ANSWERS_SUFFIX)
        with CostLedger(path, self.chat.budget) as ledger:
            outcomes = ask_chat(
                questions,
                self.chat,
                ledger,
                total=_count(split, scope),
                attempts=self.attempts,
                seed=scope.seed,
            )
            counts, spent, lost = ledger.counts, ledger.spent, ledger.unsettled
        told = (
            f"This run: {counts.requests:,} requests ({counts.retries:,} of them retries), "
            f"{counts.paid:,} answers paid, {counts.cached:,} there already.\n"
            f"Spent on {path} in all: {spent.tokens_in:,} + {spent.tokens_out:,} tokens, "
            f"{spent.money:.4f} in money"
        )
        if lost.tokens_in:
            told += (
                f"; of it, at most {lost.tokens_in + lost.tokens_out:,} tokens for requests whose "
                "answers never came"
            )
        return outcomes, f"{told}."

    def _check(self) -> None:
        check_numbers(self, "--", attempts=Range(1, 1_000), temperature=TEMPERATURE)
        if self.by == "chat" and not self.chat.model:
            hint = "name the model as the endpoint does."
            raise InputError("no model is named", where="--chat.model", hint=hint)
        if self.by == "chat":
            self.chat.api_key()
        if self.by == "chat" and self.trained is not None:
            hint = "leave it out, or use --by model."
            raise InputError("a chat model needs no run", where="--run", hint=hint)

    def _run_folder(self) -> Path:
        if self.trained is None:
            hint = "give the folder of a run that was tuned on history_to_preference and others."
            raise InputError("no run is named", where="--run", hint=hint)
        return self.trained

    def _refuse_nothing(self, manifest: TeacherTextsManifest) -> None:
        if not manifest.asked:
            raise InputError(
                "there is nothing to ask",
                where="--run" if self.by == "model" else "--events",
                hint="use a run that was tuned on history_to_preference, item_to_query, "
                "history_item_to_query or history_item_to_reason."
                if self.by == "model"
                else "use a log whose users have two or more events.",
            )
        if not manifest.answered:
            reasons = ", ".join(f"{name} {count}" for name, count in manifest.rejected.items())
            raise InputError(
                f"none of {manifest.answers:,} answers passed the checks ({reasons})",
                where="--chat.model" if self.by == "chat" else "--run",
                hint="use a model that follows its instructions; nothing was written.",
            )


def _count(split: Split, scope: Scope) -> int:
    return sum(1 for _ in wanted_texts(split, scope))


def _wording(run: Path, split: Split) -> PromptWriter:
    """Reads how a run writes the items of a split, which may be that of other users."""
    from irec_jax.recommendation.catalog import Catalog
    from irec_jax.recommendation.run_parts import check_parts, read_settings, read_writer
    from irec_jax.tokens.text import IndexKind

    settings, writer = read_settings(run), read_writer(run)
    catalog = Catalog.load(run / CATALOG_FILE)
    check_parts(settings, catalog, writer)
    known = dict(zip(catalog.table["item"].to_list(), writer.index.names, strict=True))
    items: list[str] = split.catalog["item"].to_list()
    titles: list[str] = split.catalog["title"].to_list()
    strange = [item for item in items if item not in known]
    if strange and writer.index.kind is not IndexKind.TITLE:
        raise InputError(
            f"the run does not know {len(strange):,} of the log's {len(items):,} items, "
            f"such as {strange[0]!r}, and its items are tokens",
            where=str(run),
            hint="use a log of the items that it was tuned on, or a run with tokens.index title.",
        )
    written = [known.get(item, title) for item, title in zip(items, titles, strict=True)]
    return PromptWriter.build(settings.instructions, tuple(written))


def _writer(run: Path, temperature: float) -> GenerateFn:
    from irec_jax.decoding.sample import SampleConfig
    from irec_jax.recommendation.run_parts import read_settings
    from irec_jax.recommendation.writer import AnswerWriter

    length = read_settings(run).tokens.target_length
    return AnswerWriter.load(run, SampleConfig(temperature=temperature, length=length))


def _table(manifest: TeacherTextsManifest) -> Table:
    table = Table("what", title="Texts")
    for name in ("asked for", "written", "left out"):
        table.add_column(name, justify="right")
    for kind, asked in manifest.asked.items():
        written = manifest.answered.get(kind, 0)
        table.add_row(kind, f"{asked:,}", f"{written:,}", f"{asked - written:,}")
    return table


def _summary(manifest: TeacherTextsManifest) -> str:
    rejected = ", ".join(f"{name} {count:,}" for name, count in manifest.rejected.items())
    lines = [f"{manifest.answers:,} answers; rejected: {rejected or 'none'}."]
    if manifest.left_out:
        left_out = ", ".join(f"{name} {count:,}" for name, count in manifest.left_out.items())
        lines.append(f"Left out at last: {left_out}.")
    if manifest.tokens_in:
        lines.append(
            f"These texts cost {manifest.tokens_in:,} + {manifest.tokens_out:,} tokens, "
            f"{manifest.money:.4f} in money."
        )
    return "\n".join(lines)
