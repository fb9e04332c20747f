"""Training records of understanding, and their mixture with the instructions of a log."""

import dataclasses
import functools
from typing import Protocol, runtime_checkable

from irec_jax.instructions.forms import (
    Instruction,
    Intention,
    Preference,
    Scenario,
    Strategy,
    TaskForm,
)
from irec_jax.log.split import Role, Split
from irec_jax.random_draws import RandomStream, derive_key, scramble
from irec_jax.understanding.lexicon import Field, FieldValue, Lexicon
from irec_jax.understanding.request_grammar import RequestGrammar
from irec_jax.understanding.roles import KIND_OF_FIELD, NUMBER_KINDS, Kind, RequestRole
from irec_jax.understanding.spans import ASKED, OTHER, find_spans, spans_prompt
from irec_jax.understanding.words import split_request

TASK = "understanding"
TEXTS_OF_LOG = 8
"""One of so many records is made from a title or a query of the log, the others from a grammar."""
NUMBERS_FIRST = 2
"""One of so many requests with a number asks for a number, the others for any of its spans."""
UNKNOWN_WORDS = 3
"""One of so many requests has an unknown word at a random place, as real ones do."""
_PER_MILLE = 1_000


@runtime_checkable
class RecordReader(Protocol):
    """Records by number, such as those of a renderer."""

    def record(self, number: int) -> Instruction:
        """Returns the record with this number, at least 0."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class RequestRecords:
    """Records that ask for the role of one span of a request; a pure function of the number.

    Attributes:
        split: The log; its titles and the queries before training events are read.
        lexicon: Its lexicon.
        grammars: The grammars of its languages.
        seed: Of the draws.
    """

    split: Split
    lexicon: Lexicon
    grammars: tuple[RequestGrammar, ...]
    seed: int

    def record(self, number: int) -> Instruction:
        """Makes one record."""
        key = scramble(self._key + number)
        grammar = self.grammars[(key >> 8) % len(self.grammars)]
        made = None
        if key % TEXTS_OF_LOG == 0:
            made = self._of_log(scramble(key), grammar)
        request, role = made or self._of_grammar(scramble(key), grammar)
        return Instruction(
            inputs=f"{grammar.prompt} {request}",
            targets=role.value,
            scenario=Scenario(Preference.NONE, Intention.NONE, TaskForm.MATCHING).code,
            strategy=Strategy.PLAIN.value,
            task=TASK,
            template=grammar.language,
            language=grammar.language,
            user=-1,
            target_item=-1,
            candidates=(),
            split=Role.TRAIN.name.lower(),
            seed=self.seed,
        )

    def _of_grammar(self, key: int, grammar: RequestGrammar) -> tuple[str, RequestRole]:
        drawn = grammar.draw(key, self._kinds)
        places = sorted(drawn.roles)
        draw = scramble(key)
        numbers = [place for place in places if drawn.words[place] in NUMBER_KINDS]
        if numbers and draw % NUMBERS_FIRST == 0:
            places = numbers  # they have more roles than values, and more ways to say each
        asked = places[(draw >> 16) % len(places)]
        words = list(drawn.words)
        words.insert(asked, ASKED)
        if (draw >> 32) % UNKNOWN_WORDS == 0:
            _insert_other(words, draw >> 40)
        return " ".join(words), drawn.roles[asked]

    def _of_log(self, key: int, grammar: RequestGrammar) -> tuple[str, RequestRole] | None:
        """A title or query; a value that its item has is wanted. None if it has no span."""
        positions = self._queries
        chosen = (key >> 16) % (len(self.split.catalog) + len(positions))
        if chosen < len(positions):
            text = self.split.queries[positions[chosen]]
            item = int(self.split.items[positions[chosen]])
        else:
            item = chosen - len(positions)
            text = self._titles[item]
        words = split_request(text)
        spans = find_spans(words, self.lexicon, grammar.words)
        values = [number for number, span in enumerate(spans) if isinstance(span.value, FieldValue)]
        if not values:
            return None
        asked = values[scramble(key) % len(values)]
        has_value = spans[asked].value in self._values[item]
        role = RequestRole.WANTED if has_value else RequestRole.OPEN
        return spans_prompt(words, spans, asked, grammar.words), role

    @functools.cached_property
    def _key(self) -> int:
        return derive_key(self.seed, RandomStream.UNDERSTANDING)

    @functools.cached_property
    def _kinds(self) -> frozenset[Kind]:
        kinds = {KIND_OF_FIELD[value.field] for value in self.lexicon.values.values()}
        if self.lexicon.has_price:
            kinds |= {Kind.PRICE, Kind.LEVEL}
        if self.lexicon.has_year:
            kinds.add(Kind.YEAR)
        return frozenset(kinds)

    @functools.cached_property
    def _queries(self) -> list[int]:
        targets = self.split.targets(Role.TRAIN).tolist()
        return [position for position in targets if self.split.queries[position]]

    @functools.cached_property
    def _titles(self) -> list[str]:
        return self.split.catalog["title"].to_list()

    @functools.cached_property
    def _values(self) -> list[frozenset[FieldValue]]:
        """The values of each item."""
        catalog = self.split.catalog
        columns = {
            field: catalog[field.value].to_list() for field in Field if field in catalog.columns
        }
        return [
            frozenset(
                FieldValue(field, name)
                for field, cells in columns.items()
                for name in ([cells[row]] if isinstance(cells[row], str) else cells[row] or [])
            )
            for row in range(catalog.height)
        ]


def _insert_other(words: list[str], draw: int) -> None:
    """Inserts an unknown word, as it could be shown: not behind `ASKED` nor beside another one."""
    before = ["", *words]
    after = [*words, ""]
    places = [
        place
        for place in range(len(after))
        if before[place] not in (ASKED, OTHER) and after[place] != OTHER
    ]
    if places:
        words.insert(places[draw % len(places)], OTHER)


@dataclasses.dataclass(frozen=True, eq=False)
class MixedRecords:
    """Records of instructions and of understanding, in a fixed proportion.

    Attributes:
        instructions: The instructions of a log.
        requests: The records of understanding.
        share: Share of the latter, rounded to thousandths.
    """

    instructions: RecordReader
    requests: RecordReader
    share: float

    def record(self, number: int) -> Instruction:
        """Returns a record of one of the two."""
        instruction = self.instruction_number(number)
        if instruction is None:
            return self.requests.record(self._requests_before(number))
        return self.instructions.record(instruction)

    def instruction_number(self, number: int) -> int | None:
        """Returns the number of a record among the instructions, None if it is not one."""
        before = self._requests_before(number)
        return number - before if self._requests_before(number + 1) == before else None

    def _requests_before(self, number: int) -> int:
        return number * round(self.share * _PER_MILLE) // _PER_MILLE
