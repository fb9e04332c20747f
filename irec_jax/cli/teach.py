"""`irec teach`: texts that a log lacks, written by a model."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.table import Table

from irec_jax.bounds import TEMPERATURE, Range, check_numbers
from irec_jax.errors import InputError
from irec_jax.experiment.loading import load_experiment
from irec_jax.files import real_path
from irec_jax.instructions.prompts import PromptWriter
from irec_jax.instructions.templates import load_packs
from irec_jax.log.dataset import load_split
from irec_jax.log.split import Split
from irec_jax.run_checksums import CATALOG_FILE
from irec_jax.teachers.chat import request_texts
from irec_jax.teachers.chat_endpoint import ChatConfig
from irec_jax.teachers.cost_ledger import CostLedger
from irec_jax.teachers.model import GenerateFn, generate_texts
from irec_jax.teachers.results import TextResult, collect_texts, summarize
from irec_jax.teachers.teacher_prompts import (
    ChatPromptWriter,
    RequestScope,
    RunPromptWriter,
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
    """Has a model write preferences, queries and reasons that the log lacks.

    The model is a chat model behind an OpenAI-compatible endpoint, or a tuned run. Each text is
    checked for language, length, titles and user numbers. To train on the texts:
    `--instructions.teacher texts --instructions.teacher_texts OUT`. Any setting of the experiment
    can be changed: `--section.key value`.

    Example: irec teach configs/quickstart.py --by chat --out texts/shop --users 500
    --chat.base-url http://localhost:8000/v1 --chat.model Qwen/Qwen3-8B
    """

    experiment: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EXPERIMENT")]
    """The experiment, a Python file as in configs/."""
    by: Literal["chat", "model"]
    """The kind of model."""
    out: Path
    """The folder of teacher texts to write."""
    trained: Annotated[Path | None, tyro.conf.arg(name="run", metavar="RUN")] = None
    """The run that writes, for `--by model`; tuned on turned-around tasks."""
    users: int | None = None
    """Number of users, drawn by the seed; all by default. Each has three preference texts."""
    events: int = 3
    """Events per user with queries: the newest test, validation and training events first."""
    reasons: bool = False
    """Also write reasons why the items of these events suit their users."""
    attempts: int = 3
    """Largest number of responses for a text that does not pass the checks."""
    temperature: float = 0.7
    """Sampling temperature of a run; 0 for the most likely words."""
    answers: Path | None = None
    """The file that stores a chat model's responses; OUT.answers.jsonl by default."""
    chat: ChatConfig = dataclasses.field(default_factory=ChatConfig)
    """The endpoint, its prices and the budget."""

    def run(self, overrides: Sequence[str] = ()) -> None:
        """Requests texts, writes those that pass and prints a summary.

        Raises:
            InputError: A setting is wrong, the endpoint does not respond, the budget is spent, or
                no text passed.
        """
        self._check()
        check_texts_folder(self.out)
        experiment = load_experiment(self.experiment, overrides, "teach")
        instructions = experiment.instructions
        packs = load_packs(instructions.packs, instructions.domain, instructions.own_tasks)
        scope = RequestScope(
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
            requests = make_requests(
                split, scope, ChatPromptWriter.build(split, instructions.domain)
            )
            results, cost_report = self._request_from_endpoint(requests, split, scope)
        else:
            run = self._run_folder()
            model, cost_report = real_path(run).name, ""
            write_prompt = RunPromptWriter(split, _prompt_writer(run, split))
            requests = make_requests(split, scope, write_prompt)
            results = generate_texts(
                requests,
                _generate_fn(run, self.temperature),
                total=_count_requests(split, scope),
                attempts=self.attempts,
                seed=experiment.seed,
            )
        manifest = summarize(results, split, scope, self.by, model)
        self._refuse_no_texts(manifest)
        write_teacher_texts(self.out, collect_texts(results, self.by, model), manifest)
        console.print(_table(manifest))
        console.print(_summary(manifest), markup=False)
        if cost_report:
            console.print(cost_report, markup=False)
        console.print(
            f"Wrote {self.out}. Next: irec tune {self.experiment} --instructions.teacher texts "
            f"--instructions.teacher_texts {self.out}",
            markup=False,
        )

    def _request_from_endpoint(
        self, requests: Iterable[TextRequest], split: Split, scope: RequestScope
    ) -> tuple[list[TextResult], str]:
        path = self.answers or self.out.with_name(self.out.name + ANSWERS_SUFFIX)
        with CostLedger(path, self.chat.budget) as ledger:
            results = request_texts(
                requests,
                self.chat,
                ledger,
                total=_count_requests(split, scope),
                attempts=self.attempts,
                seed=scope.seed,
            )
            counts, spent, unsettled = ledger.counts, ledger.spent, ledger.unsettled
        cost_report = (
            f"This run: {counts.requests:,} requests ({counts.retries:,} of them retries), "
            f"{counts.paid:,} responses paid, {counts.cached:,} already stored.\n"
            f"Total cost of {path}: {spent.tokens_in:,} + {spent.tokens_out:,} tokens, "
            f"price {spent.money:.4f}"
        )
        if unsettled.tokens_in:
            cost_report += (
                f", including at most {unsettled.tokens_in + unsettled.tokens_out:,} tokens for "
                "requests without a response"
            )
        return results, f"{cost_report}."

    def _check(self) -> None:
        check_numbers(self, "--", attempts=Range(1, 1_000), temperature=TEMPERATURE)
        if self.by == "chat" and not self.chat.model:
            hint = "Set it to the endpoint's name of the model."
            raise InputError("no model is named", where="--chat.model", hint=hint)
        if self.by == "chat":
            self.chat.api_key()
        if self.by == "chat" and self.trained is not None:
            hint = "Leave it out, or use --by model."
            raise InputError("a chat model needs no run", where="--run", hint=hint)

    def _run_folder(self) -> Path:
        if self.trained is None:
            hint = "Give the folder of a run that was tuned on turned-around tasks."
            raise InputError("no run is named", where="--run", hint=hint)
        return self.trained

    def _refuse_no_texts(self, manifest: TeacherTextsManifest) -> None:
        if not manifest.requested:
            raise InputError(
                "no text can be requested",
                where="--run" if self.by == "model" else "--events",
                hint="Use a run that was tuned on history_to_preference, item_to_query, "
                "history_item_to_query or history_item_to_reason."
                if self.by == "model"
                else "Use a log whose users have two or more events.",
            )
        if not manifest.written:
            reasons = ", ".join(f"{name} {count}" for name, count in manifest.rejected.items())
            raise InputError(
                f"none of {manifest.responses:,} responses passed the checks ({reasons})",
                where="--chat.model" if self.by == "chat" else "--run",
                hint="Use a model that follows its instructions; nothing was written.",
            )


def _count_requests(split: Split, scope: RequestScope) -> int:
    return sum(1 for _ in wanted_texts(split, scope))


def _prompt_writer(run: Path, split: Split) -> PromptWriter:
    """Returns the prompt writer of a run, with its names of the items of another split."""
    from irec_jax.recommendation.catalog import Catalog
    from irec_jax.recommendation.run_parts import check_parts, read_settings, read_writer

    settings, writer = read_settings(run), read_writer(run)
    catalog = Catalog.load(run / CATALOG_FILE)
    check_parts(settings, catalog, writer)
    names = dict(zip(catalog.table["item"].to_list(), writer.index.names, strict=True))
    items: list[str] = split.catalog["item"].to_list()
    titles: list[str] = split.catalog["title"].to_list()
    unknown = [item for item in items if item not in names]
    if unknown and writer.index.has_item_tokens:
        raise InputError(
            f"the run does not know {len(unknown):,} of the log's {len(items):,} items, "
            f"such as {unknown[0]!r}, and its items are tokens",
            where=str(run),
            hint="Use a log of the items that it was tuned on, or a run with tokens.index title.",
        )
    written = [names.get(item, title) for item, title in zip(items, titles, strict=True)]
    return PromptWriter.build(settings.instructions, tuple(written))


def _generate_fn(run: Path, temperature: float) -> GenerateFn:
    from irec_jax.decoding.sample import SampleConfig
    from irec_jax.recommendation.run_parts import read_settings
    from irec_jax.recommendation.writer import AnswerWriter

    length = read_settings(run).tokens.target_length
    return AnswerWriter.load(run, SampleConfig(temperature=temperature, length=length))


def _table(manifest: TeacherTextsManifest) -> Table:
    table = Table("kind", title="Teacher texts")
    for name in ("requested", "written", "not generated"):
        table.add_column(name, justify="right")
    for kind, requested in manifest.requested.items():
        written = manifest.written.get(kind, 0)
        table.add_row(kind, f"{requested:,}", f"{written:,}", f"{requested - written:,}")
    return table


def _summary(manifest: TeacherTextsManifest) -> str:
    rejected = ", ".join(f"{name} {count:,}" for name, count in manifest.rejected.items())
    lines = [f"{manifest.responses:,} responses; rejected: {rejected or 'none'}."]
    if manifest.not_generated:
        counts = ", ".join(f"{name} {count:,}" for name, count in manifest.not_generated.items())
        lines.append(f"Not generated: {counts}.")
    if manifest.tokens_in:
        lines.append(
            f"These texts cost {manifest.tokens_in:,} + {manifest.tokens_out:,} tokens, "
            f"price {manifest.money:.4f}."
        )
    return "\n".join(lines)
