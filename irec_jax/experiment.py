"""The config tree: one frozen dataclass a room, composed here, and what is made from it."""

import dataclasses
import difflib
import json
import shutil
import traceback
from collections.abc import Sequence
from pathlib import Path

import tyro

from irec_jax.batches.packed import PackedRows, Packing
from irec_jax.bounds import SEED, check_settings
from irec_jax.decoding.beam import DecodeConfig
from irec_jax.errors import InputError
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.files import replaced_file, write_text
from irec_jax.instruction_sets.store import made_from
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import ANSWER_MARK, Part, Slot
from irec_jax.instructions.prompts import SEPARATOR
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.tasks import INTENTION_CODES, task_named
from irec_jax.instructions.teacher import Teacher
from irec_jax.instructions.templates import (
    TemplatePack,
    copy_packs,
    load_packs,
    with_copied_packs,
)
from irec_jax.log.dataset import SIMULATED, DataConfig, load_log
from irec_jax.log.events import BehaviorLog
from irec_jax.log.split import Role, Split, split_log
from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig
from irec_jax.run_checksums import (
    Sources,
    catalog_sha256,
    check_files,
    refuse_other_sources,
    write_checksums,
)
from irec_jax.run_folder import (
    CATALOG_FILE,
    CHECKSUMS_FILE,
    CONFIG_FILE,
    PACKS_FOLDER,
    TOKENS_FOLDER,
)
from irec_jax.settings import check_texts, from_json, load_module, to_json
from irec_jax.teachers.choose import make_teacher
from irec_jax.tokens.items import TokenWriter, make_writer
from irec_jax.tokens.text import UNKNOWN, TokensConfig
from irec_jax.training.checkpoint import has_started
from irec_jax.training.config import TrainConfig
from irec_jax.training.optimizer import OptimizerConfig
from irec_jax.training.sharding import MeshConfig

TEMPLATE_WEIGHT = 20
TAUGHT_SAMPLE = 5_000  # events whose teacher's texts a tokenizer learns from
UNKNOWN_SHARE = 0.1  # of a pack's tokens, at most


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that decides a run; the same experiment gives the same run.

    Attributes:
        data: The behavior log and how it is split.
        instructions: Which tasks are asked, in which language and domain.
        tokens: The tokenizer, the item index and the lengths of packed rows.
        model: The T5 model; its `vocabulary` is set to what the tokens need.
        lora: Which weights are trained through adapters; all are trained unless told.
        mesh: How the devices are laid out.
        optimizer: The optimizer and its schedule.
        train: Steps, batch size, checkpoints.
        decode: How answers are searched for.
        evaluation: What is graded and how.
        seed: The one source of all randomness.
    """

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    instructions: InstructionsConfig = dataclasses.field(default_factory=InstructionsConfig)
    tokens: TokensConfig = dataclasses.field(default_factory=TokensConfig)
    model: T5Config = dataclasses.field(default_factory=T5Config)
    lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    decode: DecodeConfig = dataclasses.field(default_factory=DecodeConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses impossible settings."""
        check_settings(self, "", seed=SEED)


