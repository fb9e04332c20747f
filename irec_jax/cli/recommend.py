"""`irec recommend`: one answer for a history and a wish."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from irec_jax.bounds import COUNT, Range, check_numbers
from irec_jax.errors import InputError
from irec_jax.experiment import load_run
from irec_jax.log.dataset import load_split
from irec_jax.recommendation.catalog import Catalog
from irec_jax.recommendation.explain import Explanation
from irec_jax.recommendation.recommender import Extras, Recommendation, Recommender
from irec_jax.terminal import Console


@dataclasses.dataclass(frozen=True)
class Recommend:
    """Recommends items of the catalog for a history, an instruction, or both.

    Items of the history are never returned, and no item twice. Example:

      irec recommend runs/shop --history i17 "Trail Shoe 44" --instruction "for rain" \
--where "price < 80" -k 5 --explain

    Attributes:
        folder: The folder that `irec tune` wrote.
        history: What the user had, oldest first: item ids or titles.
        instruction: What the user wants now, in their own words.
        k: How many items.
        exclude: Item ids or titles that may not be returned, besides the history.
        where: A condition on the catalog's columns that every returned item meets, such as
            "price < 80 and categories contains 'shoes'"; docs/filters.md has the language.
        user: A user number of the run's log whose whole history comes before `history`.
        preference: What the user likes, in a sentence, as "quiet films with a good story".
        context: The moment, as "on a winter evening".
        language: Of the prompt: one of the template packs that the run was tuned on.
        explain: Also show the prompt, and what the model says of each item.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    history: tuple[str, ...] = ()
    instruction: str = ""
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10
    exclude: tuple[str, ...] = ()
    where: str | None = None
    user: int | None = None
    preference: str = ""
    context: str = ""
    language: str = ""
    explain: tyro.conf.FlagCreatePairsOff[bool] = False

    def run(self) -> None:
        """Prints the recommendations as a table."""
        check_numbers(self, "--", k=COUNT, user=Range(-(2**63), 2**63 - 1))
        recommender = Recommender.load(self.folder)
        past = () if self.user is None else user_history(self.folder, self.user)
        history = (*past, *self.history)
        told = Extras(self.preference, self.context, self.language)
        given = {"exclude": self.exclude, "where": self.where, "told": told}
        answer = recommender.recommend(history, self.instruction, self.k, **given)
        console = Console()
        if not self.explain:
            console.print(answer_table(answer, recommender.catalog))
            return
        explanation = recommender.explain(answer, history, self.instruction, **given)
        console.print(answer_table(answer, recommender.catalog, explanation))
        for line in explanation_lines(explanation, answer):
            console.print(line, markup=False, highlight=False)


def user_history(run: Path, user: int) -> tuple[str, ...]:
    """Gives the ids of all items that a user of the run's log had, oldest first.

    Raises:
        InputError: The log is not where the run's config says, or has no such user.
    """
    experiment = load_run(run)
    split = load_split(experiment.data, experiment.seed)
    rows = (split.users == user).nonzero()[0]
    if not len(rows):
        some = ", ".join(str(known) for known in split.users[:5])
        raise InputError(
            f"the run's log has no user {user}",
            where="user",
            hint=f"users are numbers such as {some}; for somebody new, use --history.",
        )
    items = split.items[split.offsets[rows[0]] : split.offsets[rows[0] + 1]]
    return tuple(split.catalog["item"][items].to_list())


def answer_table(
    answer: list[Recommendation], catalog: Catalog, told: Explanation | None = None
) -> Table:
    """Lays out recommendations, with the reasons beside them if they were asked for."""
    table = Table("rank", "item", "title", "log-probability")
    if told is not None:
        table.add_column("share of allowed")
        table.add_column("also in the history")
    else:
        table.add_column("categories")
    for number, one in enumerate(answer):
        cells = [str(one.rank), one.item, one.title, f"{one.score:.2f}"]
        if told is not None:
            reason = told.reasons[number]
            cells += [f"{reason.share:.1%}", ", ".join(reason.shared_categories)]
        else:
            cells.append(", ".join(catalog.categories[one.number]))
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    return table


def explanation_lines(told: Explanation, answer: list[Recommendation]) -> list[str]:
    """Says what an answer was made from."""
    certain = "the list is what a look at every item gives."
    if not all(one.certain for one in answer):
        certain = "the beam was too narrow to rule out better items: raise decode.widest."
    return [
        f"asked as: {told.scenario}",
        f"prompt: {told.prompt}",
        f"{told.allowed} items could be returned, {told.excluded} could not; the model gives "
        f"{told.mass:.1%} of its probability to the first and the rest to the others and to "
        "text that is no item.",
        f"search: {certain}",
        "The probability is the model's only reason. Categories are shown because the reader may "
        "find them in common with the history, not because the model says that it used them.",
    ]
