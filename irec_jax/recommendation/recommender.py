"""A tuned run as a function: a new user is a call."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from irec_jax.batches.pipeline import encode_prompt
from irec_jax.batches.prompt_batches import pad_prompts, request_batches
from irec_jax.decoding.beam import DecodeConfig, beam_search
from irec_jax.decoding.exhaustive import catalog_scores, catalog_sequences, chunk_size
from irec_jax.decoding.legal import legal_sequences
from irec_jax.decoding.steps import PromptTokens
from irec_jax.errors import InputError
from irec_jax.instructions.forms import Ranking, Request, TaskForm
from irec_jax.instructions.prompts import PromptWriter
from irec_jax.instructions.tasks import task_for
from irec_jax.model.params import Params, structure
from irec_jax.recommendation.catalog import Catalog, Reference, Where
from irec_jax.recommendation.explain import Explanation, reasons_for
from irec_jax.recommendation.refine import (
    Candidates,
    best_first,
    diversify,
    drop_missing,
    drop_repeated,
)
from irec_jax.recommendation.run_parts import (
    ServingSettings,
    check_parts,
    read_settings,
    read_writer,
)
from irec_jax.run_checksums import CATALOG_FILE
from irec_jax.text_cleaning import clean
from irec_jax.tokens.items import TokenWriter
from irec_jax.tokens.trie import build_trie
from irec_jax.training.checkpoint import load_params

WIDEN = 4
"""How many times wider the next beam is when one was not certain; each width is compiled once."""

DIVERSE_POOL = 4
"""How many times more candidates than answers a diversified list is picked from."""


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes:
        rank: From 1.
        item: The item's id in the log.
        title: Its title.
        score: Log-probability of the item's tokens, given the prompt.
        number: The item number, its row in the catalog.
        certain: Whether a look at the whole catalog could put no other item before this one that
            is not in the list; False only where a beam is not wide enough to tell.
    """

    rank: int
    item: str
    title: str
    score: float
    number: int
    certain: bool


@dataclasses.dataclass(frozen=True)
class Extras:
    """What a person tells besides a history and an instruction.

    Attributes:
        preference: Their taste in a sentence; with it, the model need not read it off a history.
        context: The moment: time, place, season, or what is popular now, as a phrase.
        language: Of the prompt, one of the run's template packs; "" for the first.
    """

    preference: str = ""
    context: str = ""
    language: str = ""


NOTHING = Extras()


