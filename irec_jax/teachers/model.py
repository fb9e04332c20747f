"""Texts from a model of ours: a function that answers prompts."""

import itertools
from collections.abc import Callable, Iterable, Sequence

from irec_jax.bounds import Range, check_between
from irec_jax.progress import track
from irec_jax.random_draws import RandomStream, derive_key
from irec_jax.teachers.results import TextResult, judge, outcome
from irec_jax.teachers.teacher_prompts import TextRequest
from irec_jax.teachers.text_checks import Rejection
from irec_jax.text_cleaning import clean

GenerateFn = Callable[[Sequence[str], int], list[str]]
"""Answers prompts, in order; the number is the seed of its draws."""

_TOGETHER = 1_024  # questions that are asked at once, so that few of them wait in memory


def generate_texts(
    questions: Iterable[TextRequest],
    write: GenerateFn,
    *,
    total: int,
    attempts: int = 3,
    seed: int = 0,
) -> list[TextResult]:
    """Asks all questions; a rejected answer is asked for again with another seed.

    Args:
        questions: Of one message each.
        write: The model.
        total: How many questions there are, for the progress.
        attempts: How often a question is asked at most.
        seed: Of the model's draws; the same seed gives the same texts.

    Raises:
        InputError: `attempts` is impossible.
    """
    check_between(attempts, Range(1, 1_000), "--attempts")
    outcomes: list[TextResult] = []
    waiting = iter(questions)
    with track("teach", total, unit="questions") as advance:
        while group := list(itertools.islice(waiting, _TOGETHER)):
            outcomes += _ask_group(group, write, attempts, seed)
            advance(len(group), "")
    return outcomes


def _ask_group(
    group: Sequence[TextRequest], write: GenerateFn, attempts: int, seed: int
) -> list[TextResult]:
    texts = [""] * len(group)
    rejections: list[list[Rejection]] = [[] for _ in group]
    open_numbers = list(range(len(group)))
    for attempt in range(attempts):
        if not open_numbers:
            break
        # The same prompt is asked once: it would get the same answer.
        prompts = list(dict.fromkeys(group[number].messages[-1][1] for number in open_numbers))
        written = write(prompts, derive_key(seed, RandomStream.MODEL_TEACHER_SAMPLE, attempt))
        answers = dict(zip(prompts, map(clean, written), strict=True))
        still_open = []
        for number in open_numbers:
            text = answers[group[number].messages[-1][1]]
            rejection = judge(group[number], text)
            if rejection is None:
                texts[number] = text
            else:
                rejections[number].append(rejection)
                still_open.append(number)
        open_numbers = still_open
    return [
        outcome(question, text, reasons)
        for question, text, reasons in zip(group, texts, rejections, strict=True)
    ]
