"""Words of one index weighed as those of all that are searched together, wherever the others lie.

tantivy weighs by what its own files hold. Here each part of a query is boosted to the worth that it has among all indices;
what is found is then scored anew, from how often a word stands in a passage and how long that is, until nothing that was not
looked at can be better. So the scores, and which passages are best, are those of one index over all of the documents.
"""

import re
from collections.abc import Iterator, Mapping
from heapq import heappush, heappushpop
from itertools import chain, compress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ragvec.index.words.language import function_words
from ragvec.index.words.query import WordQuery
from ragvec.index.words.searcher import FEW, MOST_TIES, Part, Ranking, Words, first_look, is_among
from ragvec.index.words.tantivy_index import readable
from ragvec.index.words.weights import FIELDS, K1, B, Counts, all_stems, idf, read, stems_of, telling, wanted

if TYPE_CHECKING:
    import tantivy

MOST_LOOKED = 10_000  # passages that are scored anew for one query
_ROUNDING = 1e-5  # of a score: tantivy computes in float32
_BOOST, _FREQUENCY, _LENGTH, _MEAN = "Boost x", "freq, ", "dl, ", "avgdl, "  # how what tantivy explains begins
_TOLD = re.compile(rf'"value":\s*([^\s,]+),\s*"description":\s*"({_BOOST}|{_FREQUENCY}|{_LENGTH}|{_MEAN})(\S*)')


def counts_of(words: Words, query: str, *, syntax: bool) -> Counts:
    """What these words know of a query's."""
    asked = read(query, words.language, syntax=syntax)
    stems = dict.fromkeys(all_stems(wanted(asked), words.language))
    sequences = (stems_of(one.words, words.language) for one in wanted(asked) if len(one.words) > 1)
    stems |= dict.fromkeys(chain.from_iterable(sequences))
    known = {field: {stem: words.frequency(field, stem) for stem in stems} for field in FIELDS}
    parts = [part for part in words.parts(asked) if not part.stems]
    return Counts(
        passages=len(words),
        indexed=words.indexed,
        tokens={field: _tokens(words, field, known[field]) for field in FIELDS},
        frequencies={field: {stem: count for stem, count in found.items() if count} for field, found in known.items()},
        further=tuple(words.count(part.query) for part in parts),
    )


def search_weighed(
    words: Words, query: str, k: int, counts: Counts, *, allowed: np.ndarray | None = None, syntax: bool = False
) -> Ranking:
    """The k best (passage id, BM25 score) for a query's words as all indices weigh them, best first, equal scores by id.

    counts   of the query's words in all indices, these included
    allowed  (m,) int64, ascending: only these passage ids may be found; None = all
    """
    asked = read(query, words.language, syntax=syntax)
    weights = _Weights(words, asked, counts)
    whole = words.joined(weights.boosted(), asked)
    if whole is None or not len(words) or (allowed is not None and not len(allowed)):
        return []
    look = first_look(k)
    if allowed is not None:
        whole = words.only(whole, allowed.tolist()) if len(allowed) <= FEW else whole
        look = first_look(k, len(allowed) / len(words))
    return _best(words, whole, weights, k=k, look=look, allowed=allowed)


def _best(
    words: Words, whole: "tantivy.Query", weights: "_Weights", *, k: int, look: int, allowed: np.ndarray | None
) -> Ranking:
    """Explanations are dear: what tantivy finds is explained best first, until nothing that is left can be among the k."""
    scored: dict[int, float] = {}
    worths: list[float] = []  # the k highest scores, as a heap

    def best() -> Ranking:
        return sorted(scored.items(), key=lambda hit: (-hit[1], hit[0]))[:k]

    while True:
        ids, scores, addresses = words.hits(whole, min(look, len(words)))
        kept = np.ones(len(ids), bool) if allowed is None else is_among(ids, allowed)
        with readable():
            hits = zip(ids[kept].tolist(), scores[kept].tolist(), compress(addresses, kept), strict=True)
            for number, score, address in hits:
                if len(worths) == k and worths[0] > weights.bound(score) * (1 + _ROUNDING):
                    return best()
                if number not in scored:
                    scored[number] = weights.score(whole.explain(words.searcher, address).to_json())
                    (heappush if len(worths) < k else heappushpop)(worths, scored[number])
        if len(ids) < look or len(scored) >= MOST_LOOKED:
            return best()
        if len(worths) == k:
            least = float(scores[-1])
            if worths[0] > weights.bound(least) * (1 + _ROUNDING) or int((scores == least).sum()) > MOST_TIES:
                return best()
        look *= 4