@dataclasses.dataclass(frozen=True, eq=False)
class Materials:
    """What an experiment is made of, once its log is read.

    Attributes:
        experiment: With the model's vocabulary resolved.
        log: The behavior log.
        split: The log cut for the experiment's protocol.
        writer: Text and items to token ids and back.
        renderer: Training instructions by number.
    """

    experiment: Experiment
    log: BehaviorLog
    split: Split
    writer: TokenWriter
    renderer: Renderer


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Reads `experiment` from a Python file and sets leaves from the command line.

    Args:
        path: A file as in `configs/`.
        overrides: Such as `["--train.steps", "2000"]`.

    Raises:
        InputError: If there is no such file, or it does not define an `Experiment`. An unknown
            or impossible override ends the program with exit code 2, as tyro does.
    """
    if not path.is_file():
        known = sorted(str(file) for file in Path("configs").glob("*.py"))
        close = difflib.get_close_matches(str(path), known, n=1, cutoff=0.3)
        hint = f"Did you mean {close[0]}?" if close else "Give the path of a Python config file."
        raise InputError("there is no such experiment file", where=str(path), hint=hint)
    experiment = _run_config_file(path)
    experiment = tyro.cli(
        tyro.conf.EnumChoicesFromValues[tyro.conf.AvoidSubcommands[Experiment]],
        default=experiment,
        args=list(overrides),
        prog=f"irec COMMAND {path}",
    )
    check_texts(to_json(experiment), str(path))
    return experiment


def _run_config_file(path: Path) -> Experiment:
    try:
        module = load_module(path)
    except KeyboardInterrupt:
        raise
    except InputError as error:
        where = f"{_place(path, error)}: {error.where}".rstrip(": ")
        raise InputError(error.problem, where=where, hint=error.hint) from None
    except BaseException as error:  # SystemExit too: the command would end with its code
        problem = f"{type(error).__name__}: {error}".rstrip(": ")
        raise InputError(problem, where=_place(path, error)) from error
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        hint = "End the file with `experiment = Experiment(...)`."
        raise InputError("it defines no `experiment`", where=str(path), hint=hint)
    return experiment


def _place(path: Path, error: BaseException) -> str:
    """Returns the file and the line of it that raised `error`, where that is known."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def prepare(experiment: Experiment, run: Path | None = None) -> Materials:
    """Reads or simulates the log, splits it, and opens or trains the tokens.

    Args:
        experiment: The experiment.
        run: A run whose `tokens/` are used once it has a checkpoint, so that a tuned model
            always meets the ids that it was tuned on.

    Raises:
        InputError: If the log, the tokenizer or the settings do not fit, or a file of the run is
            not what was written.
    """
    if run is not None and (run / CHECKSUMS_FILE).is_file():
        check_files(run)
    log = load_log(experiment.data)
    split = split_log(log, experiment.data, experiment.seed)
    instructions = experiment.instructions
    if run is not None and not has_started(run):
        run = None  # what a failed first start has left decides nothing
    if run is not None:
        instructions = with_copied_packs(instructions, run / PACKS_FOLDER)
    teacher = make_teacher(split, instructions, experiment.seed)
    if run is not None and (run / TOKENS_FOLDER).is_dir():
        writer = TokenWriter.load(run / TOKENS_FOLDER)
    else:
        texts = training_texts(split, instructions, teacher)
        writer = make_writer(split.catalog, texts, experiment.tokens, experiment.seed)
    renderer = Renderer.build(
        split,
        instructions,
        names=writer.index.names,
        seed=experiment.seed,
        teacher=teacher,
    )
    for pack in renderer.wording.packs:
        _refuse_unwritable(pack, writer)
    model = dataclasses.replace(experiment.model, vocabulary=writer.index.vocabulary)
    resolved = dataclasses.replace(experiment, model=model)
    return Materials(resolved, log, split, writer, renderer)


def sources_of(materials: Materials) -> Sources:
    """Checksums of what an experiment is trained on, besides its settings."""
    return Sources(
        log=dict(materials.log.manifest.sha256),
        catalog=catalog_sha256(materials.split.catalog),
        teacher=materials.renderer.teacher.fingerprint(),
    )


def packing_of(materials: Materials) -> Packing:
    """How the experiment's training instructions become packed rows."""
    tokens = materials.experiment.tokens
    return Packing(
        source=materials.renderer,
        made_from=made_from(materials.renderer),
        writer=materials.writer,
        source_length=tokens.source_length,
        target_length=tokens.target_length,
    )


def open_rows(materials: Materials, folder: Path) -> PackedRows:
    """Opens packed rows that are to be trained on.

    Raises:
        InputError: There are none, or they were made from something else; it is named.
    """
    rows, packing = PackedRows(folder), packing_of(materials)
    lengths = {"source_length": packing.source_length, "target_length": packing.target_length}
    ours = _leaves({**packing.all_made_from(), **lengths})
    there = {key: getattr(rows.manifest, key) for key in lengths}
    theirs = _leaves({**rows.manifest.made_from, **there})
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            raise InputError(
                f"its rows were made with {key} = {theirs.get(key)!r}, not {ours.get(key)!r}",
                where=f"train.packed: {folder}",
                hint="Write them again with `irec instruct EXPERIMENT --packed DIR`.",
            )
    return rows


def training_texts(split: Split, config: InstructionsConfig, teacher: Teacher) -> list[str]:
    """What a tokenizer may learn from: titles, queries before training events, and templates.

    Each template counts `TEMPLATE_WEIGHT` times, so that its words become pieces of their own:
    a prompt of 20 atomic items then has 33 tokens, 68 without. Held-out templates are not read.
    A teacher's texts are sampled.
    """
    queries = [
        query
        for query, role in zip(split.queries, split.roles, strict=True)
        if query and role == Role.TRAIN
    ]
    packs = load_packs(config.packs, config.domain)
    templates = [
        template.fill(dict.fromkeys(Slot, SEPARATOR))
        for pack in packs
        for template in pack.templates
        if template.task in config.tasks and not template.held_out
    ]
    templates += [text for pack in packs for text in _fixed_words(pack, config)]
    taught = _taught_texts(split, config, teacher, [pack.language for pack in packs])
    return split.catalog["title"].to_list() + queries + taught + TEMPLATE_WEIGHT * templates


