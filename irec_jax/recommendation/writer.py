"""A tuned run as a writer: prompts in, the model's own words out."""

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
    """Answers prompts with text: preferences, queries, reasons, as the run was tuned to.

    `AnswerWriter.load("runs/shop")(prompts)` is all that a teacher needs. An answer holds no
    item token; items are found by `Recommender`, which cannot name one that is not there.

    Args:
        settings: Of the run.
        writer: Tokenizer and item index.
        params: The weights.
        config: How tokens are chosen; None takes the most likely ones, and as many as the run's
            `tokens.target_length`, the longest that it has learned to write.

    Raises:
        InputError: The parts do not belong together.
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
        """Loads a run; nothing but its folder is needed.

        Args:
            run: The folder that `irec tune` wrote.
            config: How tokens are chosen; see the class.

        Raises:
            InputError: A piece of the run is missing, damaged or of another config.
        """
        run = Path(run)
        settings = read_settings(run)
        return cls(settings, read_writer(run), load_params(run, settings.model), config)

    def __call__(self, prompts: Sequence[str], seed: int = 0) -> list[str]:
        """Answers each prompt, in order.

        An answer depends on the prompt's text and the seed, not on what else is asked: a prompt
        that is asked again gets the same answer, and with another seed another one, unless the
        temperature is 0.

        Args:
            prompts: Any number of them; a long one is cut as in training (`encode_prompt`).
            seed: Of the draws, all 64 bits of it.
        """
        longest = self.settings.tokens.source_length
        ids = [encode_prompt(prompt, self._writer, longest) for prompt in prompts]
        rows = np.array([_row_number(prompt) for prompt in prompts], np.uint32)
        answers = [""] * len(prompts)
        for chosen, tokens, segments in request_batches(ids, self.settings.buckets):
            # A row without a prompt repeats the last one, so that it ends when that one does.
            source = np.minimum(np.arange(len(tokens)), len(chosen) - 1)
            written = sample(
                self._structure,
                self._params,
                PromptTokens(tokens[source], segments[source]),
                self._allowed,
                row_keys(seed, rows[chosen[source]]),
                config=self.config,
            )
            for number, answer in zip(chosen, np.asarray(written.tokens), strict=False):
                answers[number] = self._writer.decode(answer)
        return answers


def _text_tokens(writer: TokenWriter) -> Bool[np.ndarray, " vocabulary"]:
    """Tokens that are text: no item, no padding of the vocabulary, nothing unreadable."""
    token = np.arange(writer.index.vocabulary)
    return (token < writer.index.text_vocabulary) & (token != PAD) & (token != UNKNOWN)


def _row_number(prompt: str) -> int:
    """A number for the text of a prompt, the same everywhere."""
    return zlib.crc32(prompt.encode("utf-8", "replace"))
