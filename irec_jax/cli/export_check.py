"""Check of an export: the logits of transformers against those of the run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from irec_jax.batches.pipeline import Example
from irec_jax.errors import InputError
from irec_jax.model.params import Params, merge, structure
from irec_jax.model.seq2seq import Seq2SeqConfig, shift_right
from irec_jax.tokens.text import PAD

TOLERANCE = 1e-4
"""Relative to the largest logit, or to 1 if all logits are smaller."""


class LogitComparison(NamedTuple):
    """Differences of the logits of two programs.

    Attributes:
        difference: The largest absolute difference.
        largest: The largest absolute logit.
        tokens: Number of compared positions, each over the whole vocabulary.
    """

    difference: float
    largest: float
    tokens: int

    @property
    def agrees(self) -> bool:
        """Whether the logits agree within the tolerance; NaN never does."""
        return self.difference <= TOLERANCE * max(1.0, self.largest)


def require_transformers() -> None:
    """Checks that torch and transformers are installed, before a long export.

    Raises:
        InputError: torch or transformers is not installed.
    """
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"torch and transformers are not installed ({error})",
            where="--check",
            hint="Run `pip install 'irec-jax[parity]'`.",
        ) from None


def compare(
    folder: Path, config: Seq2SeqConfig, params: Params, examples: Sequence[Example]
) -> LogitComparison:
    """Compares the logits of the answers' tokens in both programs, in float32.

    Args:
        folder: The export.
        config: The run's model.
        params: The run's weights.
        examples: Prompts and answers as token ids.
    """
    inputs, segments = _pad([example["inputs"] for example in examples])
    targets, target_segments = _pad([example["targets"] for example in examples])
    decoder_inputs = np.asarray(shift_right(jnp.asarray(targets), jnp.asarray(target_segments)))

    def run(
        params: Params, *rows: Int[Array, "batch _"]
    ) -> Float[Array, "batch target vocabulary"]:
        model = merge(structure(config), params)
        encoded = model.encode(rows[0], rows[1])
        return model.logits(model.decode(rows[2], rows[3], encoded, rows[1]))

    # The default precision of float32 products on accelerators is lower.
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(run)(params, inputs, segments, decoder_inputs, target_segments)
    theirs = _transformers_logits(folder, inputs, segments, decoder_inputs)
    is_token = target_segments > 0
    differences = np.abs(np.asarray(ours)[is_token] - theirs[is_token])
    largest = np.max(np.abs(theirs[is_token]))
    return LogitComparison(float(np.max(differences)), float(largest), int(is_token.sum()))


def _pad(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pads rows to one length; returns token ids and segments, both `[rows, length]` int32."""
    tokens = np.full((len(rows), max(len(row) for row in rows)), PAD, np.int32)
    segments = np.zeros_like(tokens)
    for number, row in enumerate(rows):
        tokens[number, : len(row)], segments[number, : len(row)] = row, 1
    return tokens, segments


def _transformers_logits(
    folder: Path, *rows: np.ndarray
) -> Float[np.ndarray, "batch target vocabulary"]:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    loaded: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    inputs, mask, decoder_inputs = (torch.tensor(row, dtype=torch.long) for row in rows)
    with torch.no_grad():
        answer = loaded.eval()(
            input_ids=inputs, attention_mask=mask, decoder_input_ids=decoder_inputs, use_cache=False
        )
    return answer.logits.numpy()
