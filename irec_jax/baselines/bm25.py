"""BM25: what words alone find; on queries, a meter of how much of the answer they give away."""

import dataclasses
import itertools
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import sparse

from irec_jax.baselines.popularity import training_counts
from irec_jax.errors import InputError
from irec_jax.instructions.forms import Ranker, Ranking, Request
from irec_jax.log.split import Split

TIE_WEIGHT = 1e-6

# Scripts that put no space between words: Han with its extensions, Hiragana and Katakana.
_UNSPACED = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"(?=\w)[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


def words_of(text: str) -> list[str]:
    """Splits text into lower-cased words of letters and digits.

    A Chinese or Japanese character is a word of its own, full-width letters are ordinary ones,
    and nothing is stemmed or left out.

    >>> words_of("Blue RAIN-jacket, 3XL 防水外套 No.5")
    ['blue', 'rain', 'jacket', '3xl', '防', '水', '外', '套', 'no', '5']
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.lower())


@dataclasses.dataclass(frozen=True, eq=False)
class BM25:
    """Texts ready to be searched (Robertson and Zaragoza 2009, section 3.4).

    `score(query, text) = sum_t idf(t) tf / (tf + k1 (1 - b + b length / mean length))` over the
    words `t` of the query, each as often as it stands there; `tf` counts `t` in the text. With
    `N` texts, `n` of which hold `t`, `idf(t) = log(1 + (N - n + 0.5) / (n + 0.5))`, which is never
    negative (Lucene's form; so is leaving out the factor `k1 + 1`, which orders nothing).

    Attributes:
        vocabulary: Row of each word.
        weights: `[words, texts]` float32, what one occurrence in a query adds.
    """

    vocabulary: dict[str, int]
    weights: sparse.csr_array

    @classmethod
    def build(cls, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> "BM25":
        """Reads the texts.

        Args:
            texts: What is searched; an empty one is never found.
            k1: How slowly a word's weight saturates as it is repeated; 0 = at once.
            b: How much long texts are held back: 0 not at all, 1 fully.

        Raises:
            InputError: `k1` is negative, or `b` is not between 0 and 1.
        """
        if not 0.0 <= k1 < float("inf"):
            raise InputError(f"{k1} is not 0 or more", where="bm25.k1", hint="Use about 1.2.")
        if not 0.0 <= b <= 1.0:
            raise InputError(f"{b} is not between 0 and 1", where="bm25.b", hint="Use about 0.75.")
        vocabulary: dict[str, int] = {}
        read = [
            [vocabulary.setdefault(word, len(vocabulary)) for word in words_of(text)]
            for text in texts
        ]
        lengths = np.array([len(words) for words in read], np.int64)
        rows = np.fromiter(itertools.chain.from_iterable(read), np.int64, int(lengths.sum()))
        columns = np.repeat(np.arange(len(read)), lengths)
        occurrences = sparse.coo_array(
            (np.ones(len(rows)), (rows, columns)), shape=(len(vocabulary), len(read))
        ).tocsr()
        holding = np.diff(occurrences.indptr)
        idf = np.log1p((len(read) - holding + 0.5) / (holding + 0.5))
        relative = lengths / max(lengths.mean(), 1e-9) if len(read) else lengths
        damping = k1 * (1.0 - b + b * relative)
        counts = occurrences.data
        saturated = counts / (counts + damping[occurrences.indices])
        weights = (np.repeat(idf, holding) * saturated).astype(np.float32)
        parts = (weights, occurrences.indices, occurrences.indptr)
        return cls(vocabulary, sparse.csr_array(parts, shape=occurrences.shape))

    def scores(self, query: str) -> Float[np.ndarray, " texts"]:
        """Scores every text, float32; 0 for one that shares no word with the query."""
        return self.scores_of([query])[0]

    def scores_of(self, queries: Sequence[str]) -> Float[np.ndarray, "queries texts"]:
        """Scores every text for each of several queries; see `scores`."""
        known = [
            [self.vocabulary[word] for word in words_of(query) if word in self.vocabulary]
            for query in queries
        ]
        rows = np.repeat(np.arange(len(known)), [len(words) for words in known])
        columns = np.array([word for words in known for word in words], np.int64)
        asked = sparse.coo_array(
            (np.ones(len(rows), np.float32), (rows, columns)),
            shape=(len(known), len(self.vocabulary)),
        ).tocsr()
        return sparse.csr_array(asked @ self.weights).toarray()


def bm25(split: Split, k1: float = 1.2, b: float = 0.75) -> Ranker:
    """Ranks by BM25 of the request's own words against the items' texts.

    The history says nothing here: how high this comes on a search task is how much its queries
    give away. Equal scores are ordered by popularity, and a request without words gets popularity
    alone.

    Args:
        split: Its catalog is searched; only its training events are counted.
        k1: See `BM25.build`.
        b: See `BM25.build`.

    Raises:
        InputError: A setting is impossible.
    """
    index = BM25.build(item_texts(split.catalog), k1, b)
    counts = training_counts(split)
    ties = TIE_WEIGHT * counts / (counts.max(initial=0) + 1)

    def rank(requests: Sequence[Request]) -> Ranking:
        scores = index.scores_of([request.instruction for request in requests])
        return Ranking(scores.astype(np.float64) + ties)

    return rank


def item_texts(catalog: pl.DataFrame) -> list[str]:
    """Joins title, categories, brand and description of each item, as far as the log has them."""
    parts = [name for name in ("title", "brand", "description") if name in catalog.columns]
    texts = [pl.col(name) for name in parts]
    if "categories" in catalog.columns:
        texts.insert(1, pl.col("categories").list.join(" ", ignore_nulls=True))
    if not texts:
        return [""] * catalog.height
    joined = pl.concat_str(texts, separator=" ", ignore_nulls=True)
    return catalog.select(joined.alias("text"))["text"].to_list()
