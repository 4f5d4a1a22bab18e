"""Finding passages by their words: BM25, with what belongs together preferred in sequence."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ragvec.index.words.engine import opened, readable
from ragvec.index.words.files import ID, TITLE, WORDS, WordsRecord, schema
from ragvec.index.words.language import analyzer, function_words
from ragvec.index.words.query import Clause, WordQuery

if TYPE_CHECKING:
    import tantivy

Ranking = list[tuple[int, float]]  # (passage id, score), best first
FEW = 500  # allowed passages that are looked up one by one: more of them cost more than passing over those that are not
FIRST_LOOK = 1000  # hits looked at, at least, to find those that are allowed
MOST_BEGINNINGS = 128  # words that a beginning stands for: the most frequent
MOST_TERMS = 1000  # of a query


class Words:
    """The words of one commit, open for searching by any number of threads."""

    def __init__(self, folder: Path, record: WordsRecord, language: str) -> None:
        """Raises FileNotFoundError if a file was removed since the record was read, Damaged for one that is not as written."""
        self.record = record
        self.language = language
        self._schema = schema()
        self._searcher = opened(folder, record)

    def __len__(self) -> int:
        """How many passages can be found by their words."""
        return self._searcher.num_docs

    def search(self, query: WordQuery, k: int, *, allowed: np.ndarray | None = None) -> Ranking:
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

    def among(self, query: WordQuery, ids: Sequence[int]) -> dict[int, float]:
        """The BM25 scores of those of these passages that the query finds."""
        asked = self._query(query)
        if asked is None or not ids:
            return {}
        return dict(self._found(self._among(asked, ids), len(ids)))

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

    def _query(self, query: WordQuery) -> "tantivy.Query | None":
        """The query as tantivy is asked it; None if it has no words to find."""
        import tantivy

        wanted = [clause for clause in query.clauses if clause.sign != "-"]
        parts = self._should(wanted)
        if not parts:
            return None
        occur = tantivy.Occur
        limits = [
            (occur.Must if clause.sign == "+" else occur.MustNot, self._whole(clause))
            for clause in query.clauses
            if clause.sign
        ]
        should = tantivy.Query.boolean_query([(occur.Should, part) for part in parts])
        return tantivy.Query.boolean_query([(occur.Must, should), *limits]) if limits else should

    def _should(self, clauses: Sequence[Clause]) -> "list[tantivy.Query]":
        """What adds to a score: every word as often as it is asked for, and words that belong together in sequence.

        Function words are left out, unless the query has no others.
        """
        import tantivy

        counts = Counter((clause.title, word) for clause in clauses if not clause.prefix for word in clause.terms)
        idle = function_words(self.language)
        telling = {key: count for key, count in counts.items() if key[1] not in idle}
        sequences = [clause for clause in clauses if (clause.exact or clause.code) and len(clause.words) > 1]
        beginnings = [clause for clause in clauses if clause.prefix]
        if not telling and not beginnings:
            telling = counts
        stems: Counter[tuple[bool, str]] = Counter()
        for (title, word), count in list(telling.items())[:MOST_TERMS]:
            for stem in self._stems([word]):
                stems[title, stem] += count
        parts = [
            _times(tantivy.Query.term_query(self._schema, TITLE if title else WORDS, stem, "freq"), count)
            for (title, stem), count in stems.items()
        ]
        return parts + [self._whole(clause) for clause in (sequences + beginnings)[:MOST_TERMS]]

    def _whole(self, clause: Clause) -> "tantivy.Query":
        """A clause's words in sequence, or, for a beginning, any word that begins so after them."""
        import tantivy

        field = TITLE if clause.title else WORDS
        if not clause.prefix:
            stems = self._stems(clause.words)
            if len(stems) > 1:
                return tantivy.Query.phrase_query(self._schema, field, list(enumerate(stems)))
            return tantivy.Query.term_query(self._schema, field, stems[0] if stems else "", "freq")
        begun = self._searcher.terms_with_prefix(field, clause.words[-1], None, MOST_BEGINNINGS)
        words = [tantivy.Query.term_query(self._schema, field, word, "freq") for word, _ in begun]
        return tantivy.Query.boolean_query([(tantivy.Occur.Should, word) for word in words])

    def _stems(self, words: Sequence[str]) -> list[str]:
        return analyzer(self.language).analyze(" ".join(words))


def _times(query: "tantivy.Query", count: int) -> "tantivy.Query":
    import tantivy

    return query if count == 1 else tantivy.Query.boost_query(query, float(count))


def _by_score(hit: tuple[int, float]) -> tuple[float, int]:
    return -hit[1], hit[0]
