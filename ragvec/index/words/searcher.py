"""Finding passages by their words: BM25, with what belongs together preferred in sequence."""

from collections.abc import Iterable, Sequence
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ragvec.index.words.files import ID, TITLE, WORDS, WordsRecord, schema
from ragvec.index.words.language import function_words
from ragvec.index.words.query import Asked, WordQuery, may_be_near, read_query, spellings
from ragvec.index.words.tantivy_index import opened, opened_together, readable
from ragvec.index.words.weights import further, idf, read, stems_of, telling, wanted, weight

if TYPE_CHECKING:
    import tantivy

Ranking = list[tuple[int, float]]  # (passage id, score), best first
STEP = 2**40  # from an index's ids to those of the next that is searched together with it
FEW = 500  # allowed passages that are looked up one by one: more of them cost more than passing over those that are not
MOST_TIES = 1000  # passages of one score that are ordered by id; if there are more, they come as they lie in the files
FIRST_LOOK = 1000  # hits looked at, at least, to find those that are allowed
MOST_SEQUENCES = 64  # of a query: words that are frequent take 0.2 s in a million passages
MOST_LIMITED = 16  # what queries asked for lately leave of the passages: kept, for the next page
SEQUENCE_WEIGHT = 0.25  # of words that stand in the sequence asked for, beside the words themselves
TITLE_WEIGHT = 0.25  # of a word in the title, beside that word in title and text


class Limited(NamedTuple):
    """Passages, (m,) int64 ascending, that are allowed or that are not: those that are fewer."""

    ids: np.ndarray
    allowed: bool


class Part(NamedTuple):
    """What of a query adds to a score, so many times: words in sequence, or any of those that a beginning or a near word means.

    stems  none where it means several words, which weigh as one that is as frequent as all of them
    """

    query: "tantivy.Query"
    field: str
    stems: tuple[str, ...]
    times: float


