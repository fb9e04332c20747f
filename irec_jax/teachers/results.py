"""What became of the questions: counted, and turned into notes."""

import collections
import dataclasses
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from irec_jax.log.split import Split
from irec_jax.settings import to_json
from irec_jax.teachers.cost_ledger import TokenCost
from irec_jax.teachers.teacher_prompts import Scope, TextRequest, WantedText
from irec_jax.teachers.teacher_texts import TeacherText, TeacherTextsManifest, split_sha256
from irec_jax.teachers.text_checks import Rejection, check_text

NOTHING: Mapping[str, TokenCost] = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class TextResult:
    """What became of one question.

    Attributes:
        wanted: The text that was asked for.
        user: The log's user number.
        question: The SHA-256 of what was asked.
        text: What passed the checks, "" where nothing did.
        rejections: Why each of the other answers did not, in their order.
        costs: Request -> the cost of its answer, whenever it was paid.
    """

    wanted: WantedText
    user: int
    question: str
    text: str
    rejections: tuple[Rejection, ...]
    costs: Mapping[str, TokenCost]


def judge(question: TextRequest, text: str | Rejection) -> Rejection | None:
    """Says why an answer may not become a note, None where it may."""
    if isinstance(text, Rejection):
        return text
    wanted = question.wanted
    return check_text(text, wanted.kind, wanted.language, question.titles, question.user)


def outcome(
    question: TextRequest,
    text: str,
    rejections: Sequence[Rejection],
    costs: Mapping[str, TokenCost] = NOTHING,
) -> TextResult:
    """Sums a question up."""
    sha256 = question.sha256
    return TextResult(question.wanted, question.user, sha256, text, tuple(rejections), costs)


def collect_texts(outcomes: Sequence[TextResult], teacher: str, model: str) -> list[TeacherText]:
    """Makes notes of the texts that passed."""
    return [
        TeacherText(
            user=found.user,
            place=found.wanted.place,
            kind=found.wanted.kind,
            variant=found.wanted.variant,
            language=found.wanted.language,
            text=found.text,
            question=found.question,
            writer=f"{teacher}:{model}",
        )
        for found in outcomes
        if found.text
    ]


def summarize(
    outcomes: Sequence[TextResult], split: Split, scope: Scope, teacher: str, model: str
) -> TeacherTextsManifest:
    """Counts; nothing of it depends on the order or on when an answer was paid."""
    answered = [found for found in outcomes if found.text]
    left_out = [found for found in outcomes if not found.text]
    # An answer to two questions that were the same was paid once.
    costs = {key: cost for found in outcomes for key, cost in found.costs.items()}
    cost = TokenCost.total(costs.values())
    settings: dict[str, Any] = to_json(scope)
    settings.pop("seed")
    return TeacherTextsManifest(
        teacher=teacher,
        model=model,
        split_sha256=split_sha256(split),
        seed=scope.seed,
        settings=settings,
        asked=_count(found.wanted.kind.value for found in outcomes),
        answered=_count(found.wanted.kind.value for found in answered),
        left_out=_count(found.rejections[-1].value for found in left_out),
        rejected=_count(reason.value for found in outcomes for reason in found.rejections),
        answers=len(answered) + sum(len(found.rejections) for found in outcomes),
        tokens_in=cost.tokens_in,
        tokens_out=cost.tokens_out,
        money=cost.money,
    )


def _count(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(collections.Counter(words).items()))
