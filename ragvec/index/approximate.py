"""Approximate search: a FAISS index by its factory string, with the recall it was measured to have."""

import re
from pathlib import Path

import numpy as np

from ragvec.errors import RagvecError
from ragvec.index.exact import Candidates, faiss_selector, search_exact

RECALL_K = 10
RECALL_QUERIES = 200
RECALL_TARGET = 0.95
TRAINING_ROWS = 200_000
ADD_ROWS = 65_536
MIN_ROWS = 1_000
OVERSAMPLING = 4  # candidates taken per result wanted; the caller scores them again from the exact vectors
EXTRA_CANDIDATES = 32


def enough_rows(key: str, rows: int) -> bool:
    """Whether a segment is worth an index: below, exact search is faster, and a key's clusters can't be trained."""
    clusters = re.search(r"IVF(\d+)", key)
    return rows >= max(MIN_ROWS, int(clusters.group(1)) if clusters else 0)


def check_key(key: str, dimension: int) -> None:
    """Raises RagvecError if FAISS can't make an index of this key."""
    _make(key, dimension)


def build_faiss(key: str, vectors: np.ndarray, path: Path) -> tuple[str, float]:
    """Build an index over a segment's vectors, tune it, write it to `path`.

    vectors  (rows, d) float16
    returns  the search parameters (FAISS's ParameterSpace syntax, may be empty) and the recall@10 measured with them
    """
    import faiss

    index = _make(key, vectors.shape[1])
    try:
        index.train(_sample(vectors, TRAINING_ROWS).astype(np.float32))
        for start in range(0, len(vectors), ADD_ROWS):
            index.add(vectors[start : start + ADD_ROWS].astype(np.float32))
    except RuntimeError as error:
        raise RagvecError(f"FAISS can't build {key!r} over {len(vectors)} vectors: {_reason(error)}") from error
    parameters, recall = _tune(index, vectors)
    faiss.write_index(index, str(path))
    return parameters, recall


def read_faiss(path: Path, parameters: str):
    """Read an index and set its search parameters."""
    import faiss

    index = faiss.read_index(str(path))
    if parameters:
        faiss.ParameterSpace().set_index_parameters(index, parameters)
    return index


def search_faiss(index, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> Candidates:
    """Candidates for the k best rows, as many per query as FAISS gives; row -1 where it gives fewer.

    The scores are FAISS's own approximations.
    """
    import faiss

    wanted = min(max(OVERSAMPLING * k, k + EXTRA_CANDIDATES), index.ntotal)
    queries = np.ascontiguousarray(queries, np.float32)
    if allowed is None:
        return Candidates(*index.search(queries, wanted))
    parameters = _search_parameters(faiss.downcast_index(index), faiss_selector(allowed))
    if parameters is None:  # a kind that takes no selector: look at as many more as are not allowed
        return _masked(Candidates(*index.search(queries, index.ntotal)), allowed, wanted)
    return Candidates(*index.search(queries, wanted, params=parameters))


def _search_parameters(index, selector):
    """FAISS's parameter object for this kind of index, keeping what was set on the index; None if it takes no selector."""
    import faiss

    if isinstance(index, faiss.IndexPreTransform):
        inner = _search_parameters(faiss.downcast_index(index.index), selector)
        return inner and faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexIVF) and not isinstance(index, faiss.IndexIVFFastScan):
        return faiss.SearchParametersIVF(sel=selector, nprobe=index.nprobe)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(sel=selector, efSearch=index.hnsw.efSearch)
    if isinstance(index, (faiss.IndexFlat, faiss.IndexScalarQuantizer)):
        return faiss.SearchParameters(sel=selector)
    return None


def _masked(found: Candidates, allowed: np.ndarray, k: int) -> Candidates:
    good = (found.rows >= 0) & allowed[np.maximum(found.rows, 0)]
    order = np.argsort(~good, axis=1, kind="stable")[:, :k]
    rows = np.where(np.take_along_axis(good, order, 1), np.take_along_axis(found.rows, order, 1), -1)
    return Candidates(np.take_along_axis(found.scores, order, 1), rows)


def _tune(index, vectors: np.ndarray) -> tuple[str, float]:
    """Search ever more cells of an inverted file until the target recall is met; other kinds keep FAISS's defaults."""
    import faiss

    queries = _sample(vectors, RECALL_QUERIES).astype(np.float32)
    truth = search_exact(vectors, queries, RECALL_K + 1, None).rows
    try:
        cells = faiss.extract_index_ivf(index)
    except RuntimeError:
        return "", _recall(index, queries, truth)
    probes = 1
    while True:
        cells.nprobe = probes
        recall = _recall(index, queries, truth)
        if recall >= RECALL_TARGET or probes >= cells.nlist:
            return f"nprobe={probes}", recall
        probes = min(2 * probes, cells.nlist)


def _recall(index, queries: np.ndarray, truth: np.ndarray) -> float:
    """The share of the 10 true neighbours among the candidates; each query's best hit, the query itself, does not count."""
    found = search_faiss(index, queries, RECALL_K + 1, None).rows
    shares = [np.isin(true[1:], near).mean() for true, near in zip(truth, found, strict=True)]
    return round(float(np.mean(shares)), 4)


def _sample(vectors: np.ndarray, rows: int) -> np.ndarray:
    if len(vectors) <= rows:
        return np.asarray(vectors)
    chosen = np.random.default_rng(0).choice(len(vectors), rows, replace=False)
    return vectors[np.sort(chosen)]


def _make(key: str, dimension: int):
    import faiss

    try:
        return faiss.index_factory(dimension, key, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise RagvecError(f"--index-key {key!r} makes no FAISS index of {dimension} dimensions: {_reason(error)}") from error


def _reason(error: RuntimeError) -> str:
    return str(error).splitlines()[-1].split("failed: ")[-1].strip()
