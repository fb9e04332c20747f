"""Reads the constraints of a request: spans by the lexicon, their roles by the model."""

import dataclasses
import enum
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from irec_jax.recommendation.catalog import Catalog
from irec_jax.recommendation.constraints import Constraint, contradiction, hard_condition
from irec_jax.recommendation.filter_language import to_text
from irec_jax.tokens.item_index import flat
from irec_jax.tokens.items import TokenWriter
from irec_jax.tokens.text import EOS
from irec_jax.understanding.lexicon import Field, FieldValue, Lexicon
from irec_jax.understanding.request_grammar import load_grammar
from irec_jax.understanding.roles import RequestRole, roles_of
from irec_jax.understanding.spans import Number, Span, find_spans, spans_prompt
from irec_jax.understanding.spelling import DICTIONARIES, Correction, Speller, dictionary
from irec_jax.understanding.words import is_letters, split_request

HARD_PROBABILITY = 0.8
"""A role that is less probable stays soft; docs/decisions/0203-understanding.md has figures."""

MAX_SPANS = 16
"""Spans of a request that are read; a pasted page would give a condition that is too long."""

ScorePrompts = Callable[[Sequence[str]], Float[np.ndarray, "prompts roles"]]
"""Log-probabilities of the answers `ROLES` to prompts."""

ROLES = tuple(RequestRole)

_UPPER, _LOWER = (RequestRole.BELOW, RequestRole.MOST), (RequestRole.ABOVE, RequestRole.LEAST)
_ALIKE = {**dict.fromkeys(_UPPER, _UPPER), **dict.fromkeys(_LOWER, _LOWER)}


class UnderstandingMode(enum.StrEnum):
    """Uses of the constraints of a request in `recommend`."""

    ON = "on"
    """Every returned item meets the hard ones, unless no item does."""
    OFF = "off"
    """They are not read."""
    REQUIRED = "required"
    """As `ON`, and it is an error if no item meets them."""