def _fixed_words(pack: TemplatePack, config: InstructionsConfig) -> list[str]:
    """What answers and contexts hold besides names and what a teacher writes."""
    tasks = [task_named(name) for name in config.tasks]
    words = [pack.yes, pack.no] if any(Part.VERDICT in task.answers for task in tasks) else []
    if any(len(task.answers) > 1 for task in tasks):
        words.append(ANSWER_MARK)
    return words + (list(pack.context.values()) if config.context else [])


def _taught_texts(
    split: Split, config: InstructionsConfig, teacher: Teacher, languages: Sequence[str]
) -> list[str]:
    """A sample of what the teacher writes before training events."""
    if config.teacher == "log":
        return []
    tasks = [task_named(name) for name in config.tasks]
    kinds = {i for task in tasks if task.reads_query for i in task.intentions}
    positions = split.targets(Role.TRAIN)
    texts: list[str] = []
    for position in positions[:: max(1, len(positions) // TAUGHT_SAMPLE)].tolist():
        for language in languages:
            texts += [
                teacher.query(position, kind, language) for kind in INTENTION_CODES if kind in kinds
            ]
            if any(task.reads_preference for task in tasks):
                texts.append(teacher.preference(position, position % teacher.variants, language))
            if any(task.reads_reason for task in tasks):
                texts.append(teacher.reason(position, language))
    return [text for text in texts if text]


def _refuse_unwritable(pack: TemplatePack, writer: TokenWriter) -> None:
    """Refuses a pack in a script that the tokenizer does not know."""
    text = " ".join(" ".join(template.literals) for template in pack.templates)
    ids = writer.encode(text)
    unknown = sum(token == UNKNOWN for token in ids)
    if unknown > UNKNOWN_SHARE * len(ids):
        raise InputError(
            f"the tokenizer knows {1 - unknown / len(ids):.0%} of the words in {pack.file}",
            where="tokens.tokenizer",
            hint="use a tokenizer of that language (mT5's or umT5's), or 'trained'.",
        )


def save_run(run: Path, materials: Materials) -> None:
    """Writes what a run needs besides its weights: config, catalog and tokens.

    Until its first checkpoint a run may change, and all of it is written again.

    Raises:
        InputError: If the run was started with another config, log, catalog or teacher, naming
            the first that differs.
    """
    config, sources = to_json(materials.experiment), sources_of(materials)
    started = has_started(run)
    if started and (run / CONFIG_FILE).exists():
        _refuse_other(run, fingerprint(load_run(run)), fingerprint(materials.experiment))
        refuse_other_sources(run, sources)
    run.mkdir(parents=True, exist_ok=True)
    if not started or not (run / TOKENS_FOLDER).is_dir():
        materials.writer.save(run / TOKENS_FOLDER)
    if not started:
        shutil.rmtree(run / PACKS_FOLDER, ignore_errors=True)
    copy_packs(materials.experiment.instructions, run / PACKS_FOLDER)
    if not started or not (run / CATALOG_FILE).exists():
        with replaced_file(run / CATALOG_FILE) as temporary:
            materials.split.catalog.write_parquet(temporary)
    write_checksums(run, sources)
    write_text(run / CONFIG_FILE, json.dumps(config, indent=2) + "\n")


def load_run(run: Path) -> Experiment:
    """Reads the resolved experiment of a run.

    Raises:
        InputError: If the folder is no run, or its config does not fit this version.
    """
    path = run / CONFIG_FILE
    if not path.is_file():
        hint = "Give the folder that `irec tune` wrote."
        raise InputError("the run has no config.json", where=str(run), hint=hint)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"it is not JSON: {error}", where=str(path)) from error
    return from_json(Experiment, data, where=str(path))


def fingerprint(experiment: Experiment) -> dict:
    """The part of the config that a checkpoint depends on; the rest may change on resume.

    The path of a prepared log is not in it: `sources_of` has the checksums of its files.
    """
    config = to_json(experiment)
    if experiment.data.log != SIMULATED:
        config["data"]["log"] = "prepared"
    if not experiment.lora.rank:
        config["lora"] = to_json(LoraConfig())  # without a rank the rest says nothing
    names = ("data", "instructions", "tokens", "model", "lora", "optimizer", "seed")
    return {key: config[key] for key in names} | {"batch_size": config["train"]["batch_size"]}


def _refuse_other(run: Path, old: dict, new: dict) -> None:
    for key, value in _leaves(new).items():
        before = _leaves(old).get(key)
        if before != value:
            raise InputError(
                f"this run was started with {key} = {before!r}, not {value!r}",
                where=str(run),
                hint="Use the same config, or another folder: --out.",
            )


def _leaves(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat.update(_leaves(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat
