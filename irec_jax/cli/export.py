"""`irec export`: the weights of a run in the format of Hugging Face."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import tyro

from irec_jax.batches.pipeline import Example, encode_record
from irec_jax.bounds import COUNT_OR_NONE, check_between
from irec_jax.cli.export_check import compare, require_transformers
from irec_jax.exit_codes import EXIT_CHECK_FAILED
from irec_jax.experiment.config import Experiment
from irec_jax.experiment.materials import prepare
from irec_jax.experiment.run_config import load_run
from irec_jax.files import check_output_folder
from irec_jax.model.hf_names import CONFIG
from irec_jax.model.pretrained import INDEX, WEIGHTS, save_hf
from irec_jax.run_checksums import check_files
from irec_jax.run_folder import TOKENS_FOLDER
from irec_jax.terminal import Console
from irec_jax.tokens.items import INDEX_SETTINGS
from irec_jax.tokens.text import HUGGING_FACE_FILE, SENTENCEPIECE_FILE
from irec_jax.training.checkpoint import load_params

CHECKED_PROMPTS = 8

_SPECIAL_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
_TOKENIZER = {"tokenizer_class": "PreTrainedTokenizerFast", **_SPECIAL_TOKENS}
# The ids after the pieces are items, not T5's sentinels.
_SENTENCEPIECE = {
    "tokenizer_class": "T5Tokenizer",
    **_SPECIAL_TOKENS,
    "extra_ids": 0,
    "add_eos_token": True,
}


@dataclasses.dataclass(frozen=True)
class Export:
    """Writes the weights of a run as a Hugging Face folder.

    `T5ForConditionalGeneration.from_pretrained` and, for text, `AutoTokenizer.from_pretrained`
    of transformers load it (`MT5...` or `UMT5...` for those families). The item index is written
    too; it holds the tokens of each item. Example:

        irec export runs/movies --to hf --out exports/movies --check

    Attributes:
        folder: The folder that `irec tune` wrote.
        to: The format: `hf` for config.json, model.safetensors and the tokenizer.
        out: The folder to write; an earlier export there is replaced.
        step: The step of the checkpoint; default: the newest.
        check: Compare the logits of transformers (with torch) with those of the run, on prompts of
            the run; exit code 1 if they differ by more than 1e-4 of the largest.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    out: Path
    to: Literal["hf"] = "hf"
    step: int | None = None
    check: bool = False

    def run(self) -> None:
        """Writes the folder, prints its path, and checks it if `check` is set.

        Raises:
            SystemExit: With 1, if the check fails.
        """
        check_between(self.step, COUNT_OR_NONE, "--step")
        check_output_folder(self.out, "an export", _is_export)
        if self.check:
            require_transformers()
        experiment = load_run(self.folder)
        check_files(self.folder)
        model = experiment.model
        examples = self._examples(experiment) if self.check else []
        params = load_params(self.folder, model, self.step)
        tokens = self.folder / TOKENS_FOLDER
        files = {path.name: path.read_bytes() for path in sorted(tokens.iterdir())}
        files.update(_tokenizer_files(files, model.family))
        save_hf(self.out, model, params, beside=files)
        console = Console()
        console.print(f"The Hugging Face folder is in {self.out}.", markup=False)
        if not self.check:
            return
        result = compare(self.out, dataclasses.replace(model, compute="float32"), params, examples)
        console.print(
            f"The largest difference to transformers' logits is {result.difference:.1e} "
            f"({len(examples)} prompts, {result.tokens} tokens, logits up to "
            f"{result.largest:.3g}): {'they agree' if result.agrees else 'they do NOT agree'}.",
            markup=False,
            highlight=False,
        )
        if not result.agrees:
            raise SystemExit(EXIT_CHECK_FAILED)

    def _examples(self, experiment: Experiment) -> list[Example]:
        materials = prepare(experiment, self.folder)
        tokens = experiment.tokens
        return [
            encode_record(
                materials.renderer.record(number),
                materials.writer,
                tokens.source_length,
                tokens.target_length,
            )
            for number in range(CHECKED_PROMPTS)
        ]


def _tokenizer_files(files: Mapping[str, bytes], family: str) -> dict[str, bytes]:
    """Files that transformers needs beside the tokenizer's own file, as name -> content."""
    if HUGGING_FACE_FILE in files:
        return {"tokenizer_config.json": json.dumps(_TOKENIZER, indent=2).encode()}
    added = {"tokenizer_config.json": json.dumps(_SENTENCEPIECE, indent=2).encode()}
    if family == "umt5":
        added["tokenizer.model"] = files[SENTENCEPIECE_FILE]  # the name that its class expects
    return added


def _is_export(folder: Path) -> bool:
    """An index of items is in every export, and in no folder of transformers."""
    weights = any((folder / name).is_file() for name in (WEIGHTS, INDEX))
    return weights and all((folder / name).is_file() for name in (CONFIG, INDEX_SETTINGS))
