"""The parts of a run folder that serving reads."""

import dataclasses
from pathlib import Path

from irec_jax.batches.prompt_batches import PromptBuckets
from irec_jax.decoding.config import DecodeConfig
from irec_jax.errors import InputError
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.pack_files import with_copied_packs
from irec_jax.model.config import T5Config
from irec_jax.recommendation.catalog import Catalog
from irec_jax.run_checksums import check_files
from irec_jax.run_folder import (
    CATALOG_FILE,
    CONFIG_FILE,
    PACKS_FOLDER,
    TOKENS_FOLDER,
    read_config,
)
from irec_jax.run_settings import from_run_json
from irec_jax.tokens.config import TokensConfig
from irec_jax.tokens.items import TokenWriter

_HINT_COPY = "Copy the whole run folder again; its parts come from different runs."


@dataclasses.dataclass(frozen=True)
class ServingSettings:
    """The sections of a run's config that serving needs."""

    instructions: InstructionsConfig
    tokens: TokensConfig
    model: T5Config
    decode: DecodeConfig

    @property
    def buckets(self) -> PromptBuckets:
        """The shapes that prompts are padded to: 1 or `decode.batch` rows of three lengths."""
        longest = self.tokens.source_length
        lengths = tuple(sorted({-(-longest // 4), -(-longest // 2), longest}))
        return PromptBuckets(tuple(sorted({1, self.decode.batch})), lengths)


def read_settings(run: Path) -> ServingSettings:
    """Reads the settings of a run and checks the files beside them.

    Raises:
        InputError: The folder is not a run, its config does not fit this version, or its catalog,
            tokens or packs are not what was written.
    """
    config, path = read_config(run), run / CONFIG_FILE
    names = [field.name for field in dataclasses.fields(ServingSettings)]
    missing = [name for name in names if name not in config]
    if missing:
        problem = f"the sections {', '.join(missing)} are missing"
        hint = "Copy it again from where the run was tuned."
        raise InputError(problem, where=str(path), hint=hint)
    settings = from_run_json(
        ServingSettings, {name: config[name] for name in names}, where=str(path)
    )
    check_files(run)
    instructions = with_copied_packs(settings.instructions, run / PACKS_FOLDER)
    return dataclasses.replace(settings, instructions=instructions)


def read_writer(run: Path) -> TokenWriter:
    """Reads the tokenizer and the item index of a run.

    Raises:
        InputError: They are missing or damaged.
    """
    folder = run / TOKENS_FOLDER
    if not folder.is_dir():
        raise InputError(
            "the run has no tokenizer and item index",
            where=str(folder),
            hint="Copy the whole run folder, or tune again with `irec tune`.",
        )
    return TokenWriter.load(folder)


def check_vocabulary(settings: ServingSettings, writer: TokenWriter) -> None:
    """Compares the model's vocabulary with the vocabulary of the item index.

    Raises:
        InputError: They differ.
    """
    vocabulary = writer.index.vocabulary
    if vocabulary != settings.model.vocabulary:
        problem = (
            f"{vocabulary} token ids in {TOKENS_FOLDER}/, {settings.model.vocabulary} in the model"
        )
        raise InputError(problem, where="run", hint=_HINT_COPY)


def check_parts(settings: ServingSettings, catalog: Catalog, writer: TokenWriter) -> None:
    """Compares the catalog with the item index, and the model's vocabulary with the index's.

    Raises:
        InputError: They come from different runs.
    """
    if writer.index.num_items != len(catalog):
        problem = (
            f"{writer.index.num_items} items in {TOKENS_FOLDER}/, {len(catalog)} in {CATALOG_FILE}"
        )
        raise InputError(problem, where="run", hint=_HINT_COPY)
    check_vocabulary(settings, writer)