@dataclasses.dataclass(frozen=True)
class Understanding:
    """The reading of a request.

    Attributes:
        text: The request, typing errors corrected.
        corrections: The words that were read as others.
        constraints: The values and numbers that it names, in their order.
        where: The condition of the hard ones in the filter language, "" without one.
        unknown: The words that neither the run nor a dictionary knows.
        unknown_share: Their share of all words.
        contradiction: Hard constraints that no item could meet together, "" if there are none.
        dropped: Hard constraints that were ignored because no item meets all.
        relaxations: For each constraint whose omission would leave items, their number.
    """

    text: str
    corrections: tuple[Correction, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    where: str = ""
    unknown: tuple[str, ...] = ()
    unknown_share: float = 0.0
    contradiction: str = ""
    dropped: tuple[Constraint, ...] = ()
    relaxations: tuple[tuple[Constraint, int], ...] = ()

    def __str__(self) -> str:
        hard = [str(c) for c in self.constraints if c.is_hard and c not in self.dropped]
        read = [f"'{change.written}' as '{change.read}'" for change in self.corrections]
        parts = [f"read {', '.join(read)}"] if read else []
        return "; ".join([*hard, *parts]) or "no condition"


class RequestReader:
    """Reads requests of one run in one language.

    Args:
        lexicon: The lexicon of the run.
        catalog: Its items.
        language: One of the grammars that the run was tuned with.
        score: The model.
    """

    def __init__(
        self, lexicon: Lexicon, catalog: Catalog, language: str, score: ScorePrompts
    ) -> None:
        self._lexicon, self._catalog, self._score = lexicon, catalog, score
        grammar = load_grammar(language)
        self._prompt = grammar.prompt
        # Words that came into the grammar later were never trained on.
        known = lexicon.grammars[language]
        compounds = frozenset(c for c in grammar.words.compounds if "".join(c) in known)
        self._words = dataclasses.replace(grammar.words, known=known, compounds=compounds)
        self._speller = None
        if language in DICTIONARIES:
            self._speller = Speller(lexicon, self._words, dictionary(language))

    def read(self, request: str) -> Understanding:
        """Reads a request; a text without a span has no constraint."""
        words, corrections = split_request(request), ()
        unknown: tuple[str, ...] = ()
        if self._speller is not None:
            unknown = self._speller.unknown(words)
            if not self._speller.is_foreign(words):
                words, corrections = self._speller.correct(words)
                unknown = self._speller.unknown(words)
        spans = find_spans(words, self._lexicon, self._words)[:MAX_SPANS]
        constraints = self._constraints(words, spans)
        condition = hard_condition(constraints, self._catalog)
        letters = sum(map(is_letters, words))
        return Understanding(
            text=" ".join(words) if corrections else request,
            corrections=corrections,
            constraints=constraints,
            where=to_text(condition) if condition is not None else "",
            unknown=unknown,
            unknown_share=len(unknown) / letters if letters else 0.0,
            contradiction=contradiction(constraints),
        )

    def relax(
        self, understanding: Understanding, allowed: Bool[np.ndarray, " items"]
    ) -> Understanding:
        """Drops hard constraints until an allowed item meets the others.

        Numbers and price levels go first, then attributes, brands and categories; of one kind the
        least probable.

        Args:
            understanding: A request whose hard constraints no allowed item meets.
            allowed: `[items]` items that may be returned otherwise; at least one.
        """
        hard = [constraint for constraint in understanding.constraints if constraint.is_hard]
        single = []
        for constraint in hard:
            count = self._count([c for c in hard if c != constraint], allowed)
            if count:
                single.append((constraint, count))
        first = [constraint for constraint, _ in single]
        kept, dropped = list(hard), []
        while kept and not self._count(kept, allowed):
            choice = min(first if first and not dropped else kept, key=_worth)
            kept = [constraint for constraint in kept if constraint != choice]
            dropped.append(choice)
        condition = hard_condition(kept, self._catalog)
        return dataclasses.replace(
            understanding,
            where=to_text(condition) if condition is not None else "",
            dropped=tuple(dropped),
            relaxations=tuple(single),
        )

    def _count(self, constraints: Sequence[Constraint], allowed: Bool[np.ndarray, " items"]) -> int:
        condition = hard_condition(constraints, self._catalog)
        mask = self._catalog.mask(None if condition is None else to_text(condition))
        return int((mask & allowed).sum())

    def _constraints(self, words: Sequence[str], spans: Sequence[Span]) -> tuple[Constraint, ...]:
        if not spans:
            return ()
        prompts = [
            f"{self._prompt} {spans_prompt(words, spans, asked, self._words)}"
            for asked in range(len(spans))
        ]
        constraints = []
        for span, scores in zip(spans, self._score(prompts), strict=True):
            legal = roles_of(span.kind)
            places = [ROLES.index(role) for role in legal]
            shares = np.exp(scores[places] - scores[places].max())
            role = legal[int(shares.argmax())]
            # "Under 30" and "at most 30" differ little: the direction of a bound must be certain.
            alike = [
                place for place, other in enumerate(legal) if other in _ALIKE.get(role, (role,))
            ]
            probability = float(shares[alike].sum() / shares.sum())
            constraints.append(
                Constraint(
                    words=" ".join(words[span.start : span.end]),
                    value=span.value,
                    role=role,
                    probability=probability,
                    is_hard=role is not RequestRole.OPEN and probability >= HARD_PROBABILITY,
                )
            )
        return tuple(constraints)


def role_sequences(writer: TokenWriter) -> tuple[np.ndarray, np.ndarray]:
    """Returns the answers `ROLES` as token sequences: offsets and tokens."""
    return flat([[*writer.encode(role.value), EOS] for role in ROLES])


def _worth(constraint: Constraint) -> tuple[int, float]:
    """Sorts constraints by what is dropped first."""
    if not isinstance(constraint.value, FieldValue):
        return (0 if isinstance(constraint.value, Number) else 1), constraint.probability
    order = (Field.ATTRIBUTE, Field.BRAND, Field.CATEGORY)
    return 2 + order.index(constraint.value.field), constraint.probability
