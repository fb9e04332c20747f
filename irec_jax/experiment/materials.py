"""The materials of an experiment: log, split, tokens and instructions."""

import dataclasses
import functools
from pathlib import Path

from irec_jax.batches.packed import PackedRows, Packing
from irec_jax.batches.pipeline import RecordSource
from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment
from irec_jax.experiment.tokenizer_texts import training_texts
from irec_jax.instruction_sets.store import made_from
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.pack_files import with_copied_packs
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.templates import TemplatePack, load_packs
from irec_jax.log.dataset import load_log
from irec_jax.log.events import BehaviorLog
from irec_jax.log.split import Split, split_log
from irec_jax.run_checksums import Sources, catalog_sha256, check_files
from irec_jax.run_folder import CHECKSUMS_FILE, PACKS_FOLDER, TOKENS_FOLDER
from irec_jax.settings import flatten
from irec_jax.teachers.choose import make_teacher
from irec_jax.tokens.items import TokenWriter, make_writer
from irec_jax.tokens.text import UNKNOWN
from irec_jax.training.checkpoint import has_started
from irec_jax.understanding.lexicon_mining import mine_lexicon
from irec_jax.understanding.request_grammar import LANGUAGES, load_grammar
from irec_jax.understanding.request_records import MixedRecords, RequestRecords

UNKNOWN_SHARE = 0.1  # of a pack's tokens, at most


@dataclasses.dataclass(frozen=True, eq=False)
class Materials:
    """The materials of an experiment, after its log is read.

    Attributes:
        experiment: With the model's vocabulary resolved.
        log: The behavior log.
        split: The log cut for the experiment's protocol.
        writer: Text and items to token ids and back.
        renderer: Training instructions by number.
        requests: Records of understanding by number; None for a run without them.
    """

    experiment: Experiment
    log: BehaviorLog
    split: Split
    writer: TokenWriter
    renderer: Renderer
    requests: RequestRecords | None = None

    @functools.cached_property
    def records(self) -> RecordSource:
        """Training records: the instructions, mixed with the records of understanding."""
        if self.requests is None:
            return self.renderer
        share = self.experiment.instructions.understanding
        return MixedRecords(self.renderer, self.requests, share)


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
    requests = _request_records(split, instructions, experiment.seed)
    if run is not None and (run / TOKENS_FOLDER).is_dir():
        writer = TokenWriter.load(run / TOKENS_FOLDER)
    else:
        texts = training_texts(split, instructions, teacher, requests)
        writer = make_writer(split.catalog, texts, experiment.tokens, experiment.seed)
    renderer = Renderer.build(
        split,
        instructions,
        names=writer.index.names,
        seed=experiment.seed,
        teacher=teacher,
    )
    for pack in renderer.prompt_writer.packs:
        _refuse_unwritable(pack, writer)
    model = dataclasses.replace(experiment.model, vocabulary=writer.index.vocabulary)
    resolved = dataclasses.replace(experiment, model=model)
    return Materials(resolved, log, split, writer, renderer, requests)


def _request_records(
    split: Split, instructions: InstructionsConfig, seed: int
) -> RequestRecords | None:
    """The records of understanding, None where the config asks for none.

    Raises:
        InputError: No pack is in a language that has a request grammar, or the catalog has
            nothing that a request could name.
    """
    if not instructions.understanding:
        return None
    packs = load_packs(instructions.packs, instructions.domain, instructions.own_tasks)
    grammars = tuple(load_grammar(pack.language) for pack in packs if pack.language in LANGUAGES)
    if not grammars:
        raise InputError(
            f"no template pack is in a language with a request grammar ({', '.join(LANGUAGES)})",
            where="instructions.understanding",
            hint="Set it to 0, or add the pack en to instructions.packs.",
        )
    known = {grammar.language: grammar.words.known for grammar in grammars}
    lexicon = dataclasses.replace(mine_lexicon(split), grammars=known)
    if not lexicon.values:
        raise InputError(
            "the catalog has no category, brand or attribute that two items share",
            where="instructions.understanding",
            hint="Set it to 0, or add categories to the items of the log.",
        )
    return RequestRecords(split, lexicon, grammars, seed)


def _refuse_unwritable(pack: TemplatePack, writer: TokenWriter) -> None:
    """Refuses a pack in a script that the tokenizer does not know."""
    text = " ".join(" ".join(template.literals) for template in pack.templates)
    ids = writer.encode(text)
    unknown = sum(token == UNKNOWN for token in ids)
    if unknown > UNKNOWN_SHARE * len(ids):
        raise InputError(
            f"the tokenizer knows {1 - unknown / len(ids):.0%} of the words in {pack.file}",
            where="tokens.tokenizer",
            hint="Use a tokenizer of that language (mT5's or umT5's), or 'trained'.",
        )


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
        source=materials.records,
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
    ours = flatten({**packing.all_made_from(), **lengths})
    there = {key: getattr(rows.manifest, key) for key in lengths}
    theirs = flatten({**rows.manifest.made_from, **there})
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            raise InputError(
                f"its rows were made with {key} = {theirs.get(key)!r}, not {ours.get(key)!r}",
                where=f"train.packed: {folder}",
                hint="Write them again with `irec instruct EXPERIMENT --packed DIR`.",
            )
    return rows
