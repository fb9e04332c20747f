"""`irec recommend`: recommendations for a history and an instruction."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from irec_jax.bounds import COUNT, Range, check_numbers
from irec_jax.instructions.forms import scenario_words
from irec_jax.progress import print_status
from irec_jax.recommendation.catalog import Catalog
from irec_jax.recommendation.explain import Explanation
from irec_jax.recommendation.recommendations import SCORE_MEANING, Recommendations
from irec_jax.recommendation.recommender import Recommender
from irec_jax.recommendation.request_extras import Extras
from irec_jax.recommendation.request_understanding import UnderstandingMode
from irec_jax.terminal import Console


@dataclasses.dataclass(frozen=True)
class Recommend:
    """Recommends items of the catalog for a history, an instruction, or both.

    Items of the history are never returned, and no item twice. Example:

      irec recommend runs/shop --history i17 "Trail Shoe 44" --instruction "for rain" \
--where "price < 80" -k 5 --explain

    Attributes:
        folder: The folder that `irec tune` wrote.
        history: The user's items, oldest first: item ids or titles.
        instruction: The user's own words (a query).
        k: Number of items.
        exclude: Item ids or titles that may not be returned, besides the history.
        where: A condition on the catalog's columns that every returned item meets, such as
            "price < 80 and categories contains 'shoes'"; docs/filters.md has the language.
        user: A user number of the run's log whose whole history comes before `history`.
        preference: The user's taste in a sentence, as "quiet films with a good story".
        context: Time, place or season, as "on a winter evening".
        language: Language of the prompt: one of the template packs that the run was tuned on.
        understanding: What to do with conditions in the instruction: `on`, `off`, or `required`
            (an error if no item meets them).
        explain: Also show the prompt and the probability of each item.
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
    understanding: tyro.conf.EnumChoicesFromValues[UnderstandingMode] = UnderstandingMode.ON
    explain: bool = False

    def run(self) -> None:
        """Prints the recommendations as a table."""
        check_numbers(self, "--", k=COUNT, user=Range(-(2**63), 2**63 - 1))
        recommender = Recommender.load(self.folder)
        of_user = () if self.user is None else recommender.history_of(self.user)
        history = (*of_user, *self.history)
        extras = Extras(self.preference, self.context, self.language, self.understanding)
        answer = recommender.recommend(
            history,
            self.instruction,
            self.k,
            exclude=self.exclude,
            where=self.where,
            extras=extras,
        )
        if answer.understood is not None:
            print_status(f"understood: {answer.understood}")
            if len(answer) < self.k:
                print_status(f"items that meet this: {len(answer)}")
        for warning in answer.warnings:
            print_status(f"warning: {warning.message}")
        console = Console()
        if not self.explain:
            console.print(_answer_table(answer, recommender.catalog))
            return
        explanation = recommender.explain(answer)
        console.print(_answer_table(answer, recommender.catalog, explanation))
        for line in _explanation_lines(explanation, answer):
            console.print(line, markup=False, highlight=False)


def _answer_table(
    answer: Recommendations, catalog: Catalog, explanation: Explanation | None = None
) -> Table:
    """A table of recommendations, with the probabilities where there is an explanation."""
    table = Table("rank", "item", "title", "score", caption=SCORE_MEANING, caption_justify="left")
    if explanation is not None:
        table.add_column("share")
        table.add_column("categories of the history")
    else:
        table.add_column("categories")
    for place, item in enumerate(answer):
        cells = [str(item.rank), item.item, item.title, f"{item.score:.2f}"]
        if explanation is not None:
            details = explanation.items[place]
            cells += [f"{details.share:.1%}", ", ".join(details.shared_categories)]
        else:
            cells.append(", ".join(catalog.categories[item.number]))
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    return table


def _explanation_lines(explanation: Explanation, answer: Recommendations) -> list[str]:
    """Scenario, prompt, probability and search of an answer, one line each."""
    search = "exact: no item outside the list has a higher score."
    if not all(item.is_certain for item in answer):
        search = "the beam is too narrow to rule out better items: raise decode.widest."
    return [
        f"request: {scenario_words(explanation.scenario)}",
        f"prompt: {explanation.readable_prompt}",
        "share: the item's part of the probability of all items that may be returned.",
        f"{explanation.allowed} items may be returned, {explanation.excluded} may not; the allowed "
        f"items have {explanation.mass:.1%} of the model's probability, the others and texts that "
        "name no item the rest.",
        f"search: {search}",
        "An item is returned for its probability alone. The shared categories describe the "
        "catalog; the model may or may not use them.",
    ]
