"""Texts from a tuned run, through a function that answers prompts."""

import itertools
from collections.abc import Callable, Iterable, Sequence

from irec_jax.bounds import Range, check_between
from irec_jax.progress import track
from irec_jax.random_draws import RandomStream, derive_key
from irec_jax.teachers.results import TextResult, check_response, make_result
from irec_jax.teachers.teacher_prompts import TextRequest
from irec_jax.teachers.text_checks import Rejection
from irec_jax.text_cleaning import clean

GenerateFn = Callable[[Sequence[str], int], list[str]]
"""Returns one answer per prompt; the number is the seed of the sampling."""

_GROUP_SIZE = 1_024  # requests in memory at a time


def generate_texts(
    requests: Iterable[TextRequest],
    generate: GenerateFn,
    *,
    total: int,
    attempts: int = 3,
    seed: int = 0,
) -> list[TextResult]:
    """Generates a text for every request; a rejected one is generated again with another seed.

    Args:
        requests: Requests of one message each.
        generate: The model.
        total: Number of requests, for the progress display.
        attempts: Largest number of answers generated for a request.
        seed: Seed of the sampling; the same seed gives the same texts.

    Returns:
        One result per request, in order.

    Raises:
        InputError: `attempts` is out of range.
    """
    check_between(attempts, Range(1, 1_000), "--attempts")
    results: list[TextResult] = []
    remaining = iter(requests)
    with track("teach", total, unit="texts") as advance:
        while group := list(itertools.islice(remaining, _GROUP_SIZE)):
            results += _generate_group(group, generate, attempts, seed)
            advance(len(group), "")
    return results


def _generate_group(
    group: Sequence[TextRequest], generate: GenerateFn, attempts: int, seed: int
) -> list[TextResult]:
    texts = [""] * len(group)
    rejections: list[list[Rejection]] = [[] for _ in group]
    pending = list(range(len(group)))
    for attempt in range(attempts):
        if not pending:
            break
        # Equal prompts get equal answers: each is generated once.
        prompts = list(dict.fromkeys(group[index].messages[-1][1] for index in pending))
        answers = map(
            clean, generate(prompts, derive_key(seed, RandomStream.MODEL_TEACHER_SAMPLE, attempt))
        )
        answer_to = dict(zip(prompts, answers, strict=True))
        rejected = []
        for index in pending:
            text = answer_to[group[index].messages[-1][1]]
            rejection = check_response(group[index], text)
            if rejection is None:
                texts[index] = text
            else:
                rejections[index].append(rejection)
                rejected.append(index)
        pending = rejected
    return [
        make_result(request, text, reasons)
        for request, text, reasons in zip(group, texts, rejections, strict=True)
    ]
