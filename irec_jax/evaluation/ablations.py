"""What an instruction is worth: the same requests with something taken away or changed."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from irec_jax.instructions.forms import (
    Intention,
    Preference,
    Ranker,
    Ranking,
    Request,
    Scenario,
)
from irec_jax.instructions.tasks import Task
from irec_jax.instructions.templates import TemplatePack
from irec_jax.log.split import Role, Split
from irec_jax.random_draws import derive_key

NO_INSTRUCTION = "no instruction"
SHUFFLED = "shuffled instruction"
UNSEEN = "unseen templates"

_SHUFFLE_STREAM, _TEMPLATE_STREAM = 31, 32

Change = Callable[[Request], Request]


def ablations(
    tuned: Ranker, packs: Sequence[TemplatePack], task: Task, split: Split, role: Role, seed: int
) -> Mapping[str, Ranker]:
    """Makes the ablations of a ranker that a task allows.

    * no instruction: the user's words are left out, and the history or the preference stays;
    * shuffled instruction: the words that another user typed, of the same kind where there are
      such, drawn anew for each request;
    * unseen templates: one that was kept from training, drawn for each request;
    * in LANGUAGE: the prompt of each other pack; the user's words stay as they are.

    Args:
        tuned: The ranker that takes something away.
        packs: The template packs that it was tuned on.
        task: What is asked.
        split: Where other words come from.
        role: Whose words.
        seed: Of the draws.

    Returns:
        By the name of their row.
    """
    changes: dict[str, Change] = {}
    if task.needs_query:
        if task.preference is not Preference.NONE:
            changes[NO_INSTRUCTION] = _without_words
        changes[SHUFFLED] = _Shuffled.of(task, split, role, seed)
    changes[UNSEEN] = lambda request: _unseen(request, packs[0], task, seed)
    for pack in packs[1:]:
        changes[f"in {pack.language}"] = _in_language(pack.language)
    return {name: _changed(tuned, change) for name, change in changes.items()}


def _changed(ranker: Ranker, change: Change) -> Ranker:
    def rank(requests: Sequence[Request]) -> Ranking:
        return ranker([change(request) for request in requests])

    return rank


def _without_words(request: Request) -> Request:
    scenario = dataclasses.replace(request.scenario, intention=Intention.NONE)
    return dataclasses.replace(request, scenario=scenario, instruction="")


@dataclasses.dataclass(frozen=True)
class _Shuffled:
    """Gives a request the words of another one.

    Attributes:
        words: Scenario -> the words that were typed in it, with who typed them.
        seed: Of the draw.
    """

    words: Mapping[Scenario, Sequence[tuple[int, str]]]
    seed: int

    @classmethod
    def of(cls, task: Task, split: Split, role: Role, seed: int) -> "_Shuffled":
        words: dict[Scenario, list[tuple[int, str]]] = {}
        users = split.users[split.event_users()]
        for position in task.eligible(split, role).tolist():
            said = (int(users[position]), split.queries[position])
            words.setdefault(task.scenario_at(split, position), []).append(said)
        return cls(words, seed)

    def __call__(self, request: Request) -> Request:
        words = self.words[request.scenario]
        draw = derive_key(self.seed, _SHUFFLE_STREAM, request.user + 1, request.time + 1)
        for step in range(len(words)):
            user, text = words[(draw + step) % len(words)]
            if user != request.user and text != request.instruction:
                return dataclasses.replace(request, instruction=text)
        return request


def _unseen(request: Request, pack: TemplatePack, task: Task, seed: int) -> Request:
    templates = pack.of(task.name, request.scenario.intention, held_out=True)
    fillable = [t for t in templates if set(t.slots) <= set(task.shows)] or templates
    draw = derive_key(seed, _TEMPLATE_STREAM, request.user + 1, request.time + 1)
    return dataclasses.replace(request, template=fillable[draw % len(fillable)].name)


def _in_language(language: str) -> Change:
    return lambda request: dataclasses.replace(request, language=language)
