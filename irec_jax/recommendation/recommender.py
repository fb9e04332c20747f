"""Recommendations of a tuned run for any history and instruction."""

import dataclasses
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from irec_jax.batches.pipeline import encode_prompt
from irec_jax.batches.prompt_batches import pad_prompts, request_batches
from irec_jax.decoding.beam import beam_search
from irec_jax.decoding.config import DecodeConfig
from irec_jax.decoding.exhaustive import (
    CatalogSequences,
    catalog_scores,
    catalog_sequences,
    chunk_size,
)
from irec_jax.decoding.legal import legal_sequences
from irec_jax.decoding.steps import PromptTokens
from irec_jax.errors import InputError
from irec_jax.instructions.built_in_tasks import task_for
from irec_jax.instructions.forms import Ranking, Request, TaskForm
from irec_jax.instructions.prompts import PromptWriter
from irec_jax.model.params import Params, structure
from irec_jax.recommendation.catalog import Catalog, References, Where
from irec_jax.recommendation.explain import Explanation, explain_items
from irec_jax.recommendation.recommendations import Recommendation, Recommendations
from irec_jax.recommendation.refine import (
    Candidates,
    best_first,
    diversify,
    drop_missing,
    drop_repeated,
)
from irec_jax.recommendation.request_extras import NO_EXTRAS, Extras
from irec_jax.recommendation.request_understanding import (
    ROLES,
    RequestReader,
    Understanding,
    UnderstandingMode,
    role_sequences,
)
from irec_jax.recommendation.request_warnings import request_warnings
from irec_jax.recommendation.run_parts import (
    ServingSettings,
    check_parts,
    read_settings,
    read_writer,
)
from irec_jax.recommendation.user_history import user_history
from irec_jax.run_folder import CATALOG_FILE, TOKENS_FOLDER
from irec_jax.text_cleaning import clean
from irec_jax.tokens.items import TokenWriter
from irec_jax.tokens.readable import with_titles
from irec_jax.tokens.trie import build_trie
from irec_jax.training.checkpoint import load_params
from irec_jax.understanding.lexicon import Lexicon

WIDEN = 4
"""Factor of the next beam width after an uncertain search; each width is compiled once."""

DIVERSE_POOL = 4
"""Candidates for each recommendation of a diversified list."""


