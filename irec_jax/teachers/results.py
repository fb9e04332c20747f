"""Results of text requests: counted for the manifest, and converted to teacher texts."""

import collections
import dataclasses
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from irec_jax.log.split import Split
from irec_jax.settings import to_json
from irec_jax.teachers.cost_ledger import TokenCost
from irec_jax.teachers.teacher_prompts import RequestScope, TextRequest, WantedText
from irec_jax.teachers.teacher_texts import TeacherText, TeacherTextsManifest, split_sha256
from irec_jax.teachers.text_checks import Rejection, check_text

NO_COSTS: Mapping[str, TokenCost] = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class TextResult:
    """The result of one request, after all its attempts.

    Attributes:
        wanted: The text that was requested.
        user: The log's user number.
        request_sha256: SHA-256 of the messages.
        text: The text that passed the checks, "" if none did.
        rejections: Why each of the other responses was rejected, in their order.
        costs: Request key -> cost of its response, also if an earlier run paid it.
    """

    wanted: WantedText
    user: int
    request_sha256: str
    text: str
    rejections: tuple[Rejection, ...]
    costs: Mapping[str, TokenCost]


def check_response(request: TextRequest, text: str | Rejection) -> Rejection | None:
    """Returns why a response is rejected, None if it is accepted."""
    if isinstance(text, Rejection):
        return text
    wanted = request.wanted
    return check_text(text, wanted.kind, wanted.language, request.titles, request.user)


def make_result(
    request: TextRequest,
    text: str,
    rejections: Sequence[Rejection],
    costs: Mapping[str, TokenCost] = NO_COSTS,
) -> TextResult:
    """Makes the result of a request; the arguments are as in `TextResult`."""
    sha256 = request.sha256
    return TextResult(request.wanted, request.user, sha256, text, tuple(rejections), costs)


def collect_texts(results: Sequence[TextResult], teacher: str, model: str) -> list[TeacherText]:
    """Returns the texts that passed, in the order of `results`."""
    return [
        TeacherText(
            user=result.user,
            event_index=result.wanted.event_index,
            kind=result.wanted.kind,
            variant=result.wanted.variant,
            language=result.wanted.language,
            text=result.text,
            request_sha256=result.request_sha256,
            writer=f"{teacher}:{model}",
        )
        for result in results
        if result.text
    ]


def summarize(
    results: Sequence[TextResult], split: Split, scope: RequestScope, teacher: str, model: str
) -> TeacherTextsManifest:
    """Counts the results; independent of their order and of the run that paid for them."""
    written = [result for result in results if result.text]
    not_generated = [result for result in results if not result.text]
    # Two equal requests have one response, which was paid once.
    costs = {key: cost for result in results for key, cost in result.costs.items()}
    cost = TokenCost.total(costs.values())
    settings: dict[str, Any] = to_json(scope)
    settings.pop("seed")
    return TeacherTextsManifest(
        teacher=teacher,
        model=model,
        split_sha256=split_sha256(split),
        seed=scope.seed,
        settings=settings,
        requested=_count(result.wanted.kind.value for result in results),
        written=_count(result.wanted.kind.value for result in written),
        not_generated=_count(result.rejections[-1].value for result in not_generated),
        rejected=_count(reason.value for result in results for reason in result.rejections),
        responses=len(written) + sum(len(result.rejections) for result in results),
        tokens_in=cost.tokens_in,
        tokens_out=cost.tokens_out,
        money=cost.money,
    )


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(collections.Counter(values).items()))
