"""Reading: one commit of an index, seen whole, however many writers come and go meanwhile."""

import sqlite3
from collections.abc import Sequence
from copy import copy
from pathlib import Path

import numpy as np

from ragvec.errors import Damaged, WrongInput
from ragvec.index import store
from ragvec.index.ann.exact import RowFilter, SearchResult, keep_best
from ragvec.index.layout import WORDS_NAME
from ragvec.index.segment import Segment
from ragvec.index.where import Sql, parse_where
from ragvec.index.words import DEFAULT_LANGUAGE, Limited, Ranking, Words
from ragvec.records import Passage

KEPT_FILTERS = 16  # of one commit, at 8 bytes a match each


class View:
    """An index as one commit left it. Made by `Index.reading()` and good for as long as that lasts.

    segments  that the commit is made of; live: for each which rows live, (rows,) bool, or None where all do
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        generation: int,
        segments: list[Segment],
        live: list[np.ndarray | None],
        dimension: int,
        words: Words,
    ) -> None:
        self.connection = connection
        self.generation = generation
        self.segments = segments
        self.live = live
        self.dimension = dimension
        self.words = words
        counts = (
            segment.record.rows if mask is None else int(np.count_nonzero(mask))
            for segment, mask in zip(segments, live, strict=True)
        )
        self._passages = sum(counts)
        self._filters: dict[str, np.ndarray] = {}  # ids that filters asked for lately have matched; of all views of the commit

    def through(self, connection: sqlite3.Connection) -> "View":
        """A view of this commit that reads through another connection."""
        view = copy(self)
        view.connection = connection
        return view

    def search(self, vectors: np.ndarray, k: int, *, allowed: np.ndarray | None = None) -> SearchResult:
        """The k passages whose vectors have the highest inner product with each query vector.

        vectors  (n, dimension) float
        allowed  (m,) int64: only these passage ids may be found; None = all
        returns  scores from the exact vectors (float16 values, float32 products), best first; equal scores by id
        Raises RagvecError for k < 1, another dimension, or values that are not finite.
        """
        queries = self._checked(vectors, k)
        found = []
        for segment, live in zip(self.segments, self.live, strict=True):
            here = segment.allowed(live, allowed)
            if len(queries) and (here is None or here.count):
                found.append(_found_in(segment, queries, k, here))
        if not found:
            return SearchResult(np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64))
        scores, ids = found[0] if len(found) == 1 else map(np.hstack, zip(*found, strict=True))
        best = keep_best(SearchResult(scores, ids), k)
        if best.ids.min(initial=0) < 0:
            filled = int((best.ids >= 0).sum(axis=1).max())
            best = SearchResult(best.scores[:, :filled], best.ids[:, :filled])
        return best

    def search_lexical(self, query: str, k: int, *, allowed: np.ndarray | None = None, syntax: bool = False) -> Ranking:
        """The k best (passage id, BM25 score) for a query's words, best first; none if it holds no words.

        allowed  (m,) int64, ascending: only these passage ids may be found; None = all
        syntax   the query is in the query language, see `ragvec.index.words.query`
        """
        _check_k(k)
        return self.words.search(query, k, allowed=allowed, syntax=syntax)

    def within(self, limited: Limited, allowed: np.ndarray | None) -> np.ndarray:
        """The passage ids that a query's words leave of those allowed, (m,) int64, ascending; None = all."""
        if limited.allowed:
            return limited.ids if allowed is None else np.intersect1d(limited.ids, allowed, assume_unique=True)
        return np.setdiff1d(self._ids() if allowed is None else allowed, limited.ids, assume_unique=True)

    def matching(self, where: str) -> np.ndarray:
        """The ids of the passages that meet a filter, such as `year >= 2020 and lang = "ko"`; (m,) int64, ascending.

        Raises RagvecError, with the column, for a syntax error and for a field that no passage has.
        """
        found = self._filters.get(where)
        if found is None:
            found = store.matching_ids(self.connection, self.check_where(where))
            if len(self._filters) >= KEPT_FILTERS:
                self._filters.clear()
            self._filters[where] = found
        return found

    def check_where(self, where: str) -> Sql:
        """The filter as SQL; raises as `matching` does."""
        return parse_where(where, self.fields())

    def passages(self, ids: Sequence[int]) -> list[Passage]:
        """The passages of these ids, in their order."""
        found = store.read_passages(self.connection, ids)
        return [found[number] for number in ids]

    def document(self, doc_id: str) -> list[Passage]:
        """A document's passages in their order; none if there is no such document."""
        return self.passages(store.ids_of(self.connection, doc_id))

    def listing(self) -> list[tuple[int, str]]:
        """Every passage's id, ascending, and the document it belongs to."""
        return list(store.read_listing(self.connection))

    def fields(self) -> list[str]:
        """The names of the metadata fields that a filter may use."""
        return store.read_fields(self.connection)

    def doc_ids(self, ids: Sequence[int]) -> list[str]:
        """The documents that these passages belong to, in their order."""
        found = store.read_doc_ids(self.connection, ids)
        return [found[number] for number in ids]

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """The stored vectors of these passages, (n, dimension) float32, in their order."""
        numbers = np.array(ids, dtype=np.int64)
        vectors = np.empty((len(ids), self.dimension), dtype=np.float32)
        for segment in self.segments:
            rows, here = segment.locate(numbers)
            vectors[here] = segment.vectors[rows[here]]
        return vectors

    def __len__(self) -> int:
        """The number of passages."""
        return self._passages

    def _ids(self) -> np.ndarray:
        live = zip(self.segments, self.live, strict=True)
        parts = [np.asarray(segment.ids) if mask is None else segment.ids[mask] for segment, mask in live]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)

    def _checked(self, vectors: np.ndarray, k: int) -> np.ndarray:
        _check_k(k)
        queries = np.ascontiguousarray(vectors, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise WrongInput(f"the index holds {self.dimension}-d vectors, the queries have shape {queries.shape}")
        if not np.isfinite(queries).all():
            raise WrongInput("a query vector holds NaN or infinity")
        return queries


def open_view(connection: sqlite3.Connection, folder: Path, dimension: int, last: View | None) -> View:
    """The newest commit, seen through this connection; segments that the `last` view has open are taken over.

    Raises FileNotFoundError if a segment was merged away between the two reads: begin again.
    """
    if not store.is_current(connection):
        raise Damaged(
            f"the index in {folder} was made by an older ragvec: bring it up to date with `ragvec compact -i {folder}`, "
            "which encodes nothing anew"
        )
    generation = store.read_generation(connection)
    if last is not None and last.generation == generation:
        return last.through(connection)
    opened = {segment.record.number: segment for segment in last.segments} if last else {}
    dead = store.read_tombstones(connection)
    records = store.read_segments(connection)
    segments = [opened.get(record.number) or Segment(folder, record, dimension) for record in records]
    live = [_live_rows(segment, dead) for segment in segments]
    words = _open_words(connection, folder, last)
    return View(connection, generation=generation, segments=segments, live=live, dimension=dimension, words=words)


def _open_words(connection: sqlite3.Connection, folder: Path, last: View | None) -> Words:
    record, language = store.read_words(connection), store.read_settings(connection).language or DEFAULT_LANGUAGE
    if last is not None and (last.words.record, last.words.language) == (record, language):
        return last.words
    return Words(folder / WORDS_NAME, record, language, None if last is None else last.words)


def _live_rows(segment: Segment, dead: np.ndarray) -> np.ndarray | None:
    rows = segment.rows_of(dead)
    if not len(rows):
        return None
    mask = np.ones(segment.record.rows, dtype=bool)
    mask[rows] = False
    return mask


def _found_in(segment: Segment, queries: np.ndarray, k: int, allowed: RowFilter | None) -> SearchResult:
    """What a segment finds, by id."""
    scores, rows = segment.search(queries, k, allowed)
    ids = segment.ids[rows]
    if rows.min(initial=0) < 0:  # row -1 was taken for the last one
        missing = rows < 0
        scores[missing], ids[missing] = -np.inf, -1
    return SearchResult(scores, ids)


def _check_k(k: int) -> None:
    if k < 1:
        raise WrongInput(f"k is {k}: ask for at least 1 result")
