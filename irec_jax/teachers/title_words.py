"""Words of titles and labels: what gives a title away, and what merely shares words with it."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from irec_jax.word_overlap import STOP_WORDS, words_of


def tokens(text: str) -> tuple[str, ...]:
    """Splits text into words, case folded; an ideograph is a word, as the audit counts.

    >>> tokens("Men's {Care} 洗发")
    ('men', 's', 'care', '洗', '发')
    """
    return words_of(text).run


def stem(word: str) -> str:
    """Takes the ending of an English plural off.

    >>> [stem(word) for word in ("brushes", "oils", "bodies", "gas")]
    ['brush', 'oil', 'body', 'gas']
    """
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("shes", "ches", "sses", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def telling(words: Sequence[str]) -> frozenset[str]:
    """Gives the stems that tell something; ideographs count in pairs.

    >>> sorted(telling(tokens("Oils for 洗发水")))
    ['oil', '发水', '洗发']
    """
    stems, before = set(), ""
    for word in words:
        if is_ideograph(word):
            if before:
                stems.add(before + word)
            before = word
        else:
            before = ""
            if len(word) > 1 and word not in STOP_WORDS:
                stems.add(stem(word))
    return frozenset(stems)


def is_ideograph(word: str) -> bool:
    """Says whether a token is a letter of a script that has no spaces between words."""
    return len(word) == 1 and ("\u3040" <= word <= "\u9fff" or "\uf900" <= word <= "\ufaff")


@dataclasses.dataclass(frozen=True, eq=False)
class Titles:
    """The titles of a catalog as runs of words, to find them in other text.

    A title counts as found where its words stand in a row, whatever the case and what is between
    them. One that holds nothing but stop words and single letters is never found: it cannot be
    told from ordinary speech.

    Attributes:
        runs: The titles.
        lengths: How many words they have, ascending.
    """

    runs: frozenset[tuple[str, ...]]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, titles: Iterable[Sequence[str]]) -> "Titles":
        """Takes titles that have been split into tokens."""
        runs = frozenset(run for run in map(tuple, titles) if telling(run))
        return cls(runs, tuple(sorted({len(run) for run in runs})))

    def found(self, words: Sequence[str]) -> bool:
        """Says whether a title stands in these tokens."""
        words = tuple(words)
        return any(
            words[start : start + length] in self.runs
            for length in self.lengths
            if length <= len(words)
            for start in range(len(words) - length + 1)
        )

    def of_words(self, vocabulary: frozenset[str]) -> "Titles":
        """Gives the titles of two words or more that can be said with a vocabulary."""
        return Titles.of(run for run in self.runs if len(run) > 1 and vocabulary.issuperset(run))

    def pairs(self) -> frozenset[tuple[str, str]]:
        """Gives all pairs of words that stand next to each other in a title."""
        return frozenset(pair for run in self.runs for pair in itertools.pairwise(run))
