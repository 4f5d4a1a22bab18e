"""Exact search by inner product over float16 vectors that stay on disk, mapped."""

from collections.abc import Iterator
from functools import cached_property, partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from ragvec.index.ann.threads import faiss_is_loaded, in_parallel, load_faiss, search_threads

PART_ROWS = 8192  # at least, for each thread that shares in one query
BLOCK_VALUES = 2**23  # of the vectors compared or added at a time: small enough for memory to be used again
# From so many on, products of matrices are faster than FAISS's scalar quantiser, which converts each row anew for each query:
# 2 cores, 100,000 x 1,024: 4 queries 114 and 56 ms, 16 112 and 231, 32 124 and 465; where all fits the cache, from 30 on.
MANY_QUERIES = 16
FEW_VALUES = 4_000_000  # a process' first search of so few may be its only one, and would wait longer for FAISS to load
_small_searches = count()


class SearchResult(NamedTuple):
    """What is found for each query, best first: scores (n, m) float32 and ids (n, m) int64; id -1 fills up short rows.

    Inside a segment an id is the number of a row, as in FAISS; in an index it is that of a passage.
    """

    scores: np.ndarray
    ids: np.ndarray


class RowFilter:
    """The rows of a segment that may be found: those that live and, where a query has a filter, meet it."""

    def __init__(self, mask: np.ndarray) -> None:
        """mask: (rows,) bool"""
        self.mask = mask
        self.count = int(np.count_nonzero(mask))

    @cached_property
    def rows(self) -> np.ndarray:
        """The rows themselves, ascending."""
        return np.flatnonzero(self.mask)

    @cached_property
    def selector(self) -> Any:
        """What FAISS takes for such a mask, a bit a row."""
        return load_faiss().IDSelectorBitmap(np.packbits(self.mask, bitorder="little"))


def search_exact(vectors: np.ndarray, queries: np.ndarray, k: int, allowed: RowFilter | None) -> SearchResult:
    """The k rows with the highest inner product for each query, of those allowed.

    vectors  (rows, d) float16
    queries  (n, d) float32
    allowed  None = all
    returns  scores and rows (n, min(k, allowed rows)), best first, equal scores by row
    """
    available = len(vectors) if allowed is None else allowed.count
    k = min(k, available)
    if k == 0:
        return SearchResult(np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64))
    if len(queries) >= MANY_QUERIES:
        return _search_blocks(vectors, queries, k, None if allowed is None else allowed.rows)
    if available * vectors.shape[1] <= FEW_VALUES and not faiss_is_loaded() and not next(_small_searches):
        return _search_alone(vectors, queries, k, allowed)
    return _search_mapped(vectors, queries, k, allowed)


def to_float32(vectors: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Vectors (n, d) float16 as float32, in the first n rows of the memory: fresh memory costs more than the conversion."""
    faiss = load_faiss()
    codec = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    converted: np.ndarray = codec.sa_decode(np.ascontiguousarray(vectors).view(np.uint8), memory[: len(vectors)])
    return converted


def float32_blocks(vectors: np.ndarray, rows: np.ndarray | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Vectors (n, d) float16 as float32, some at a time, all in the same memory: where they begin, and (m, d).

    rows  (k,) int64: only these, in their order; None = all
    """
    available = len(vectors) if rows is None else len(rows)
    size = min(available, max(1, BLOCK_VALUES // vectors.shape[1]))
    memory = np.empty((size, vectors.shape[1]), np.float32)
    for start in range(0, available, size):
        here = slice(start, start + size)
        yield start, to_float32(vectors[here] if rows is None else vectors[rows[here]], memory)


def _search_alone(vectors: np.ndarray, queries: np.ndarray, k: int, allowed: RowFilter | None) -> SearchResult:
    """By numpy alone."""
    rows = np.arange(len(vectors)) if allowed is None else allowed.rows
    scores = queries @ vectors[rows].astype(np.float32).T
    return keep_best(SearchResult(scores, np.broadcast_to(rows, scores.shape)), k)


def _search_blocks(vectors: np.ndarray, queries: np.ndarray, k: int, rows: np.ndarray | None) -> SearchResult:
    """By products of matrices, for many queries."""
    faiss = load_faiss()
    queries = np.ascontiguousarray(queries, np.float32)
    best = SearchResult(np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64))
    for start, block in float32_blocks(vectors, rows):
        scores, places = faiss.knn(queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        places = np.where(places >= 0, places + start, -1)  # -1: a score that is no number
        best = keep_best(SearchResult(np.hstack([best.scores, scores]), np.hstack([best.ids, places])), k)
    return best if rows is None else SearchResult(best.scores, np.where(best.ids >= 0, rows[best.ids], -1))


def _search_mapped(vectors: np.ndarray, queries: np.ndarray, k: int, allowed: RowFilter | None) -> SearchResult:
    """By FAISS, over the mapped file: its threads share out the queries or, if these are fewer, the rows."""
    parts = min(search_threads(), len(vectors) // PART_ROWS) if len(queries) < search_threads() else 1
    if parts <= 1:
        return keep_best(_search_part(vectors, queries, k, allowed), k)
    bounds = [len(vectors) * part // parts for part in range(parts + 1)]
    results = in_parallel(partial(_search_between, vectors, queries, k, allowed=allowed), bounds[:-1], bounds[1:])
    return keep_best(SearchResult(np.hstack([one.scores for one in results]), np.hstack([one.ids for one in results])), k)


def _search_between(
    vectors: np.ndarray, queries: np.ndarray, k: int, start: int, stop: int, *, allowed: RowFilter | None
) -> SearchResult:
    here = None if allowed is None else RowFilter(allowed.mask[start:stop])
    result = _search_part(vectors[start:stop], queries, min(k, stop - start), here)
    return SearchResult(result.scores, np.where(result.ids >= 0, result.ids + start, -1))


def _search_part(vectors: np.ndarray, queries: np.ndarray, k: int, allowed: RowFilter | None) -> SearchResult:
    index = mapped_index(vectors)
    parameters = load_faiss().SearchParameters(sel=None if allowed is None else allowed.selector)
    return SearchResult(*index.search(np.ascontiguousarray(queries, np.float32), k, params=parameters))


def mapped_index(vectors: np.ndarray) -> Any:
    """FAISS's float16 scalar quantiser over vectors (rows, d) float16 as they lie, mapped: nothing is copied.

    The vectors must outlive it.
    """
    faiss = load_faiss()
    rows, dimension = vectors.shape
    index = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True
    pointer = faiss.swig_ptr(np.asarray(vectors).view(np.uint8))
    codes = index.codes  # C++ callers lend it memory through create_view, which takes a pointer type that Python can't make
    codes.is_owned = False
    codes.view_data = codes.c_ptr = pointer
    codes.view_size = codes.c_size = vectors.nbytes
    index.ntotal = rows
    return index


def keep_best(result: SearchResult, k: int) -> SearchResult:
    """The k best columns of each row, best first, equal scores by id; -1 counts as worst."""
    scores, ids = result
    if scores.shape[1] > k:
        chosen = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        scores, ids = np.take_along_axis(scores, chosen, 1), np.take_along_axis(ids, chosen, 1)
    if (scores[:, 1:] < scores[:, :-1]).all():  # in order already, as one segment's rows mostly are
        return SearchResult(scores, ids)
    order = np.lexsort((ids, -scores), axis=1)
    return SearchResult(np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1))
