"""`irec export`: a run's weights for other programs."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from irec_jax.errors import InputError
from irec_jax.experiment import TOKENS_FOLDER, load_run
from irec_jax.model.naming import CONFIG
from irec_jax.model.pretrained import WEIGHTS, save_hf
from irec_jax.tokens.text import HUGGING_FACE_FILE
from irec_jax.training.checkpoint import load_params


@dataclasses.dataclass(frozen=True)
class Export:
    """Writes the weights of a run as a Hugging Face folder.

    `T5ForConditionalGeneration.from_pretrained` and, for text, `AutoTokenizer.from_pretrained`
    of transformers load it. The item index goes along: it says which tokens an item is. Example:

        irec export runs/movies --to hf --out exports/movies

    Attributes:
        folder: The folder that `irec tune` wrote.
        to: The form: `hf` for config.json, model.safetensors and the tokenizer.
        out: The folder to write; an earlier export there is replaced.
        step: Which checkpoint; the newest unless told.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    out: Path
    to: Literal["hf"] = "hf"
    step: int | None = None

    def run(self) -> None:
        """Writes the folder and says where."""
        _refuse_to_replace(self.out)
        model = load_run(self.folder).model
        params = load_params(self.folder, model, self.step)
        tokens = self.folder / TOKENS_FOLDER
        if not tokens.is_dir():
            mend = "Copy the whole run folder, or tune again."
            raise InputError("the run has no tokens folder", where=str(self.folder), mend=mend)
        files = {path.name: path.read_bytes() for path in sorted(tokens.iterdir())}
        if HUGGING_FACE_FILE in files:
            files["tokenizer_config.json"] = json.dumps(_TOKENIZER, indent=2).encode()
        save_hf(self.out, model, params, beside=files)
        Console().print(f"The Hugging Face folder is in {self.out}.", markup=False)


_TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
}


def _refuse_to_replace(out: Path) -> None:
    if not out.exists():
        return
    exported = out.is_dir() and (out / CONFIG).is_file() and (out / WEIGHTS).is_file()
    if not exported and not (out.is_dir() and not any(out.iterdir())):
        mend = "Give a new folder, or one that an earlier export wrote."
        raise InputError("it holds something else than an export", where=str(out), mend=mend)
