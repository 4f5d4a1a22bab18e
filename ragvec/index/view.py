"""Reading: one commit of an index, seen whole, however many writers come and go meanwhile."""

import sqlite3
from collections.abc import Sequence
from copy import copy
from pathlib import Path

import numpy as np

from ragvec.arguments import array, whole, wholes
from ragvec.errors import Damaged, NotFound, WrongInput, WrongUsage
from ragvec.index import store
from ragvec.index.ann.exact import RowFilter, SearchResult, keep_best
from ragvec.index.conditions import Filter
from ragvec.index.kept import KeptFilters
from ragvec.index.layout import WORDS_NAME
from ragvec.index.segment import Segment, live_rows
from ragvec.index.where import parse_where
from ragvec.index.words import DEFAULT_LANGUAGE, Limited, Ranking, Words
from ragvec.records import FilterValues, Passage

BESIDE = 4  # passages looked at beside those asked for; times so many, where all of them score alike
ROUNDING = 1e-5  # of the best score: nearer ones may be in another order when they are compared otherwise


class View:
    """An index as one commit left it. Made by `Index.reading()` and good for as long as that lasts.

    segments  that the commit is made of; live: for each which rows live, (rows,) bool, or None where all do
    near      from which similarity on a passage is near a query, see ragvec.index.nearness; None = not known
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
        near: float | None,
    ) -> None:
        self.connection = connection
        self.generation = generation
        self.segments = segments
        self.live = live
        self.dimension = dimension
        self.words = words
        self.near = near
        self._passages: int | None = None
        self._filters = KeptFilters()  # of all views of the commit

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
        best = self._nearest(queries, k, allowed)
        if best.ids.min(initial=0) < 0:
            filled = int((best.ids >= 0).sum(axis=1).max())
            best = SearchResult(best.scores[:, :filled], best.ids[:, :filled])
        return best

    def _nearest(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> SearchResult:
        """The k best, with id -1 where there are fewer.

        More are looked at as long as they score like the last one: those of the lowest ids are among the k best, so that one
        page follows from another.
        """
        look = k + BESIDE
        best = self._candidates(queries, look, allowed)
        nearest = SearchResult(best.scores[:, :k], best.ids[:, :k])
        rows = np.arange(len(queries))
        while best.ids.shape[1] >= look:
            tied = (best.ids[:, -1] >= 0) & (best.scores[:, k - 1] - best.scores[:, -1] <= ROUNDING * np.abs(best.scores[:, 0]))
            if not tied.any():
                break
            rows, look = rows[tied], look * BESIDE
            best = self._candidates(queries[rows], look, allowed)
            nearest.scores[rows], nearest.ids[rows] = best.scores[:, :k], best.ids[:, :k]
        return nearest

    def _candidates(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> SearchResult:
        parts = []
        for segment, live in zip(self.segments, self.live, strict=True):
            here = segment.allowed(live, allowed)
            if len(queries) and (here is None or here.count):
                parts.append(_found_in(segment, queries, k, here))
        if not parts:
            return SearchResult(np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64))
        scores, ids = parts[0] if len(parts) == 1 else map(np.hstack, zip(*parts, strict=True))
        return keep_best(SearchResult(scores, ids), k)

    def search_lexical(self, query: str, k: int, *, allowed: np.ndarray | None = None, syntax: bool = False) -> Ranking:
        """The k best (passage id, BM25 score) for a query's words, best first; none if it holds no words.

        allowed  (m,) int64, ascending: only these passage ids may be found; None = all
        syntax   the query is in the query language, see `ragvec.index.words.query`
        """
        _check_k(k)
        return self.words.search(query, k, allowed=allowed, syntax=syntax)

    def limited(self, query: str) -> Limited | None:
        """What a query in the query language leaves of the passages; None if it says nothing of what must or must not be."""
        return self.words.limited(query)

    def within(self, limited: Limited, allowed: np.ndarray | None) -> np.ndarray:
        """The passage ids that a query's words leave of those allowed, (m,) int64, ascending; None = all."""
        if limited.allowed:
            return limited.ids if allowed is None else np.intersect1d(limited.ids, allowed, assume_unique=True)
        return np.setdiff1d(self.ids() if allowed is None else allowed, limited.ids, assume_unique=True)

    def words_weight(self, query: str, *, syntax: bool = False) -> float:
        """The BM25 of a passage of average length that holds each of the query's words once; 0 for a query without words."""
        return self.words.weight(query, syntax=syntax)

    def matching(self, where: str, values: FilterValues | None = None, *, also: Sequence[str] = ()) -> np.ndarray:
        """The ids of the passages that meet a filter, such as `year >= 2020 and lang in $langs`; (m,) int64, ascending.

        values  what each $name in it stands for, such as {"langs": ["ko", "en"]}
        also    fields that passages elsewhere have
        Raises RagvecError, with the column, for a syntax error, for a field that no passage has, for a $name without a value.
        """
        return self._filters.matching(
            where, values, lambda: store.matching_ids(self.connection, self.check_where(where, values, also=also)), also=also
        )

    def check_where(self, where: str, values: FilterValues | None = None, *, also: Sequence[str] = ()) -> Filter:
        """The filter, parsed; raises as `matching` does."""
        return parse_where(where, [*self.fields(), *also], values)

    def passages(self, ids: Sequence[int]) -> list[Passage]:
        """The passages of these ids, in their order."""
        passages = store.read_passages(self.connection, ids)
        return [passages[number] for number in ids]

    def document(self, doc_id: str) -> list[Passage]:
        """A document's passages in their order; none if there is no such document."""
        there = store.spelled(self.connection, doc_id)
        return store.read_documents(self.connection, [there]).get(there, [])

    def listing(self) -> list[tuple[int, str]]:
        """Every passage's id, ascending, and the document it belongs to."""
        return list(store.read_listing(self.connection))

    def fields(self) -> list[str]:
        """The names of the metadata fields that a filter may use."""
        return store.read_fields(self.connection)

    def known(self, ids: Sequence[int]) -> list[int]:
        """The ids that someone gives, checked. Raises WrongType for what is no id, NotFound for one that no passage has."""
        given = wholes("ids", ids)
        if not self.holds(given):
            missing = next(number for number in given if not self.holds([number]))
            raise NotFound(f"no passage has the id {missing}: `ids` are those that `search` finds")
        return given

    def holds(self, ids: Sequence[int]) -> bool:
        """Whether all of these are ids of passages."""
        return store.holds(self.connection, ids)

    def doc_ids(self, ids: Sequence[int]) -> list[str]:
        """The documents that these passages belong to, in their order."""
        doc_ids = store.read_doc_ids(self.connection, ids)
        return [doc_ids[number] for number in ids]

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """The stored vectors of these passages, (n, dimension) float32, in their order; zeros for those of empty texts."""
        numbers = np.array(ids, dtype=np.int64)
        vectors = np.zeros((len(ids), self.dimension), dtype=np.float32)
        for segment in self.segments:
            rows, here = segment.locate(numbers)
            vectors[here] = segment.vectors[rows[here]]
        return vectors

    def similarities(self, vector: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The inner products of a query's vector (dimension,) with the stored vectors of these passages (n,); (n,) float32.

        The same to the bit as `search` gives for them; 0 for empty texts, which have no vector.
        """
        products = np.zeros(len(ids), dtype=np.float32)
        for segment in self.segments:
            rows, here = segment.locate(ids)
            products[here] = segment.similarities(vector, rows[here])
        return products

    @property
    def generations(self) -> tuple[int, ...]:
        """How many commits there have been, of each index that is read: of this one."""
        return (self.generation,)

    def index_names(self, ids: Sequence[int]) -> list[str | None]:
        """In which index each of these passages is, where several are searched together: here it is this one."""
        return [None] * len(ids)

    def __len__(self) -> int:
        """The number of passages, empty ones too."""
        if self._passages is None:
            self._passages = store.count(self.connection)
        return self._passages

    def ids(self) -> np.ndarray:
        """The ids of all passages that have a vector, (n,) int64, ascending."""
        live = zip(self.segments, self.live, strict=True)
        parts = [np.asarray(segment.ids) if mask is None else segment.ids[mask] for segment, mask in live]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)

    def _checked(self, vectors: np.ndarray, k: int) -> np.ndarray:
        _check_k(k)
        queries = np.ascontiguousarray(array("vectors", vectors, dtype=np.float32))
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
    opened = {segment.record.number: segment for segment in last.segments} if last is not None else {}
    dead = store.read_tombstones(connection)
    records = store.read_segments(connection)
    segments = [opened.get(record.number) or Segment(folder, record, dimension) for record in records]
    live = [live_rows(segment, dead) for segment in segments]
    words = _open_words(connection, folder, last)
    near = store.read_near(connection).similarity
    return View(connection, generation=generation, segments=segments, live=live, dimension=dimension, words=words, near=near)


def _open_words(connection: sqlite3.Connection, folder: Path, last: View | None) -> Words:
    record, language = store.read_words(connection), store.read_settings(connection).language or DEFAULT_LANGUAGE
    if last is not None and (last.words.record, last.words.language) == (record, language):
        return last.words
    return Words(folder / WORDS_NAME, record, language, None if last is None else last.words)


def _found_in(segment: Segment, queries: np.ndarray, k: int, allowed: RowFilter | None) -> SearchResult:
    """What a segment finds, by id."""
    scores, rows = segment.search(queries, k, allowed)
    ids = segment.ids[rows]
    if rows.min(initial=0) < 0:  # row -1 was taken for the last one
        missing = rows < 0
        scores[missing], ids[missing] = -np.inf, -1
    return SearchResult(scores, ids)


def _check_k(k: int) -> None:
    if whole("k", k) < 1:
        raise WrongUsage(f"k is {k}: ask for at least 1 result")
