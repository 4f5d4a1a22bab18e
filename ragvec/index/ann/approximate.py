"""Approximate search: a FAISS index finds candidates, the exact vectors decide among them."""

import math
import time
from functools import cached_property, partial
from mmap import mmap
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ragvec.index.ann.build import filled_index, lists_of
from ragvec.index.ann.choice import AUTO_KEY, EXACT_KEY, enough_rows, plan_keys
from ragvec.index.ann.exact import RowFilter, SearchResult, mapped_index, search_exact
from ragvec.index.ann.gpu import MOST_RESULTS, TURN, on_gpu
from ragvec.index.ann.threads import load_faiss, one_thread
from ragvec.index.ann.tuning import RECALL_K, SearchParameters, draw_queries, in_blocks, tune

TIMED_QUERIES = 25
FEWEST_TIMED, CLEARLY = 2, 2  # after so many queries, when one way takes so many times as long, it is decided
FEW_VALUES = 2_000_000  # of the rows allowed: comparing them all takes about a millisecond
MOST_LOOKED = 8  # times the usual candidates, where a filter allows few: they may lie where codes tell them apart badly


def build_faiss(
    key: str, vectors: np.ndarray, path: Path, *, recall: float, max_memory: int | None = None, normalized: bool = True
) -> tuple[str, str, float | None]:
    """Build an index over a segment's vectors, tune it and write it to `path`; nothing is written where exact search is best.

    key         a FAISS factory string, or "auto" = the first of `plan_keys` that reaches the recall, if it is faster than exact
    vectors     (rows, d) float16
    max_memory  for "auto": bytes the index may take
    normalized  for "auto": whether the vectors have length 1
    returns     what the segment is searched with: a FAISS key or "exact", the search parameters as text, and the recall@10
                measured with them
    """
    if key == AUTO_KEY:
        keys = plan_keys(*vectors.shape, max_memory=max_memory, normalized=normalized)
    else:
        keys = [key] if enough_rows(key, len(vectors)) else [EXACT_KEY]
    if keys[0] == EXACT_KEY:
        return EXACT_KEY, "", None
    sample, lists = draw_queries(vectors), None
    for chosen in keys:
        if chosen == EXACT_KEY:
            break
        index = filled_index(chosen, vectors, lists)
        best = tune(index, sample, recall)
        if best.least >= recall or key != AUTO_KEY:
            load_faiss().write_index(index, str(path))
            with path.open("rb") as file:
                written = ApproximateIndex(file, str(best.parameters), vectors)
            if key != AUTO_KEY or _is_faster(written, sample.queries[:TIMED_QUERIES]):
                return chosen, str(best.parameters), round(best.recall, 4)
            path.unlink()  # vectors without clusters: nearly all must be looked at
            break
        lists = lists_of(index)
        del index
    return EXACT_KEY, "", None


def _is_faster(index: "ApproximateIndex", queries: np.ndarray) -> bool:
    """Whether single queries take less time than by exact search, in turns; by the least times, which are the quietest."""
    approximate = exact = math.inf
    for number in range(len(queries)):
        query = queries[number : number + 1]
        start = time.perf_counter()
        index.search(query, RECALL_K, None)
        middle = time.perf_counter()
        search_exact(index.vectors, query, RECALL_K, None)
        approximate, exact = min(approximate, middle - start), min(exact, time.perf_counter() - middle)
        if number + 1 >= FEWEST_TIMED and max(approximate, exact) > CLEARLY * min(approximate, exact):
            break
    return approximate < exact


