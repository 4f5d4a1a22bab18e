"""Finding passages by their words: BM25, with what belongs together preferred in sequence."""

from collections import Counter
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ragvec.index.words.engine import opened, readable
from ragvec.index.words.files import ID, WORDS, WordsRecord, schema
from ragvec.index.words.language import analyzer, function_words
from ragvec.index.words.query import words_asked

if TYPE_CHECKING:
    import tantivy

Ranking = list[tuple[int, float]]  # (passage id, score), best first
FEW = 500  # allowed passages that are looked up one by one: more of them cost more than passing over those that are not
FIRST_LOOK = 1000  # hits looked at, at least, to find those that are allowed
MOST_BEGINNINGS = 128  # words that a beginning stands for: the most frequent
MOST_TERMS = 1000  # of a query
SEQUENCE_WEIGHT = 0.25  # of words that stand in the sequence asked for, beside the words themselves


class Words:
    """The words of one commit, open for searching by any number of threads."""

    def __init__(self, folder: Path, record: WordsRecord, language: str, last: "Words | None" = None) -> None:
        """last: those of an earlier commit, whose files need not be checked again.

        Raises FileNotFoundError if a file was removed since the record was read, Damaged for one that is not as written.
        """
        self.record = record
        self.language = language
        self._schema = schema()
        self._searcher = opened(folder, record, {} if last is None else last.record.files)

    def __len__(self) -> int:
        """How many passages can be found by their words."""
        return self._searcher.num_docs

    def search(self, query: str, k: int, *, allowed: np.ndarray | None = None) -> Ranking:
        """The k best (passage id, BM25 score), best first, equal scores by id; none if the query holds no words.

        allowed  (m,) int64, ascending: only these may be found; None = all
        """
        asked = self._query(query)
        if asked is None or not len(self) or (allowed is not None and not len(allowed)):
            return []
        if allowed is not None and len(allowed) <= FEW:
            return self._best(self._among(asked, allowed.tolist()), min(k, len(allowed)))
        if allowed is None:
            return self._best(asked, min(k, len(self)))
        return self._best_allowed(asked, k, allowed)

    def weight(self, query: str) -> float:
        """The BM25 of a passage of average length that holds each of the query's words once: the sum of their IDF."""
        asked, idle = words_asked(query), function_words(self.language)
        words = [word for one in asked for word in one.terms]
        telling = [word for word in words if word not in idle] or words
        frequencies = (self._searcher.doc_freq(WORDS, stem) for word in telling[:MOST_TERMS] for stem in self._stems([word]))
        return sum(self._idf(frequency) for frequency in frequencies)

    def _idf(self, frequency: int) -> float:
        return log(1 + (len(self) - frequency + 0.5) / (frequency + 0.5))

    def _best(self, asked: "tantivy.Query", k: int) -> Ranking:
        """The k best; of equal scores at the end those of the lowest ids, so that one page follows from another."""
        look = k + max(16, k // 8)
        while True:
            found = self._found(asked, look)
            if len(found) < look or found[k - 1][1] > found[-1][1] or look >= len(self):
                return sorted(found, key=_by_score)[:k]
            look = min(4 * look, len(self))

    def _best_allowed(self, asked: "tantivy.Query", k: int, allowed: np.ndarray) -> Ranking:
        """The k best of many allowed ones: hits are passed over until enough are left."""
        total = len(self)
        look = min(total, max(FIRST_LOOK, int(1.5 * k * total / len(allowed))))
        while True:
            found = self._found(asked, look)
            ids = np.fromiter((passage for passage, _ in found), dtype=np.int64, count=len(found))
            kept = [hit for hit, there in zip(found, np.isin(ids, allowed, assume_unique=True).tolist(), strict=True) if there]
            ended = len(found) < look or look >= total
            if ended or (len(kept) > k and kept[k - 1][1] > found[-1][1]):
                return sorted(kept, key=_by_score)[:k]
            look = min(4 * look, total)

    def _found(self, asked: "tantivy.Query", look: int) -> Ranking:
        with readable():
            hits = self._searcher.search(asked, look, count=False).hits
            ids = self._searcher.fast_field_values(ID, [address for _, address in hits])
        return [(int(passage or 0), score) for passage, (score, _) in zip(ids, hits, strict=True)]

    def _among(self, asked: "tantivy.Query", ids: Sequence[int]) -> "tantivy.Query":
        import tantivy

        known = [number for number in ids if number >= 0]
        these = tantivy.Query.const_score_query(tantivy.Query.term_set_query(self._schema, ID, known), 0.0)
        return tantivy.Query.boolean_query([(tantivy.Occur.Must, these), (tantivy.Occur.Must, asked)])

    def _query(self, query: str) -> "tantivy.Query | None":
        """What adds to a score: every word as often as it is asked for, and names of code in sequence; None = no words.

        Function words are left out, unless the query has no others.
        """
        import tantivy

        asked = words_asked(query)
        counts = Counter(word for one in asked if not one.prefix for word in one.terms)
        beginnings = [one.words[0] for one in asked if one.prefix]
        idle = function_words(self.language)
        telling = {word: count for word, count in counts.items() if word not in idle}
        if not telling and not beginnings:
            telling = counts
        stems: Counter[str] = Counter()
        for word, count in telling.items():
            for stem in self._stems([word]):
                stems[stem] += count
        if len(stems) > MOST_TERMS:
            known = [stem for stem in stems if self._searcher.doc_freq(WORDS, stem)]
            stems = Counter({stem: stems[stem] for stem in known[:MOST_TERMS]})
        parts = [_times(self._term(stem), count) for stem, count in stems.items()]
        for one in [one for one in asked if one.code][:MOST_TERMS]:
            sequence = self._stems(one.words)
            if len(sequence) > 1:
                phrase = tantivy.Query.phrase_query(self._schema, WORDS, list(enumerate(sequence)))
                parts.append(_times(phrase, SEQUENCE_WEIGHT))
        parts += [self._begun(beginning) for beginning in beginnings[:MOST_TERMS]]
        return tantivy.Query.boolean_query([(tantivy.Occur.Should, part) for part in parts]) if parts else None

    def _begun(self, beginning: str) -> "tantivy.Query":
        """Any word that begins so; all of them weigh as one word would that is as frequent as they are together."""
        import tantivy

        words = self._searcher.terms_with_prefix(WORDS, beginning, None, MOST_BEGINNINGS)
        any_of_them = tantivy.Query.boolean_query([(tantivy.Occur.Should, self._term(word)) for word, _ in words])
        frequency = min(len(self), sum(count for _, count in words))
        return tantivy.Query.const_score_query(any_of_them, self._idf(frequency))

    def _term(self, word: str) -> "tantivy.Query":
        import tantivy

        return tantivy.Query.term_query(self._schema, WORDS, word, "freq")

    def _stems(self, words: Sequence[str]) -> list[str]:
        return analyzer(self.language).analyze(" ".join(words))


def _times(query: "tantivy.Query", count: float) -> "tantivy.Query":
    import tantivy

    return query if count == 1 else tantivy.Query.boost_query(query, count)


def _by_score(hit: tuple[int, float]) -> tuple[float, int]:
    return -hit[1], hit[0]
