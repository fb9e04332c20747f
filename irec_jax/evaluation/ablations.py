"""Instruction ablations: the same requests with a part removed or changed."""

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
from irec_jax.random_draws import RandomStream, derive_key

NO_INSTRUCTION = "no instruction"
SHUFFLED = "shuffled instruction"
UNSEEN = "unseen templates"


Change = Callable[[Request], Request]


def ablation_rankers(
    tuned: Ranker, packs: Sequence[TemplatePack], task: Task, split: Split, role: Role, seed: int
) -> Mapping[str, Ranker]:
    """Makes the ablations of a ranker that a task allows.

    * no instruction: the query is removed; the history or the preference stays;
    * shuffled instruction: the query of another user in the same scenario, drawn for each
      request;
    * unseen templates: a held-out template, drawn for each request;
    * in LANGUAGE: the prompt in the language of each other pack; the query stays.

    Args:
        tuned: The ranker.
        packs: The template packs that it was tuned on.
        task: The task of the requests.
        split: The source of other users' queries.
        role: The role of the events of these queries.
        seed: Seed of the draws.

    Returns:
        Rankers by the name of their row.
    """
    changes: dict[str, Change] = {}
    if task.needs_query:
        if task.preference is not Preference.NONE:
            changes[NO_INSTRUCTION] = _without_query
        changes[SHUFFLED] = _ShuffledQueries.of(task, split, role, seed)
    changes[UNSEEN] = lambda request: _with_unseen_template(request, packs[0], task, seed)
    for pack in packs[1:]:
        changes[f"in {pack.language}"] = _in_language(pack.language)
    return {name: _changed(tuned, change) for name, change in changes.items()}


def _changed(ranker: Ranker, change: Change) -> Ranker:
    def rank(requests: Sequence[Request]) -> Ranking:
        return ranker([change(request) for request in requests])

    return rank


def _without_query(request: Request) -> Request:
    scenario = dataclasses.replace(request.scenario, intention=Intention.NONE)
    return dataclasses.replace(request, scenario=scenario, instruction="")


@dataclasses.dataclass(frozen=True)
class _ShuffledQueries:
    """Replaces the query of a request by that of another user.

    Attributes:
        queries: Users and queries by scenario.
        seed: Seed of the draws.
    """

    queries: Mapping[Scenario, Sequence[tuple[int, str]]]
    seed: int

    @classmethod
    def of(cls, task: Task, split: Split, role: Role, seed: int) -> "_ShuffledQueries":
        queries: dict[Scenario, list[tuple[int, str]]] = {}
        users = split.users[split.event_users()]
        for position in task.eligible(split, role).tolist():
            pair = (int(users[position]), split.queries[position])
            queries.setdefault(task.scenario_at(split, position), []).append(pair)
        return cls(queries, seed)

    def __call__(self, request: Request) -> Request:
        queries = self.queries[request.scenario]
        draw = derive_key(
            self.seed, RandomStream.ABLATION_QUERY, request.user + 1, request.time + 1
        )
        for step in range(len(queries)):
            user, query = queries[(draw + step) % len(queries)]
            if user != request.user and query != request.instruction:
                return dataclasses.replace(request, instruction=query)
        return request


def _with_unseen_template(request: Request, pack: TemplatePack, task: Task, seed: int) -> Request:
    templates = pack.of(task.name, request.scenario.intention, held_out=True)
    fillable = [t for t in templates if set(t.slots) <= set(task.required_slots)] or templates
    draw = derive_key(seed, RandomStream.ABLATION_TEMPLATE, request.user + 1, request.time + 1)
    return dataclasses.replace(request, template=fillable[draw % len(fillable)].name)


def _in_language(language: str) -> Change:
    return lambda request: dataclasses.replace(request, language=language)