class ApproximateIndex:
    """An index over a segment's vectors, open; its codes are in memory, the exact vectors stay mapped."""

    def __init__(self, file: BinaryIO | mmap, parameters: str, vectors: np.ndarray) -> None:
        """file: what FAISS wrote, and nobody changed; parameters: as `SearchParameters` are written.

        Raises RuntimeError if it is no index of these vectors.
        """
        faiss = load_faiss()
        file.seek(0)
        self.parameters = SearchParameters.parse(parameters)
        self.vectors = vectors
        self.codes = faiss.read_index(faiss.PyCallbackIOReader(file.read))
        held = self.codes.ntotal, self.codes.d, self.codes.metric_type
        if held != (*vectors.shape, faiss.METRIC_INNER_PRODUCT):
            raise RuntimeError(f"it holds {held[0]} vectors of {held[1]} dimensions, not {len(vectors)} of {vectors.shape[1]}")
        self._exact = mapped_index(vectors)
        self._refined = faiss.IndexRefine(self.codes, self._exact)
        self._gpu_codes = on_gpu(self.codes)
        self._gpu_refined = self._gpu_codes and faiss.IndexRefine(self._gpu_codes, self._exact)
        self._last: tuple[Any, Any] = (), ()  # (k, allowed) of the last search; its candidates and FAISS's parameters

    def search(self, queries: np.ndarray, k: int, allowed: RowFilter | None) -> SearchResult:
        """The best rows of each query, at least min(k, rows allowed) of them; scores from the exact vectors.

        queries  (n, d) float32
        """
        wanted = min(k, len(self.vectors) if allowed is None else allowed.count)
        share = 1.0 if allowed is None else allowed.count / len(self.vectors)
        if allowed is not None and (allowed.count * self.vectors.shape[1] <= FEW_VALUES or not self._selects):
            return self._exactly(queries, k, allowed)
        asked, kept = self._last  # at once: another thread may replace it
        if asked != (k, allowed):
            pool = min(round(self.parameters.pool(k) * min(1 / share, MOST_LOOKED)), len(self.vectors))
            inner = self._faiss_parameters(self.codes, share, allowed)
            kept = pool, load_faiss().IndexRefineSearchParameters(k_factor=pool / wanted, base_index_params=inner)
            self._last = (k, allowed), kept
        pool, parameters = kept
        queries, nprobe = np.ascontiguousarray(queries, np.float32), self.parameters.nprobe / share
        if self._gpu_refined is not None and allowed is None and max(pool, nprobe) <= MOST_RESULTS:
            with TURN:
                best = SearchResult(*self._gpu_refined.search(queries, wanted, params=parameters))
        else:
            best = SearchResult(*in_blocks(partial(self._refined.search, params=parameters), queries, wanted, nprobe))
        if best.ids[:, -1].min() >= 0:
            return best
        short = best.ids[:, -1] < 0
        whole = self._exactly(queries[short], wanted, allowed)  # the lists visited held too few
        best.scores[short], best.ids[short] = whole
        return best

    def _exactly(self, queries: np.ndarray, k: int, allowed: RowFilter | None) -> SearchResult:
        """Exact search; its rows' scores are computed as those of all others, so that they are the same to the bit."""
        best = search_exact(self.vectors, queries, k, allowed)
        for query, rows, scores in zip(queries, best.ids, best.scores, strict=True):
            scores[:] = self.similarities(query, rows)
        return best

    def similarities(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The inner products of a query (d,) with these rows' exact vectors; (n,) float32, -infinity for what is no number."""
        products = np.full(len(rows), -np.inf, dtype=np.float32)
        if len(rows):  # in one call: every one may let another thread of a server go first
            vectors = np.ascontiguousarray(self.vectors[rows])
            with one_thread():
                [scores], [places] = mapped_index(vectors).search(np.ascontiguousarray(query[None], np.float32), len(rows))
            products[places[places >= 0]] = scores[places >= 0]
        return products

    @cached_property
    def _selects(self) -> bool:
        """Whether this kind of index takes a selector."""
        every = RowFilter(np.ones(len(self.vectors), dtype=bool))
        try:
            self.codes.search(np.zeros((1, self.codes.d), np.float32), 1, params=self._faiss_parameters(self.codes, 1.0, every))
        except RuntimeError:
            return False
        return True

    def _faiss_parameters(self, index: Any, share: float, allowed: RowFilter | None) -> Any:
        """FAISS's parameter object for this kind of index.

        share  of the rows that are allowed: the fewer, the more lists hold as many
        """
        faiss = load_faiss()
        selector = None if allowed is None else allowed.selector
        index = faiss.downcast_index(index)
        if isinstance(index, faiss.IndexPreTransform):
            return faiss.SearchParametersPreTransform(index_params=self._faiss_parameters(index.index, share, allowed))
        if isinstance(index, faiss.IndexIVF):
            nprobe = min(index.nlist, round((self.parameters.nprobe or index.nprobe) / share))
            kind = faiss.IVFPQSearchParameters if isinstance(index, faiss.IndexIVFPQ) else faiss.SearchParametersIVF
            kind = faiss.IVFRaBitQSearchParameters if isinstance(index, faiss.IndexIVFRaBitQ) else kind
            return kind(nprobe=nprobe, sel=selector)
        if isinstance(index, faiss.IndexHNSW):
            return faiss.SearchParametersHNSW(efSearch=self.parameters.efSearch or index.hnsw.efSearch, sel=selector)
        return None if selector is None else faiss.SearchParameters(sel=selector)