class Words:
    """The words of one commit, open for searching by any number of threads."""

    def __init__(
        self,
        folder: Path,
        record: WordsRecord,
        language: str,
        last: "Words | None" = None,
        *,
        beside: "Sequence[Words]" = (),
    ) -> None:
        """last: those of an earlier commit, whose files need not be checked again.

        beside  the words of other indices, which are searched together with these as if they were one index's: passages of
                the n-th of them, from 1 on, have n * `STEP` added to their ids. All these files were checked

        Raises FileNotFoundError if a file was removed since the record was read, Damaged for one that is not as written.
        """
        self.folder = folder
        self.record = record
        self.language = language
        self.tokens: dict[str, int] = {}  # of fields that were asked for; see `ragvec.index.words.weighed`
        self._schema = schema()
        self._limited: dict[tuple[Asked, ...], Limited] = {}
        places = [(folder, record), *((words.folder, words.record) for words in beside)]
        self.indexed = sum(segment.max_doc for _, one in places for segment in one.segments)  # those that are gone included
        self._starts = [STEP * number for number, (_, one) in enumerate(places) for _ in one.segments]
        if beside:
            self.searcher = opened_together(places)
        else:
            self.searcher = opened(folder, record, {} if last is None else last.record.files)

    def __len__(self) -> int:
        """How many passages can be found by their words."""
        return self.searcher.num_docs

    def search(self, query: str, k: int, *, allowed: np.ndarray | None = None, syntax: bool = False) -> Ranking:
        """The k best (passage id, BM25 score), best first, equal scores by id; none if the query holds no words.

        The first of many are those of few, also where more than MOST_TIES scores are equal, which are not in order of ids.
        allowed  (m,) int64, ascending: only these may be found; None = all
        syntax   the query is in the query language, see `ragvec.index.words.query`
        """
        asked = self.query(read(query, self.language, syntax=syntax))
        if asked is None or not len(self) or (allowed is not None and not len(allowed)):
            return []
        if allowed is not None and len(allowed) <= FEW:
            most = len(allowed) * len(self._starts)  # each index has a passage of that number
            return self._best(self.only(asked, allowed.tolist()), k, most + 1, allowed)
        if allowed is None:
            return self._best(asked, k, first_look(k))
        return self._best(asked, k, first_look(k, len(allowed) / len(self)), allowed)

    def weight(self, query: str, *, syntax: bool = False) -> float:
        """The BM25 of a passage of average length that holds each of the query's words once: the sum of their IDF."""
        return weight(read(query, self.language, syntax=syntax), self.language, self.frequency, len(self))

    def frequency(self, field: str, stem: str) -> int:
        """In how many passages a stem is."""
        return int(self.searcher.doc_freq(field, stem))

    def limited(self, query: str) -> Limited | None:
        """What a query in the query language leaves of the passages; None if it says nothing of what must or must not be."""
        import tantivy

        asked = read_query(query, syntax=True)
        limits = self._limits(asked)
        if not limits:
            return None
        if (known := self._limited.get(asked.limits)) is not None:
            return known
        everything = (tantivy.Occur.Must, tantivy.Query.all_query())
        within = tantivy.Query.boolean_query([everything, *limits])
        count = self.count(within)
        allowed = 2 * count <= len(self)
        if not allowed:
            within, count = tantivy.Query.boolean_query([everything, (tantivy.Occur.MustNot, within)]), len(self) - count
        with readable():
            hits = self.searcher.search(within, max(1, count), count=False, order_by_field=ID).hits
        ids = (number + self._starts[address.segment_ord] for number, address in hits)
        limited = Limited(np.sort(np.fromiter(ids, dtype=np.int64, count=len(hits))), allowed)
        if len(self._limited) >= MOST_LIMITED:
            self._limited.clear()
        self._limited[asked.limits] = limited
        return limited

    def _best(self, asked: "tantivy.Query", k: int, look: int, allowed: np.ndarray | None = None) -> Ranking:
        """The k best, or all; equal scores at the end are looked at as well, so that one page follows from another.

        look     hits to begin with; of those that are not allowed others take the place
        """
        while True:
            ids, scores, _ = self.hits(asked, min(look, len(self)))
            kept = np.arange(len(ids)) if allowed is None else np.flatnonzero(is_among(ids, allowed))
            worth = scores[kept]
            last = worth[k - 1] if len(kept) >= k else None
            if len(ids) < look or (last is not None and (scores[-1] < last or _ties(scores, last) > MOST_TIES)):
                by_id = np.where(_ties(scores, worth) > MOST_TIES, 0, ids[kept])
                first = np.lexsort((by_id, -worth))[:k]
                return list(zip(ids[kept][first].tolist(), worth[first].tolist(), strict=True))
            look *= 4

    def hits(self, asked: "tantivy.Query", look: int) -> "tuple[np.ndarray, np.ndarray, list[tantivy.DocAddress]]":
        """The best passages for a query of tantivy's, at most so many: ids (n,) int64, scores (n,), where their words lie."""
        with readable():
            hits = self.searcher.search(asked, look, count=False).hits
            addresses = [address for _, address in hits]
            ids = np.array([number or 0 for number in self.searcher.fast_field_values(ID, addresses)], dtype=np.int64)
        if self._starts and self._starts[-1]:
            ids += np.array([self._starts[address.segment_ord] for address in addresses], dtype=np.int64)
        return ids, np.array([score for score, _ in hits], dtype=np.float64), addresses

    def only(self, asked: "tantivy.Query", ids: Sequence[int]) -> "tantivy.Query":
        """What finds the same, but no passage that has none of these ids in any of the indices."""
        import tantivy

        known = [number % STEP for number in ids if number >= 0]
        these = tantivy.Query.const_score_query(tantivy.Query.term_set_query(self._schema, ID, known), 0.0)
        return tantivy.Query.boolean_query([(tantivy.Occur.Must, these), (tantivy.Occur.Must, asked)])

    def query(self, query: WordQuery) -> "tantivy.Query | None":
        """The query as tantivy is asked it; None if it has no words to find."""
        return self.joined(map(self._scored, self.parts(query)), query)

    def joined(self, scored: "Iterable[tantivy.Query]", query: WordQuery) -> "tantivy.Query | None":
        """What finds passages that hold any of what is scored, within what the query says must and must not be."""
        import tantivy

        occur = tantivy.Occur
        parts = [(occur.Should, part) for part in scored]
        limits = self._limits(query)
        if not parts or not limits:
            return tantivy.Query.boolean_query(parts) if parts else None
        if any(must == occur.Must for must, _ in limits):
            return tantivy.Query.boolean_query([*limits, *parts])
        return tantivy.Query.boolean_query([(occur.Must, tantivy.Query.boolean_query(parts)), *limits])

    def _limits(self, query: WordQuery) -> "list[tuple[tantivy.Occur, tantivy.Query]]":
        """What must, and what must not, be in a passage; it adds nothing to a score."""
        import tantivy

        signs = {"+": tantivy.Occur.Must, "-": tantivy.Occur.MustNot}
        return [(signs[one.sign], tantivy.Query.const_score_query(self._whole(one), 0.0)) for one in query.asked if one.sign]

    def parts(self, query: WordQuery) -> list[Part]:
        """What adds to a score: every word as often as it is asked for, more in a title, and words in sequence."""
        import tantivy

        asked = wanted(query)
        stems, idle = telling(asked, self.language, self.frequency), function_words(self.language)
        parts = [Part(self.term(WORDS, stem), WORDS, (stem,), count) for stem, count in stems.items()]
        titles = [stem for stem in stems if self.frequency(TITLE, stem)]
        parts += [Part(self.term(TITLE, stem), TITLE, (stem,), TITLE_WEIGHT * stems[stem]) for stem in titles]
        sequences = [one for one in asked if one.exact or (one.code and not idle.issuperset(one.words))]
        for one in sequences[:MOST_SEQUENCES]:
            sequence = self._stems(one.words)
            if len(sequence) > 1:
                phrase = tantivy.Query.phrase_query(self._schema, WORDS, list(enumerate(sequence)))
                parts.append(Part(phrase, WORDS, tuple(sequence), SEQUENCE_WEIGHT))
        return parts + [Part(self._whole(one), WORDS, (), 1) for one in further(asked)]

    def _scored(self, part: Part) -> "tantivy.Query":
        """A part with what it weighs in these words."""
        import tantivy

        if not part.stems:
            return tantivy.Query.const_score_query(part.query, idf(self.count(part.query), len(self)))
        return part.query if part.times == 1 else tantivy.Query.boost_query(part.query, part.times)

    def _whole(self, one: Asked) -> "tantivy.Query":
        """Passages that hold a word, its words in sequence, any word that begins so, or all of those that are near."""
        import tantivy

        field = TITLE if one.title else WORDS
        if one.prefix:
            return self._begun(field, one.words)
        if one.near:
            near = [(tantivy.Occur.Must, self._near(field, word)) for word in one.words]
            return near[0][1] if len(near) == 1 else tantivy.Query.boolean_query(near)
        stems = self._stems(one.words)
        if len(stems) > 1:
            return tantivy.Query.phrase_query(self._schema, field, list(enumerate(stems)))
        return self.term(field, stems[0]) if stems else tantivy.Query.empty_query()

    def _begun(self, field: str, words: Sequence[str]) -> "tantivy.Query":
        """Words of which the last is a beginning; what is indexed are stems, so the beginning's own is meant too.

        Not in sequence: that takes a second where the words are frequent.
        """
        import tantivy

        *before, beginning = words
        parts = [self._like(field, beginning, 0, prefix=True)]
        parts += [self.term(field, stem) for stem in self._stems([beginning]) if not stem.startswith(beginning)]
        begun = tantivy.Query.boolean_query([(tantivy.Occur.Should, part) for part in parts])
        if not before:
            return begun
        others = [self.term(field, stem) for stem in self._stems(before)]
        return tantivy.Query.boolean_query([(tantivy.Occur.Must, part) for part in (begun, *others)])

    def _near(self, field: str, word: str) -> "tantivy.Query":
        """A word, or one that differs by a letter, left out, put in or another, or by two that changed places.

        What is indexed are stems, and a wrong letter may be in what is cut off: so other spellings are stemmed as well.
        """
        import tantivy

        stems = {*self._stems([word])}
        if may_be_near(word):
            stems |= {stem for stem in self._stems([*spellings(word)]) if self.frequency(field, stem)}
        parts = [self.term(field, stem) for stem in sorted(stems)]
        parts += [self._like(field, stem, 1) for stem in self._stems([word]) if may_be_near(stem)]
        return tantivy.Query.boolean_query([(tantivy.Occur.Should, part) for part in parts])

    def _like(self, field: str, word: str, distance: int, *, prefix: bool = False) -> "tantivy.Query":
        import tantivy

        return tantivy.Query.fuzzy_term_query(self._schema, field, word, distance=distance, prefix=prefix)

    def term(self, field: str, word: str) -> "tantivy.Query":
        """What finds a word in a field."""
        import tantivy

        return tantivy.Query.term_query(self._schema, field, word, "freq")

    def count(self, query: "tantivy.Query") -> int:
        """How many passages a query finds."""
        with readable():
            counted: Any = self.searcher.search(query, 1)  # whose count its types don't know
            return int(counted.count)

    def _stems(self, words: Sequence[str]) -> list[str]:
        return stems_of(words, self.language)


def first_look(k: int, share: float = 1.0) -> int:
    """How many hits to look at first for the k best of those that a filter leaves, a share of all.

    Without one, as many again may score what the last of them does: in passages of one length that is often, and a second
    search costs more than a longer first one. With one, enough in 999 of 1,000 queries.
    """
    return 2 * k + 16 if share >= 1 else max(FIRST_LOOK, int((k + 3 * sqrt(k)) / share))


def is_among(ids: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Which ids, (n,), are among those that are allowed, (m,) ascending and not empty: (n,) bool."""
    places = np.minimum(np.searchsorted(allowed, ids), len(allowed) - 1)
    found: np.ndarray = allowed[places] == ids
    return found


def _ties(scores: np.ndarray, these: Any) -> Any:
    """How often each of these is among the scores, which descend."""
    ascending = scores[::-1]
    return np.searchsorted(ascending, these, "right") - np.searchsorted(ascending, these, "left")
