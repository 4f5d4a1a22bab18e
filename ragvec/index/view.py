"""Reading: one commit of an index, seen whole, however many writers come and go meanwhile."""

import os
import sqlite3
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ragvec.errors import WrongInput
from ragvec.index import store
from ragvec.index.ann.exact import Allowed, Candidates, keep_best
from ragvec.index.connect import connect_to_read, readable_error, readable_errors
from ragvec.index.lexical import match_expression
from ragvec.index.segment import Segment
from ragvec.index.where import Filter, parse_where
from ragvec.records import Passage

KEPT_FILTERS = 16  # of one commit, at 8 bytes a match each


class SearchResult(NamedTuple):
    """The passages found for each query: scores (n, m) float32 and ids (n, m) int64, best first; id -1 fills up short rows."""

    scores: np.ndarray
    ids: np.ndarray


class Snapshot(NamedTuple):
    """The segments of one commit, and for each which rows live: (rows,) bool, or None where all do.

    passages  how many live
    filters   the ids that filters asked for lately have matched
    """

    generation: int
    segments: list[Segment]
    live: list[np.ndarray | None]
    passages: int
    filters: dict[str, np.ndarray]


class View:
    """An index as one commit left it. Made by `Index.reading()` and good for as long as that lasts."""

    def __init__(self, connection: sqlite3.Connection, snapshot: Snapshot, dimension: int) -> None:
        self.connection = connection
        self.snapshot = snapshot
        self.dimension = dimension
        self._allowed: np.ndarray | None = None  # what the connection was told last to find words in

    def search(self, vectors: np.ndarray, k: int, *, allowed: np.ndarray | None = None) -> SearchResult:
        """The k passages whose vectors have the highest inner product with each query vector.

        vectors  (n, dimension) float
        allowed  (m,) int64: only these passage ids may be found; None = all
        returns  scores from the exact vectors (float16 values, float32 products), best first; equal scores by id
        Raises RagvecError for k < 1, another dimension, or values that are not finite.
        """
        queries = self._checked(vectors, k)
        found = []
        for segment, live in zip(self.snapshot.segments, self.snapshot.live, strict=True):
            here = segment.allowed(live, allowed)
            if len(queries) and (here is None or here.count):
                found.append(_found_in(segment, queries, k, here))
        if not found:
            return SearchResult(np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64))
        scores, ids = found[0] if len(found) == 1 else map(np.hstack, zip(*found, strict=True))
        best = keep_best(Candidates(scores, ids), k)
        if best.rows.min(initial=0) < 0:
            filled = int((best.rows >= 0).sum(axis=1).max())
            best = Candidates(best.scores[:, :filled], best.rows[:, :filled])
        return SearchResult(*best)

    def search_lexical(self, query: str, k: int, *, allowed: np.ndarray | None = None) -> list[tuple[int, float]]:
        """The k best (passage id, BM25 score) for a query's words, best first; none if it holds no words."""
        _check_k(k)
        expression = match_expression(query)
        if not expression or (allowed is not None and not len(allowed)):
            return []
        if allowed is not None and allowed is not self._allowed:
            store.allow_rows(self.connection, allowed)
            self._allowed = allowed
        return store.search_lexical(self.connection, expression, k, limited=allowed is not None)

    def matching(self, where: str) -> np.ndarray:
        """The ids of the passages that meet a filter, such as `year >= 2020 and lang = "ko"`; (m,) int64, ascending.

        Raises RagvecError, with the column, for a syntax error and for a field that no passage has.
        """
        filters = self.snapshot.filters
        found = filters.get(where)
        if found is None:
            found = store.matching_ids(self.connection, self.check_where(where))
            if len(filters) >= KEPT_FILTERS:
                filters.clear()
            filters[where] = found
        return found

    def check_where(self, where: str) -> Filter:
        """The filter, parsed; raises as `matching` does."""
        return parse_where(where, store.read_fields(self.connection))

    def passages(self, ids: list[int]) -> list[Passage]:
        """The passages of these ids, in their order."""
        found = store.read_passages(self.connection, ids)
        return [found[number] for number in ids]

    def doc_ids(self, ids: list[int]) -> list[str]:
        """The documents that these passages belong to, in their order."""
        found = store.read_doc_ids(self.connection, ids)
        return [found[number] for number in ids]

    def vectors(self, ids: list[int]) -> np.ndarray:
        """The stored vectors of these passages, (n, dimension) float32, in their order."""
        numbers = np.array(ids, dtype=np.int64)
        vectors = np.empty((len(ids), self.dimension), dtype=np.float32)
        for segment in self.snapshot.segments:
            rows, here = segment.locate(numbers)
            vectors[here] = segment.vectors[rows[here]]
        return vectors

    def __len__(self) -> int:
        return self.snapshot.passages

    def _checked(self, vectors: np.ndarray, k: int) -> np.ndarray:
        _check_k(k)
        queries = np.ascontiguousarray(vectors, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise WrongInput(f"the index holds {self.dimension}-d vectors, the queries have shape {queries.shape}")
        if not np.isfinite(queries).all():
            raise WrongInput("a query vector holds NaN or infinity")
        return queries


class Connections:
    """Idle connections of one index, so that any thread may read; never carried over a fork."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._idle: list[sqlite3.Connection] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def take(self) -> sqlite3.Connection:
        """A connection that nobody else uses until it is given back."""
        with self._lock:
            if self._pid != os.getpid():
                self._idle, self._pid = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        with readable_errors(self.folder):
            return connect_to_read(self.folder)

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Keep a connection for the next reader."""
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        """Close every idle connection."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()


class Reading:
    """A connection for the length of a block, at whose end its transaction ends; SQLite's errors become one line.

    A class, because a function with @contextmanager takes 10 µs of a search's 300.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> sqlite3.Connection:
        self._connection = self._connections.take()
        return self._connection

    def __exit__(self, kind, error, trace) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._connections.give_back(self._connection)
        if isinstance(error, sqlite3.DatabaseError):
            raise readable_error(self._connections.folder, error) from error


def read_snapshot(connection: sqlite3.Connection, folder: Path, dimension: int, last: Snapshot | None) -> Snapshot:
    """The newest commit's segments; those that `last` has open are taken over.

    Raises FileNotFoundError if a segment was merged away between the two reads: begin again.
    """
    generation = store.read_generation(connection)
    if last is not None and last.generation == generation:
        return last
    opened = {segment.record.number: segment for segment in last.segments} if last else {}
    segments, live = _open_segments(connection, folder, dimension, opened)
    passages = sum(
        segment.record.rows if mask is None else int(mask.sum()) for segment, mask in zip(segments, live, strict=True)
    )
    return Snapshot(generation, segments, live, passages, filters={})


def _open_segments(connection, folder: Path, dimension: int, opened: dict) -> tuple[list[Segment], list[np.ndarray | None]]:
    dead = store.read_tombstones(connection)
    segments, live = [], []
    for record in store.read_segments(connection):
        segment = opened.get(record.number) or Segment(folder, record, dimension)
        rows = segment.rows_of(dead)
        mask = None
        if len(rows):
            mask = np.ones(record.rows, dtype=bool)
            mask[rows] = False
        segments.append(segment)
        live.append(mask)
    return segments, live


def _found_in(segment: Segment, queries: np.ndarray, k: int, allowed: Allowed | None) -> Candidates:
    """What a segment finds, by id."""
    scores, rows = segment.search(queries, k, allowed)
    ids = segment.ids[rows]
    if rows.min(initial=0) < 0:  # row -1 was taken for the last one
        missing = rows < 0
        scores[missing], ids[missing] = -np.inf, -1
    return Candidates(scores, ids)


def _check_k(k: int) -> None:
    if k < 1:
        raise WrongInput(f"k is {k}: ask for at least 1 result")
