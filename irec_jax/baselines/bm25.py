"""BM25: word search in the texts of items, and its baseline."""

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

    A Chinese or Japanese character is a word of its own, and full-width letters become ASCII.
    There is no stemming and no list of stop words.

    >>> words_of("Blue RAIN-jacket, 3XL 防水外套 No.5")
    ['blue', 'rain', 'jacket', '3xl', '防', '水', '外', '套', 'no', '5']
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.lower())


@dataclasses.dataclass(frozen=True, eq=False)
class BM25Index:
    """Indexed texts (Robertson and Zaragoza 2009, section 3.4).

    `score(query, text) = sum_t idf(t) tf / (tf + k1 (1 - b + b length / mean length))` over the
    words `t` of the query with their repetitions; `tf` counts `t` in the text. With `N` texts, `n`
    of which contain `t`, `idf(t) = log(1 + (N - n + 0.5) / (n + 0.5))`, which is never negative.
    This idf and the absence of the constant factor `k1 + 1` follow Lucene.

    Attributes:
        vocabulary: Row of each word.
        weights: `[words, texts]` float32, the score of one occurrence in a query.
    """

    vocabulary: dict[str, int]
    weights: sparse.csr_array

    @classmethod
    def build(cls, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> "BM25Index":
        """Indexes texts.

        Args:
            texts: The texts; an empty one matches no query.
            k1: Saturation of repeated words: 0 counts a word once, larger values count repetitions
                more.
            b: Normalization by text length, from 0 (none) to 1 (full).
        """
        vocabulary: dict[str, int] = {}
        ids = [
            [vocabulary.setdefault(word, len(vocabulary)) for word in words_of(text)]
            for text in texts
        ]
        lengths = np.array([len(words) for words in ids], np.int64)
        rows = np.fromiter(itertools.chain.from_iterable(ids), np.int64, int(lengths.sum()))
        columns = np.repeat(np.arange(len(ids)), lengths)
        occurrences = sparse.coo_array(
            (np.ones(len(rows)), (rows, columns)), shape=(len(vocabulary), len(ids))
        ).tocsr()
        document_counts = np.diff(occurrences.indptr)
        idf = np.log1p((len(ids) - document_counts + 0.5) / (document_counts + 0.5))
        relative = lengths / max(lengths.mean(), 1e-9) if len(ids) else lengths
        damping = k1 * (1.0 - b + b * relative)
        counts = occurrences.data
        saturated = counts / (counts + damping[occurrences.indices])
        weights = (np.repeat(idf, document_counts) * saturated).astype(np.float32)
        parts = (weights, occurrences.indices, occurrences.indptr)
        return cls(vocabulary, sparse.csr_array(parts, shape=occurrences.shape))

    def scores(self, queries: Sequence[str]) -> Float[np.ndarray, "queries texts"]:
        """Scores every text for each query, float32; 0 where they share no word."""
        known = [
            [self.vocabulary[word] for word in words_of(query) if word in self.vocabulary]
            for query in queries
        ]
        rows = np.repeat(np.arange(len(known)), [len(words) for words in known])
        columns = np.array([word for words in known for word in words], np.int64)
        counts = sparse.coo_array(
            (np.ones(len(rows), np.float32), (rows, columns)),
            shape=(len(known), len(self.vocabulary)),
        ).tocsr()
        return sparse.csr_array(counts @ self.weights).toarray()


@dataclasses.dataclass(frozen=True)
class BM25:
    """Ranks by BM25 of a request's query against the items' texts; the history is not used.

    On a search task it measures how many words of the answer a query contains. Equal scores are
    ordered by popularity, and a request without a query gets popularity alone.

    Attributes:
        k1: See `BM25Index.build`.
        b: See `BM25Index.build`.
        name: The name of its row in a report.
    """

    k1: float = 1.2
    b: float = 0.75
    name: str = "bm25"

    def __post_init__(self) -> None:
        if not 0 <= self.k1 < float("inf"):
            problem = f"must be finite and at least 0, got {self.k1}"
            raise InputError(problem, where="BM25.k1", hint="Set it to 1.2, the default.")
        if not 0 <= self.b <= 1:
            problem = f"must be between 0 and 1, got {self.b}"
            raise InputError(problem, where="BM25.b", hint="Set it to 0.75, the default.")

    def build(self, split: Split) -> Ranker:
        """Indexes the catalog of a split and counts its training events."""
        index = BM25Index.build(item_texts(split.catalog), self.k1, self.b)
        counts = training_counts(split)
        ties = TIE_WEIGHT * counts / (counts.max(initial=0) + 1)

        def rank(requests: Sequence[Request]) -> Ranking:
            scores = index.scores([request.instruction for request in requests])
            return Ranking(scores.astype(np.float64) + ties)

        return rank


def item_texts(catalog: pl.DataFrame) -> list[str]:
    """Joins the texts of each item's columns, as far as the log has them."""
    parts = [name for name in ("title", "brand", "description") if name in catalog.columns]
    texts = [pl.col(name) for name in parts]
    lists = [name for name in ("categories", "attributes") if name in catalog.columns]
    texts[1:1] = [pl.col(name).list.join(" ", ignore_nulls=True) for name in lists]
    if not texts:
        return [""] * catalog.height
    joined = pl.concat_str(texts, separator=" ", ignore_nulls=True)
    return catalog.select(joined.alias("text"))["text"].to_list()
