"""The parts of a run folder that answering needs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from irec_jax.batches.prompt_batches import PromptBuckets
from irec_jax.decoding.beam import DecodeConfig
from irec_jax.errors import InputError
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.templates import with_copied_packs
from irec_jax.model.config import T5Config
from irec_jax.recommendation.catalog import Catalog
from irec_jax.run_checksums import PACKS_FOLDER, TOKENS_FOLDER, check_files
from irec_jax.settings import from_json
from irec_jax.tokens.items import TokenWriter
from irec_jax.tokens.text import TokensConfig


@dataclasses.dataclass(frozen=True)
class ServingSettings:
    """The parts of a run's config that serving needs."""

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
    """Reads them from `config.json` of a run, and checks the files beside it.

    Raises:
        InputError: The folder is no run, its config is not one of this version, or its catalog,
            tokens or packs are not what was written.
    """
    path = run / "config.json"
    if not path.is_file():
        raise InputError(
            "the run has no config.json" if run.is_dir() else "there is no such run folder",
            where=str(run),
            hint="give the folder that `irec tune` wrote.",
        )
    hint = "copy it again from where the run was tuned."
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"it is not JSON: {error}", where=str(path), hint=hint) from error
    names = [field.name for field in dataclasses.fields(ServingSettings)]
    if not isinstance(config, dict) or not config.keys() >= set(names):
        what = f"it must be an object with the sections {', '.join(names)}"
        raise InputError(what, where=str(path), hint=hint)
    settings = from_json(ServingSettings, {name: config[name] for name in names}, where=str(path))
    check_files(run)
    instructions = with_copied_packs(settings.instructions, run / PACKS_FOLDER)
    return dataclasses.replace(settings, instructions=instructions)


def read_writer(run: Path) -> TokenWriter:
    """Reads the tokenizer and item index of a run.

    Raises:
        InputError: They are missing or damaged.
    """
    if not (run / TOKENS_FOLDER).is_dir():
        raise InputError(
            "the run has no tokenizer and item index",
            where=str(run / TOKENS_FOLDER),
            hint="copy the whole run folder, or tune again with `irec tune`.",
        )
    return TokenWriter.load(run / TOKENS_FOLDER)


def check_vocabulary(settings: ServingSettings, writer: TokenWriter) -> None:
    """Compares the model's vocabulary with that of the tokens.

    Raises:
        InputError: They come from different runs.
    """
    vocabulary = writer.index.vocabulary
    if vocabulary != settings.model.vocabulary:
        what = f"{vocabulary} token ids in tokens/, {settings.model.vocabulary} in the model"
        hint = "copy the whole run folder again; its parts come from different runs."
        raise InputError(what, where="run", hint=hint)


def check_parts(settings: ServingSettings, catalog: Catalog, writer: TokenWriter) -> None:
    """Compares the catalog with the item index, and the model's vocabulary with the tokens.

    Raises:
        InputError: They come from different runs.
    """
    if writer.index.num_items != len(catalog):
        what = f"{writer.index.num_items} items in tokens/, {len(catalog)} in catalog.parquet"
        hint = "copy the whole run folder again; its parts come from different runs."
        raise InputError(what, where="run", hint=hint)
    check_vocabulary(settings, writer)
