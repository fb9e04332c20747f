"""The first weights of a run: random, or a folder of pretrained ones; item rows from titles."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from irec_jax.errors import InputError
from irec_jax.model.config import T5Config
from irec_jax.model.params import Params, initialize
from irec_jax.model.pretrained import load_hf
from irec_jax.training.loop import Start

WEIGHTS = 0
"""Folded into the seed's key for the first weights; dropout folds another number."""


@dataclasses.dataclass(frozen=True, eq=False)
class ItemTitles:
    """The titles of items that are one token each.

    Attributes:
        first: The token of item 0; item i has token `first + i`. All smaller ids are text.
        offsets: `[items + 1]`; the title of item i is `tokens[offsets[i]:offsets[i + 1]]`.
        tokens: Ids of the titles' pieces.
        share: The part of a row's variance that comes from the title, 0 to 1; the rest stays as
            it was drawn and tells apart items whose titles have the same pieces.
    """

    first: int
    offsets: Int[np.ndarray, " items_plus_one"]
    tokens: Int[np.ndarray, " pieces"]
    share: float = 1.0


def from_scratch(config: T5Config, seed: int, titles: ItemTitles | None = None) -> Start:
    """Random weights, born in their places on the mesh; the same on any mesh."""
    key = jax.random.fold_in(jax.random.key(seed), WEIGHTS)

    def start(shardings: Any) -> Params:
        params = jax.jit(lambda: initialize(config, key), out_shardings=shardings)()
        return _placed(params, shardings, titles)

    return start


def from_pretrained(
    folder: Path, config: T5Config, seed: int, titles: ItemTitles | None = None
) -> Start:
    """The weights of a Hugging Face folder; rows for new tokens are drawn at the usual size.

    Args:
        folder: Holds `config.json` and safetensors.
        config: The model to start, which may have a larger vocabulary and another dropout.
        seed: Decides the rows of new tokens.
        titles: Starts the rows of item tokens from their titles.

    Raises:
        InputError: When the folder cannot be read or holds another model (when called).
    """

    def start(shardings: Any) -> Params:
        theirs, params = load_hf(folder)
        _check_same(theirs, config, folder)
        return _placed(extend_vocabulary(params, config.vocabulary, seed), shardings, titles)

    return start


def extend_vocabulary(params: Params, vocabulary: int, seed: int) -> Params:
    """Adds rows for new tokens to the embedding and the head, as large as the rows there are.

    Args:
        params: Weights of a smaller vocabulary, or of the same.
        vocabulary: Rows wanted.
        seed: Decides the new rows.
    """
    rng = np.random.default_rng([seed, vocabulary])

    def longer(rows: Float[np.ndarray, "old width"]) -> Float[np.ndarray, "new width"]:
        more = (vocabulary - rows.shape[0], rows.shape[1])
        drawn = rng.normal(0.0, np.sqrt(np.mean(np.square(rows))), more)
        return np.concatenate([rows, drawn.astype(rows.dtype)])

    return _with_rows(params, longer)


def start_items_from_titles(params: Params, titles: ItemTitles) -> Params:
    """Sets the rows of item tokens, in embedding and head, from the mean of their titles' pieces.

    As new words usually start when a vocabulary is extended, but freed of what all titles share
    and stretched to the spread of the text rows: pieces such as `in` or `for` stand in most
    titles and would make all items alike, and the mean of n unrelated rows is sqrt(n) times
    smaller than they are. Why, with figures: docs/decisions/0054-items-start-from-titles.md. An
    item without a title keeps its row.

    Args:
        params: The weights; not changed.
        titles: Which rows, and what they start from.

    Returns:
        The weights with numpy arrays in place of those two.
    """
    lengths = np.diff(titles.offsets)
    item_of_piece = np.repeat(np.arange(len(lengths)), lengths)
    named = lengths > 0

    def started(rows: Float[np.ndarray, "old width"]) -> Float[np.ndarray, "new width"]:
        means = np.zeros((len(lengths), rows.shape[1]), np.float64)
        np.add.at(means, item_of_piece, rows[titles.tokens])
        means /= np.maximum(lengths, 1)[:, None]
        means -= means[named].mean(axis=0)
        text = rows[: titles.first]
        center = text.mean(axis=0)
        spread = np.sqrt(np.mean(np.sum(np.square(text - center), axis=1)))
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        place = slice(titles.first, titles.first + len(lengths))
        drawn = rows[place] - center
        told = means * (spread / np.maximum(norms, 1e-9))
        mixed = center + np.sqrt(titles.share) * told + np.sqrt(1 - titles.share) * drawn
        rows = rows.copy()
        # Where all titles say the same they tell nothing, and the drawn row is better.
        rows[place] = np.where(named[:, None] & (norms > 1e-6), mixed, rows[place])
        return rows

    return _with_rows(params, started)


def _with_rows(
    params: Params, change: Callable[[Float[np.ndarray, "old width"]], np.ndarray]
) -> Params:
    """Changes the rows of the embedding and, the same way, the columns of an untied head."""
    changed = {**params, "embedding": change(np.asarray(jax.device_get(params["embedding"])))}
    if "head" in params:
        changed["head"] = change(np.asarray(jax.device_get(params["head"])).T).T
    return changed


def _placed(params: Params, shardings: Any, titles: ItemTitles | None) -> Params:
    if titles is not None:
        params = start_items_from_titles(params, titles)
    return jax.device_put(params, shardings)


def _check_same(theirs: T5Config, ours: T5Config, folder: Path) -> None:
    free = ("dropout", "compute", "unroll_layers", "remat", "vocabulary")
    for field in dataclasses.fields(T5Config):
        there, here = getattr(theirs, field.name), getattr(ours, field.name)
        if field.name not in free and there != here:
            what = f"the weights have {field.name} {there!r}, the config has {here!r}"
            mend = f"Set model.{field.name} to {there!r}."
            raise InputError(what, where=str(folder), mend=mend)
    if theirs.vocabulary > ours.vocabulary:
        what = f"the weights have {theirs.vocabulary} tokens, the config has {ours.vocabulary}"
        mend = f"Set model.vocabulary to {theirs.vocabulary} or more."
        raise InputError(what, where=str(folder), mend=mend)
