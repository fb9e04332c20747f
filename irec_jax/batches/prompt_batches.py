"""Padding of prompts to a few static shapes, so that few programs are compiled."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from irec_jax.errors import InputError
from irec_jax.tokens.text import EOS


@dataclasses.dataclass(frozen=True)
class PromptBuckets:
    """The shapes that prompts are padded to.

    Attributes:
        batches: Numbers of rows, ascending.
        lengths: Numbers of columns, ascending; the last is the longest possible prompt.
    """

    batches: tuple[int, ...] = (1, 8, 64)
    lengths: tuple[int, ...] = (64, 128, 256)

    def __post_init__(self) -> None:
        """Checks the sizes.

        Raises:
            InputError: The sizes are not distinct, ascending and at least 1.
        """
        for name, sizes in (("batches", self.batches), ("lengths", self.lengths)):
            if not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
                raise InputError(
                    f"must be distinct sizes of at least 1 in ascending order, got {sizes}",
                    where=f"buckets.{name}",
                    hint="Set it to (1, 8, 64), for example.",
                )


def pad_prompts(
    prompts: Sequence[Sequence[int]], buckets: PromptBuckets
) -> tuple[Int[np.ndarray, "batch source"], Int[np.ndarray, "batch source"]]:
    """Pads prompts to the smallest bucket that holds them, one prompt per row.

    Rows without a prompt hold one `EOS`, so that each row has a key to attend to.

    Args:
        prompts: Ids of each prompt; at least one prompt, all non-empty.
        buckets: The possible shapes.

    Returns:
        Inputs and their segments (1 on a prompt, 0 on padding), both int32.

    Raises:
        ValueError: More prompts, or a longer one, than the largest bucket holds.
    """
    rows = _bucket(len(prompts), buckets.batches, "prompts")
    columns = _bucket(max(len(prompt) for prompt in prompts), buckets.lengths, "tokens")
    inputs = np.zeros((rows, columns), np.int32)
    segments = np.zeros((rows, columns), np.int32)
    for row, prompt in enumerate(prompts):
        inputs[row, : len(prompt)] = prompt
        segments[row, : len(prompt)] = 1
    inputs[len(prompts) :, 0] = EOS
    segments[len(prompts) :, 0] = 1
    return inputs, segments


def request_batches(
    prompts: Sequence[Sequence[int]], buckets: PromptBuckets
) -> Iterator[
    tuple[
        Int[np.ndarray, " prompts"],
        Int[np.ndarray, "batch source"],
        Int[np.ndarray, "batch source"],
    ]
]:
    """Divides prompts into padded batches; prompts of similar length share a batch.

    Yields:
        Numbers of the prompts in the first rows of the batch, inputs, segments.
    """
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    largest = buckets.batches[-1]
    for start in range(0, len(order), largest):
        chosen = order[start : start + largest]
        inputs, segments = pad_prompts([prompts[number] for number in chosen], buckets)
        yield chosen, inputs, segments


def _bucket(size: int, sizes: tuple[int, ...], kind: str) -> int:
    for allowed in sizes:
        if size <= allowed:
            return allowed
    raise ValueError(f"{size} {kind}, but the largest bucket holds {sizes[-1]}")