class Recommender:
    """Answers requests with the items that a tuned model finds most likely.

    `Recommender.load("runs/shop")` makes one from a run folder; it is also a `Ranker`, by `rank`.

    Args:
        settings: Of the run.
        catalog: The items.
        writer: Tokenizer and item index.
        params: The weights.

    Raises:
        InputError: The parts do not belong together.
    """

    def __init__(
        self, settings: ServingSettings, catalog: Catalog, writer: TokenWriter, params: Params
    ) -> None:
        check_parts(settings, catalog, writer)
        self.settings, self.catalog = settings, catalog
        self._params, self._structure = params, structure(settings.model)
        self._writer = writer
        self._wording = PromptWriter.build(settings.instructions, writer.index.names)
        index, decode = writer.index, settings.decode
        self._trie = legal_sequences(build_trie(index.offsets, index.tokens))
        chunk = chunk_size(settings.model, decode.batch, self._trie.depth)
        self._sequences = catalog_sequences(index.offsets, index.tokens, chunk)
        self._buckets = settings.buckets

    @classmethod
    def load(cls, run: Path | str, decode: DecodeConfig | None = None) -> "Recommender":
        """Loads a run; nothing but its folder is needed.

        Args:
            run: The folder that `irec tune` wrote.
            decode: How to search, if not as the run's config says.

        Raises:
            InputError: A piece of the run is missing, damaged or of another config.
        """
        run = Path(run)
        settings = read_settings(run)
        if decode is not None:
            settings = dataclasses.replace(settings, decode=decode)
        catalog = Catalog.load(run / CATALOG_FILE)
        writer = read_writer(run)
        return cls(settings, catalog, writer, load_params(run, settings.model))

    def request(
        self,
        history: Sequence[Reference] = (),
        instruction: str = "",
        *,
        exclude: Sequence[Reference] = (),
        told: Extras = NOTHING,
    ) -> Request:
        """Understands what a person asks.

        A history alone asks what comes next (sequential recommendation), an instruction alone
        is a product search, both together a personalized search; a taste that is told makes a
        scenario with an explicit preference of them.

        Args:
            history: What the user had, oldest first.
            instruction: What the user wants now, in their own words.
            exclude: Items that may not be returned, besides the history.
            told: Taste, moment and language.

        Raises:
            InputError: An item is unknown, or there is neither history nor instruction.
        """
        numbers = self.catalog.numbers(history, "history")
        words = clean(instruction)
        preference = clean(told.preference)
        task = task_for(
            has_history=bool(numbers), has_words=bool(words), has_preference=bool(preference)
        )
        return Request(
            scenario=task.scenario,
            history=numbers,
            instruction=words,
            exclude=(*numbers, *self.catalog.numbers(exclude, "exclude")),
            preference=preference,
            context=clean(told.context),
            language=told.language,
        )

    def recommend(
        self,
        history: Sequence[Reference] = (),
        instruction: str = "",
        k: int = 10,
        *,
        exclude: Sequence[Reference] = (),
        where: Where | None = None,
        told: Extras = NOTHING,
    ) -> list[Recommendation]:
        """Recommends up to `k` items that the user has not had, each once, all in the catalog.

        Args:
            history: What the user had, oldest first: item ids, titles, or item numbers (int).
            instruction: What the user wants now, in their own words.
            k: How many items.
            exclude: Items that may not be returned, besides the history.
            where: A condition that returned items must meet; it is honored inside the search, so
                a strict one does not empty the list.
            told: Taste, moment and language.

        Returns:
            Best first; fewer than `k` only if fewer items may be returned.

        Raises:
            InputError: An item is unknown, the condition is wrong or lets nothing through, or
                there is neither history nor instruction.
        """
        if k < 1:
            raise InputError(f"{k} recommendations cannot be made", where="k", hint="ask for 1.")
        request = self.request(history, instruction, exclude=exclude, told=told)
        allowed = self._allowed(request, where)
        diversity = self.settings.decode.diversity
        wanted = k * DIVERSE_POOL if diversity else k
        found, bound = self._search(request, allowed, wanted)
        found = diversify(found, self.catalog.categories, diversity, k)
        ids = self.catalog.table["item"]
        return [
            Recommendation(
                rank=rank,
                item=str(ids[int(item)]),
                title=self.catalog.titles[item],
                score=float(score),
                number=int(item),
                certain=bool(score >= bound),
            )
            for rank, (item, score) in enumerate(zip(found.items, found.scores, strict=True), 1)
        ]

    def explain(
        self,
        recommendations: Sequence[Recommendation],
        history: Sequence[Reference] = (),
        instruction: str = "",
        *,
        exclude: Sequence[Reference] = (),
        where: Where | None = None,
        told: Extras = NOTHING,
    ) -> Explanation:
        """Tells what recommendations were made from; takes the arguments that made them.

        The whole catalog is scored for it, which with titles as item index takes longer than
        the recommendations did.
        """
        request = self.request(history, instruction, exclude=exclude, told=told)
        allowed = self._allowed(request, where)
        scores = self._exact([self._ids(request)])[0]
        return Explanation(
            prompt=self._wording.prompt(request),
            scenario=request.scenario.code,
            allowed=int(allowed.sum()),
            excluded=int((~allowed).sum()),
            mass=float(np.exp(scores[allowed].astype(np.float64)).sum()),
            reasons=reasons_for(
                [one.number for one in recommendations],
                scores,
                allowed,
                request.history,
                self.catalog,
            ),
        )

    def rank(self, requests: Sequence[Request]) -> Ranking:
        """Scores the whole catalog for each request, exactly; excluded items get -inf.

        Requests of like length are scored together, padded to one of a few shapes. A request
        with candidates ranks those alone.

        Raises:
            InputError: A request asks for yes or no, which ranks nothing.
        """
        if any(request.scenario.form is TaskForm.POINTWISE for request in requests):
            raise InputError("a pointwise request ranks nothing", where="request.scenario")
        scores = self._exact([self._ids(request) for request in requests])
        for row, request in enumerate(requests):
            scores[row, list(request.exclude)] = -np.inf
            if request.candidates:
                others = np.ones(scores.shape[1], bool)
                others[list(request.candidates)] = False
                scores[row, others] = -np.inf
        return Ranking(scores)

    def _ids(self, request: Request) -> list[int]:
        text = self._wording.prompt(request)
        return encode_prompt(text, self._writer, self.settings.tokens.source_length)

    def _allowed(self, request: Request, where: Where | None) -> Bool[np.ndarray, " items"]:
        allowed = self.catalog.mask(where)
        met = int(allowed.sum())
        allowed[list(request.exclude)] = False
        if not allowed.any():
            raise InputError(
                f"no item may be returned: {met} of {len(allowed)} meet the condition, and the "
                "history and the excluded items take the rest away",
                where="where" if where is not None else "exclude",
                hint="ask for less, or exclude less.",
            )
        return allowed

    def _exact(self, prompts: Sequence[Sequence[int]]) -> Float[np.ndarray, "requests items"]:
        scores = np.zeros((len(prompts), len(self.catalog)), np.float32)
        for chosen, tokens, segments in request_batches(prompts, self._buckets):
            asked = PromptTokens(tokens, segments)
            answer = catalog_scores(self._structure, self._params, asked, self._sequences)
            scores[chosen] = np.asarray(answer)[: len(chosen)]
        return scores

    def _search(
        self, request: Request, allowed: Bool[np.ndarray, " items"], wanted: int
    ) -> tuple[Candidates, float]:
        """Finds likely allowed items, twins by title counted once.

        Returns:
            At least `wanted` of them if there are as many, best first, and the score above which
            nothing is missing.
        """
        ids, titles = self._ids(request), self.catalog.titles
        if self.settings.decode.method == "exhaustive":
            scores = np.where(allowed, self._exact([ids])[0], -np.inf).astype(np.float32)
            everything = Candidates(np.arange(len(allowed), dtype=np.int32), scores)
            return drop_repeated(best_first(drop_missing(everything)), titles), -np.inf
        prompts = PromptTokens(*pad_prompts([ids], self._buckets))
        beams, widest = self.settings.decode.beams, self.settings.decode.widest
        while True:
            while beams < wanted:
                beams *= WIDEN
            beams = min(beams, len(allowed))
            answer = beam_search(
                self._structure, self._params, self._trie, prompts, allowed[None], beams=beams
            )
            bound = float(answer.bound[0])
            slots = drop_missing(
                Candidates(np.asarray(answer.items)[0], np.asarray(answer.scores)[0])
            )
            found = drop_repeated(slots, titles)
            # A search that leaves slots empty has found everything that is allowed.
            if len(slots) < beams or beams == len(allowed):
                return found, bound
            is_certain = len(found) >= wanted and found.scores[wanted - 1] >= bound
            if is_certain or (beams >= widest and len(found) >= wanted):
                return found, bound
            beams = beams * WIDEN if beams >= widest else min(beams * WIDEN, widest)