class _Weighed(NamedTuple):
    """A part of a query. worth: its most in a score; boost: what makes tantivy's score of it that, and tells it from others."""

    part: Part
    worth: float
    boost: float


class _Weights:
    """What the parts of a query are worth in all indices together."""

    def __init__(self, words: Words, query: WordQuery, counts: Counts) -> None:
        self._means = {field: counts.mean_length(field) or 1.0 for field in FIELDS}
        parts = words.parts(query)
        stems = telling(wanted(query), words.language, counts.frequency)
        counted = iter(counts.further)
        self._parts: dict[float, _Weighed] = {}
        for part in parts:
            if not part.stems:
                worth = idf(next(counted, 0), counts.passages)
                self._add(part, worth, worth)
            elif len(part.stems) > 1 or part.stems[0] in stems:
                here = sum(idf(words.frequency(part.field, stem), words.indexed) for stem in part.stems)
                there = sum(idf(counts.frequency(part.field, stem), counts.indexed) for stem in part.stems)
                self._add(part, part.times * (K1 + 1) * there, part.times * there / here)
        lengths = {field: _tokens(words, field, {}) / max(1, words.indexed) for field in FIELDS}
        self._ratio: float = min([1.0, *(lengths[field] / mean for field, mean in self._means.items() if lengths[field])])
        self._most: float = sum(one.worth for one in self._parts.values())

    def _add(self, part: Part, worth: float, boost: float) -> None:
        own = np.float32(boost)
        while float(own) in self._parts:  # a part is known by its boost
            own = np.nextafter(own, np.float32(np.inf), dtype=np.float32)
        self._parts[float(own)] = _Weighed(part, worth, float(own))

    def boosted(self) -> "Iterator[tantivy.Query]":
        """The parts as tantivy is to weigh them."""
        import tantivy

        for one in self._parts.values():
            query = one.part.query if one.part.stems else tantivy.Query.const_score_query(one.part.query, 1.0)
            yield tantivy.Query.boost_query(query, one.boost)

    def score(self, explanation: str) -> float:
        """A passage's score in all indices together, from what tantivy explains of its own."""
        found: dict[float, dict[str, float]] = {}
        told: dict[str, float] = {}
        for value, beginning, rest in _TOLD.findall(explanation):
            if beginning == _BOOST:
                told = found.setdefault(float(np.float32(rest)), {})
            else:
                told[beginning] = float(value)
        worths = (self._worth(one, found[boost]) for boost, one in self._parts.items() if boost in found)
        return float(np.float32(sum(worths)))

    def _worth(self, weighed: _Weighed, told: Mapping[str, float]) -> float:
        """What a part adds to the score of a passage that holds it."""
        part, worth, _ = weighed
        if not part.stems:
            return worth
        frequency, length = told[_FREQUENCY], told[_LENGTH]
        return worth * frequency / (frequency + K1 * (1 - B + B * length / self._means[part.field]))

    def bound(self, score: float) -> float:
        """The highest score in all indices together of a passage that tantivy gives this or less.

        A word's share of its worth is tf / (tf + norm), where norm goes with a passage's length over the mean. Where that mean
        is longer in all indices than here, by 1 / r, a share of x becomes x / (r + (1 - r) x) at most; that is concave in x, so
        a whole score is greatest if all words have the same share.
        """
        share = min(1.0, score / self._most) if self._most else 0.0
        return self._most * share / (self._ratio + (1 - self._ratio) * share)


def _tokens(words: Words, field: str, known: Mapping[str, int]) -> int:
    """How many words all passages have in a field, those that are gone and still on disk too: their mean length, as tantivy
    tells it of any passage with a word there, times their number. To 24 bits."""
    if field not in words.tokens:
        words.tokens[field] = round(_mean_length(words, field, known) * words.indexed)
    return words.tokens[field]


def _mean_length(words: Words, field: str, known: Mapping[str, int]) -> float:
    with readable():
        idle = stems_of(sorted(function_words(words.language)), words.language)
        likely = chain((stem for stem, count in known.items() if count), idle)
        for stem in likely:
            if (told := _told_mean(words, field, stem)) is not None:
                return told
        for stem, _ in words.searcher.terms_with_prefix(field, "", limit=1):  # which reads all words there are
            return _told_mean(words, field, stem) or 0.0
    return 0.0


def _told_mean(words: Words, field: str, stem: str) -> float | None:
    if not words.frequency(field, stem):
        return None
    term = words.term(field, stem)
    hits = words.searcher.search(term, 1, count=False).hits
    if not hits:
        return None
    explained = term.explain(words.searcher, hits[0][1]).to_json()
    return next(float(value) for value, beginning, _ in _TOLD.findall(explained) if beginning == _MEAN)
