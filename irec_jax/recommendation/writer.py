"""Free text of a tuned run: prompts in, generated answers out."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from irec_jax.batches.pipeline import encode_prompt
from irec_jax.batches.prompt_batches import request_batches
from irec_jax.decoding.sample import SampleConfig, row_keys, sample
from irec_jax.decoding.steps import PromptTokens
from irec_jax.model.params import Params, structure
from irec_jax.recommendation.run_parts import (
    ServingSettings,
    check_vocabulary,
    read_settings,
    read_writer,
)
from irec_jax.tokens.items import TokenWriter
from irec_jax.tokens.text import PAD, UNKNOWN
from irec_jax.training.checkpoint import load_params


class AnswerWriter:
    """Generates texts for prompts: preferences, queries or reasons, as the run was tuned.

    `AnswerWriter.load("runs/shop")(prompts)` answers the prompts of a teacher. A text holds no
    item token.

    Args:
        settings: Settings of the run.
        writer: Tokenizer and item index.
        params: The weights.
        config: How tokens are sampled; None decodes greedily, up to the run's
            `tokens.target_length` tokens.

    Raises:
        InputError: The parts come from different runs.
    """

    def __init__(
        self,
        settings: ServingSettings,
        writer: TokenWriter,
        params: Params,
        config: SampleConfig | None = None,
    ) -> None:
        check_vocabulary(settings, writer)
        self.settings = settings
        self.config = config or SampleConfig(length=settings.tokens.target_length)
        self._params, self._structure = params, structure(settings.model)
        self._writer = writer
        self._allowed = _text_tokens(writer)

    @classmethod
    def load(cls, run: Path | str, config: SampleConfig | None = None) -> "AnswerWriter":
        """Loads a run from its folder alone.

        Args:
            run: The folder that `irec tune` wrote.
            config: How tokens are sampled; see the class.

        Raises:
            InputError: A part of the run is missing, damaged or of another config.
        """
        run = Path(run)
        settings = read_settings(run)
        return cls(settings, read_writer(run), load_params(run, settings.model), config)

    def __call__(self, prompts: Sequence[str], seed: int = 0) -> list[str]:
        """Generates a text for each prompt, in order.

        A text depends on its prompt and the seed alone, not on the other prompts. With another
        seed it differs, unless the temperature is 0.

        Args:
            prompts: Any number of prompts; a long one is cut as in training (`encode_prompt`).
            seed: Seed of the samples, 64 bits.
        """
        longest = self.settings.tokens.source_length
        ids = [encode_prompt(prompt, self._writer, longest) for prompt in prompts]
        rows = np.array([_row_number(prompt) for prompt in prompts], np.uint32)
        texts = [""] * len(prompts)
        for chosen, tokens, segments in request_batches(ids, self.settings.buckets):
            # A padding row repeats the last prompt, so that it ends no later.
            source = np.minimum(np.arange(len(tokens)), len(chosen) - 1)
            samples = sample(
                self._structure,
                self._params,
                PromptTokens(tokens[source], segments[source]),
                self._allowed,
                row_keys(seed, rows[chosen[source]]),
                config=self.config,
            )
            for number, tokens_of_row in zip(chosen, np.asarray(samples.tokens), strict=False):
                texts[number] = self._writer.decode(tokens_of_row)
        return texts


def _text_tokens(writer: TokenWriter) -> Bool[np.ndarray, " vocabulary"]:
    """Mask of the tokens that are text: no items, no padding, no unknown token."""
    token = np.arange(writer.index.vocabulary)
    return (token < writer.index.text_vocabulary) & (token != PAD) & (token != UNKNOWN)


def _row_number(prompt: str) -> int:
    """A number that depends on the text of a prompt alone, the same on every machine."""
    return zlib.crc32(prompt.encode("utf-8", "replace"))
