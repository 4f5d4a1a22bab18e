"""What the words of a query weigh: BM25's statistics, of the index at hand or of all that are searched together."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import log
from typing import NamedTuple

from ragvec.index.words.files import TITLE, WORDS
from ragvec.index.words.language import analyzer, function_words, further_words
from ragvec.index.words.query import Asked, WordQuery, read_query

MOST_BEGINNINGS = 64  # beginnings, and words that others are near to, of a query
MOST_TERMS = 1000  # of a query
MOST_QUERIES = 64  # whose words are kept
K1, B = 1.2, 0.75  # of BM25, as tantivy has them
FIELDS = (WORDS, TITLE)
Frequency = Callable[[str, str], int]  # of a stem in a field: how many passages hold it


class Counts(NamedTuple):
    """What is known of a query's words, in one index or, added up, in several.

    passages     that can be found by their words
    indexed      passages that the frequencies and tokens are of: those that are gone and whose words are still on disk, too
    tokens       of each field, all passages together
    frequencies  of each field, in how many passages a stem is
    further      for each beginning and each word that others are near to, in their order, how many passages hold such words
    """

    passages: int
    indexed: int
    tokens: Mapping[str, int]
    frequencies: Mapping[str, Mapping[str, int]]
    further: tuple[int, ...]

    def frequency(self, field: str, stem: str) -> int:
        """In how many passages a stem is."""
        return self.frequencies[field].get(stem, 0)

    def mean_length(self, field: str) -> float:
        """The mean number of a field's words in a passage."""
        return self.tokens[field] / self.indexed if self.indexed else 0.0


def added(counts: Sequence[Counts]) -> Counts:
    """The counts of one query's words in all of several indices."""
    frequencies = {field: Counter[str]() for field in FIELDS}
    for one in counts:
        for field in FIELDS:
            frequencies[field].update(one.frequencies[field])
    return Counts(
        passages=sum(one.passages for one in counts),
        indexed=sum(one.indexed for one in counts),
        tokens={field: sum(one.tokens[field] for one in counts) for field in FIELDS},
        frequencies=frequencies,
        further=tuple(map(sum, zip(*(one.further for one in counts), strict=True))),
    )


@lru_cache(maxsize=MOST_QUERIES)
def read(query: str, language: str, *, syntax: bool) -> WordQuery:
    """A query's words, and what stands beside them. Kept: they are asked for hits, for what they weigh, and again for the next
    page."""
    asked = read_query(query, syntax=syntax)
    return asked._replace(asked=(*asked.asked, *(Asked((word,)) for word in further_words(asked.meaning, language))))


def wanted(query: WordQuery) -> list[Asked]:
    """What of a query adds to a score."""
    return [one for one in query.asked if one.sign != "-"]


def telling(asked: Sequence[Asked], language: str, frequency: Frequency) -> "Counter[str]":
    """The stems of words, and how often each is asked for; of function words only where there is nothing else."""
    stems = all_stems(asked, language)
    if len(stems) <= MOST_TERMS:
        return stems
    known = [stem for stem in stems if frequency(WORDS, stem)]
    return Counter({stem: stems[stem] for stem in known[:MOST_TERMS]})


def all_stems(asked: Sequence[Asked], language: str) -> "Counter[str]":
    """As `telling`, however many there are."""
    counts = Counter(word for one in asked for word in one.terms)
    idle = function_words(language)
    told = {word: count for word, count in counts.items() if word not in idle}
    if not told and not further(asked):
        told = counts
    stems: Counter[str] = Counter()
    for word, count in told.items():
        for stem in stems_of([word], language):
            stems[stem] += count
    return stems


def weight(query: WordQuery, language: str, frequency: Frequency, passages: int) -> float:
    """The BM25 of a passage of average length that holds each of the query's words once: the sum of their IDF."""
    stems = telling(wanted(query), language, frequency)
    return sum(count * idf(frequency(WORDS, stem), passages) for stem, count in stems.items())


def further(asked: Sequence[Asked]) -> list[Asked]:
    """Beginnings, and words that others are near to."""
    return [one for one in asked if one.prefix or one.near][:MOST_BEGINNINGS]


def idf(frequency: int, passages: int) -> float:
    """What a word that is in so many of the passages is worth."""
    return log(1 + (passages - frequency + 0.5) / (frequency + 0.5))


def stems_of(words: Sequence[str], language: str) -> list[str]:
    """The stems of folded words, in their order."""
    return analyzer(language).analyze(" ".join(words))