class Recommender:
    """Recommends the items with the highest probability under a tuned model.

    `Recommender.load("runs/shop")` loads one from a run folder. Its method `rank` is a `Ranker`.

    Args:
        settings: Settings of the run.
        catalog: The items.
        writer: Tokenizer and item index.
        params: The weights.
        run: The run folder, for `history_of`.
        lexicon: What requests can name; None for a run that does not read conditions.

    Raises:
        InputError: The parts come from different runs.
    """

    def __init__(
        self,
        settings: ServingSettings,
        catalog: Catalog,
        writer: TokenWriter,
        params: Params,
        run: Path = Path(),
        lexicon: Lexicon | None = None,
    ) -> None:
        check_parts(settings, catalog, writer)
        self._run = run
        self.settings, self.catalog = settings, catalog
        self._params, self._structure = params, structure(settings.model)
        self._writer = writer
        self._prompt_writer = PromptWriter.build(settings.instructions, writer.index.names)
        index, decode = writer.index, settings.decode
        self._trie = legal_sequences(build_trie(index.offsets, index.tokens))
        chunk = chunk_size(settings.model, decode.batch, self._trie.depth)
        self._sequences = catalog_sequences(index.offsets, index.tokens, chunk)
        self._buckets = settings.buckets
        self._lexicon = lexicon
        self._role_sequences = catalog_sequences(*role_sequences(writer), len(ROLES))
        self._readers: dict[str, RequestReader] = {}
        self._trained = {task.scenario for task in settings.instructions.listed_tasks}

    @classmethod
    def load(cls, run: PathLike[str] | str, decode: DecodeConfig | None = None) -> "Recommender":
        """Loads a run from its folder alone.

        Args:
            run: What `tune` returned, or the folder that `irec tune` wrote.
            decode: Settings of the search; None for the run's own.

        Raises:
            InputError: A part of the run is missing, damaged or of another config.
        """
        run = Path(run)
        settings = read_settings(run)
        if decode is not None:
            settings = dataclasses.replace(settings, decode=decode)
        catalog = Catalog.load(run / CATALOG_FILE)
        writer = read_writer(run)
        lexicon = Lexicon.load(run / TOKENS_FOLDER)
        return cls(settings, catalog, writer, load_params(run, settings.model), run, lexicon)

    def history_of(self, user: int) -> tuple[str, ...]:
        """Returns the ids of all items of a user of the run's log, oldest first.

        Nothing else needs the log.

        Raises:
            InputError: The log is not at the path of the run's config, or has no such user.
        """
        return user_history(self._run, user)

    def request(
        self,
        history: References = (),
        instruction: str = "",
        *,
        exclude: References = (),
        extras: Extras = NO_EXTRAS,
    ) -> Request:
        """Makes the request of a history, an instruction and their extras.

        A history alone is a sequential recommendation, an instruction alone a product search,
        both together a personalized search. With `extras.preference` the scenario has an explicit
        preference.

        Args:
            history: The user's items, oldest first.
            instruction: The user's own words (a query).
            exclude: Items that may not be returned, besides the history.
            extras: Preference, context and language.

        Raises:
            InputError: An item is unknown, or history, instruction and preference are all empty.
        """
        numbers = self.catalog.numbers(history, "history")
        query = clean(instruction)
        preference = clean(extras.preference)
        task = task_for(
            has_history=bool(numbers), has_query=bool(query), has_preference=bool(preference)
        )
        return Request(
            scenario=task.scenario,
            history=numbers,
            instruction=query,
            exclude=(*numbers, *self.catalog.numbers(exclude, "exclude")),
            preference=preference,
            context=clean(extras.context),
            language=extras.language,
        )

    def understand(self, instruction: str, language: str = "") -> Understanding | None:
        """Reads the conditions in an instruction: values of the catalog, prices and years.

        To edit what was understood, give its `where` to `recommend` with `UnderstandingMode.OFF`.

        Args:
            instruction: The user's own words.
            language: One of the run's template packs; "" for the first.

        Returns:
            What was understood; None if the run was not tuned to read conditions in this language
            (`instructions.understanding`).
        """
        language = self._prompt_writer.pack(language).language
        lexicon = self._lexicon
        if lexicon is None or language not in lexicon.grammars or not clean(instruction):
            return None
        if language not in self._readers:
            self._readers[language] = RequestReader(
                lexicon, self.catalog, language, self._role_scores
            )
        return self._readers[language].read(instruction)

    def recommend(
        self,
        history: References = (),
        instruction: str = "",
        k: int = 10,
        *,
        exclude: References = (),
        where: Where | None = None,
        extras: Extras = NO_EXTRAS,
    ) -> Recommendations:
        """Recommends up to `k` items of the catalog that are not in the history.

        Args:
            history: The user's items, oldest first: item ids, titles, or item numbers (int).
            instruction: The user's own words (a query).
            k: Number of items.
            exclude: Items that may not be returned, besides the history.
            where: A condition on the returned items. It is applied inside the search, so a strict
                one does not shorten the list.
            extras: Preference, context, language, and what is done with conditions in the
                instruction.

        Returns:
            Distinct items, best first; fewer than `k` only if fewer items are allowed. Every item
            meets the hard conditions that were understood in the instruction; if no item does,
            some are dropped, with a warning.

        Raises:
            InputError: An item is unknown, the condition is invalid or excludes every item,
                history, instruction and preference are all empty, or the conditions in the
                instruction are required and no item meets them.
        """
        if k < 1:
            raise InputError(f"must be at least 1, got {k}", where="k", hint="Set it to 10.")
        understood = None
        if extras.understanding is not UnderstandingMode.OFF:
            understood = self.understand(instruction, extras.language)
        if understood is not None:
            instruction = understood.text
        request = self.request(history, instruction, exclude=exclude, extras=extras)
        allowed = self._allowed(request, where)
        if understood is not None:
            understood, allowed = self._apply(understood, allowed, extras)
        diversity = self.settings.decode.diversity
        wanted = k * DIVERSE_POOL if diversity else k
        candidates, bound = self._search(request, allowed, wanted)
        chosen = diversify(candidates, self.catalog.categories, diversity, k)
        items = self._listed(chosen, bound)
        warnings = request_warnings(request, self._trained, self._writer, understood)
        return Recommendations(items, request, allowed, warnings, understood)

    def _listed(self, chosen: Candidates, bound: float) -> tuple[Recommendation, ...]:
        ids = self.catalog.table["item"]
        return tuple(
            Recommendation(
                rank=rank,
                item=str(ids[int(item)]),
                title=self.catalog.titles[item],
                score=float(score),
                number=int(item),
                is_certain=bool(score >= bound),
            )
            for rank, (item, score) in enumerate(zip(chosen.items, chosen.scores, strict=True), 1)
        )

    def explain(self, recommendations: Recommendations) -> Explanation:
        """Explains what `recommend` returned.

        It scores the whole catalog, which takes longer than the recommendations with a title
        index.
        """
        request, allowed = recommendations.request, recommendations.allowed
        scores = self._exact([self._ids(request)], self._sequences)[0]
        prompt = self._prompt_writer.prompt(request)
        names = self._prompt_writer.names
        return Explanation(
            prompt=prompt,
            readable_prompt=with_titles(prompt, names, self.catalog.titles),
            scenario=request.scenario.code,
            allowed=int(allowed.sum()),
            excluded=int((~allowed).sum()),
            mass=float(np.exp(scores[allowed].astype(np.float64)).sum()),
            items=explain_items(
                [recommendation.number for recommendation in recommendations],
                scores,
                allowed,
                request.history,
                self.catalog,
            ),
        )

    def rank(self, requests: Sequence[Request]) -> Ranking:
        """Scores the whole catalog for each request, exactly; excluded items get -inf.

        Requests of similar length are scored together, padded to one of a few shapes. If a
        request has candidates, all other items get -inf.

        Raises:
            InputError: A request is pointwise.
        """
        if any(request.scenario.form is TaskForm.POINTWISE for request in requests):
            problem = "a pointwise request has no ranking"
            raise InputError(problem, where="request.scenario", hint="Rank another task form.")
        scores = self._exact([self._ids(request) for request in requests], self._sequences)
        for row, request in enumerate(requests):
            scores[row, list(request.exclude)] = -np.inf
            if request.candidates:
                others = np.ones(scores.shape[1], bool)
                others[list(request.candidates)] = False
                scores[row, others] = -np.inf
        return Ranking(scores)

    def _ids(self, request: Request) -> list[int]:
        prompt = self._prompt_writer.prompt(request)
        return encode_prompt(prompt, self._writer, self.settings.tokens.source_length)

    def _allowed(self, request: Request, where: Where | None) -> Bool[np.ndarray, " items"]:
        allowed = self.catalog.mask(where)
        meet_condition = int(allowed.sum())
        allowed[list(request.exclude)] = False
        if not allowed.any():
            raise InputError(
                f"no item may be returned: {meet_condition} of {len(allowed)} meet the condition, "
                "and all of these are in the history or excluded",
                where="where" if where is not None else "exclude",
                hint="Loosen the condition, or exclude fewer items.",
            )
        return allowed

    def _apply(
        self, understood: Understanding, allowed: Bool[np.ndarray, " items"], extras: Extras
    ) -> tuple[Understanding, Bool[np.ndarray, " items"]]:
        """Restricts the allowed items to those that meet the hard constraints of a request."""
        meets = self.catalog.mask(understood.where or None)
        if (allowed & meets).any():
            return understood, allowed & meets
        if extras.understanding is UnderstandingMode.REQUIRED:
            raise InputError(
                f"no item that may be returned meets what was understood: {understood}",
                where="instruction",
                hint="Ask for less, or let conditions be dropped (understanding 'on').",
            )
        language = self._prompt_writer.pack(extras.language).language
        relaxed = self._readers[language].relax(understood, allowed)
        return relaxed, allowed & self.catalog.mask(relaxed.where or None)

    def _role_scores(self, prompts: Sequence[str]) -> Float[np.ndarray, "prompts roles"]:
        length = self.settings.tokens.source_length
        ids = [encode_prompt(prompt, self._writer, length) for prompt in prompts]
        return self._exact(ids, self._role_sequences)

    def _exact(
        self, prompts: Sequence[Sequence[int]], sequences: CatalogSequences
    ) -> Float[np.ndarray, "requests given"]:
        scores = np.zeros((len(prompts), len(sequences.first_tokens)), np.float32)
        for chosen, tokens, segments in request_batches(prompts, self._buckets):
            padded = PromptTokens(tokens, segments)
            batch = catalog_scores(self._structure, self._params, padded, sequences)
            scores[chosen] = np.asarray(batch)[: len(chosen)]
        return scores

    def _search(
        self, request: Request, allowed: Bool[np.ndarray, " items"], wanted: int
    ) -> tuple[Candidates, float]:
        """Searches for the most likely allowed items, of equal titles only the best.

        Returns:
            At least `wanted` candidates if there are as many, best first, and the highest score
            that an item outside them can have.
        """
        ids, titles = self._ids(request), self.catalog.titles
        if self.settings.decode.method == "exhaustive":
            exact = self._exact([ids], self._sequences)[0]
            scores = np.where(allowed, exact, -np.inf).astype(np.float32)
            everything = Candidates(np.arange(len(allowed), dtype=np.int32), scores)
            return drop_repeated(best_first(drop_missing(everything)), titles), -np.inf
        prompts = PromptTokens(*pad_prompts([ids], self._buckets))
        beams, widest = self.settings.decode.beams, self.settings.decode.widest
        while True:
            while beams < wanted:
                beams *= WIDEN
            beams = min(beams, len(allowed))
            result = beam_search(
                self._structure, self._params, self._trie, prompts, allowed[None], beams=beams
            )
            bound = float(result.bound[0])
            filled = drop_missing(
                Candidates(np.asarray(result.items)[0], np.asarray(result.scores)[0])
            )
            candidates = drop_repeated(filled, titles)
            # Empty slots mean that all allowed items are found.
            if len(filled) < beams or beams == len(allowed):
                return candidates, bound
            enough = len(candidates) >= wanted
            is_certain = enough and candidates.scores[wanted - 1] >= bound
            if is_certain or (beams >= widest and enough):
                return candidates, bound
            beams = beams * WIDEN if beams >= widest else min(beams * WIDEN, widest)
