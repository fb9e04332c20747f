"""Whether transformers gets the logits from an exported folder that we get from the run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from irec_jax.batches.pipeline import Example
from irec_jax.errors import InputError
from irec_jax.model.config import T5Config
from irec_jax.model.params import Params, merge, structure
from irec_jax.model.t5 import shift_right
from irec_jax.tokens.text import PAD

TOLERANCE = 1e-4
"""Of the largest logit, or of 1 where all are smaller."""


class LogitComparison(NamedTuple):
    """How far two programs are apart.

    Attributes:
        difference: The largest difference of two logits.
        largest: The largest logit.
        tokens: Positions that were compared, each over the whole vocabulary.
    """

    difference: float
    largest: float
    tokens: int

    @property
    def holds(self) -> bool:
        """Whether they agree within the tolerance; what is not a number does not."""
        return self.difference <= TOLERANCE * max(1.0, self.largest)


def need_transformers() -> None:
    """Refuses at once what could only fail after a long export.

    Raises:
        InputError: torch or transformers is not installed.
    """
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"torch and transformers are needed to compare with ({error})",
            where="--check",
            hint="pip install 'irec-jax[parity]'",
        ) from None


def compare(
    folder: Path, config: T5Config, params: Params, examples: Sequence[Example]
) -> LogitComparison:
    """Computes the logits of the answers' tokens here and there, in float32.

    Args:
        folder: The export.
        config: Of the run's model.
        params: Its weights.
        examples: Prompts and answers as ids.
    """
    inputs, segments = _padded([example["inputs"] for example in examples])
    targets, target_segments = _padded([example["targets"] for example in examples])
    decoder_inputs = np.asarray(shift_right(jnp.asarray(targets), jnp.asarray(target_segments)))

    def run(
        params: Params, *rows: Int[Array, "batch _"]
    ) -> Float[Array, "batch target vocabulary"]:
        model = merge(structure(config), params)
        encoded = model.encode(rows[0], rows[1])
        return model.logits(model.decode(rows[2], rows[3], encoded, rows[1]))

    # Accelerators multiply float32 in fewer bits unless told.
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(run)(params, inputs, segments, decoder_inputs, target_segments)
    theirs = _their_logits(folder, inputs, segments, decoder_inputs)
    real = target_segments > 0
    here, there = np.asarray(ours)[real], theirs[real]
    return LogitComparison(
        float(np.max(np.abs(here - there))), float(np.max(np.abs(there))), int(real.sum())
    )


def _padded(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one length, and where they hold a token."""
    tokens = np.full((len(rows), max(len(row) for row in rows)), PAD, np.int32)
    segments = np.zeros_like(tokens)
    for number, row in enumerate(rows):
        tokens[number, : len(row)], segments[number, : len(row)] = row, 1
    return tokens, segments


def _their_logits(folder: Path, *rows: np.ndarray) -> Float[np.ndarray, "batch target vocabulary"]:
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
