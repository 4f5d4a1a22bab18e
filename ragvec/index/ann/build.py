"""Filling: a FAISS index, trained on a sample of a segment's vectors, that holds them all."""

import logging
import re
from typing import Any, NamedTuple

import numpy as np

from ragvec.errors import WrongInput, WrongUsage, last_line
from ragvec.index.ann.exact import float32_blocks, to_float32
from ragvec.index.ann.gpu import build_cagra, cagra_degree, check_cagra, clustering_on_gpu, on_gpu
from ragvec.index.ann.threads import load_faiss
from ragvec.index.ann.tuning import ivf_of, list_numbers, transformed

_log = logging.getLogger("ragvec")
TRAINING_ROWS = 200_000  # for codes such as PQ's
IVF_TRAINING_ROWS = 50_000  # for an inverted file's
FEWEST_TRAINING_ROWS = 2_048  # for codes of 4 bits, which have few centroids
POINTS_PER_LIST = 39  # to train the centroids of lists on, FAISS's least; its usual 256 take six times as long for no recall
ITERATIONS = 4
POINTS_PER_CENTROID = 48  # to train a subquantizer of 4 bits on; 256, and 25 iterations, FAISS's usual, make it no better
_OF_SOURCE = re.compile(r"could not parse|'.*' failed")  # FAISS's words where they are of its source alone
_REMEDY = "give auto, exact, or a factory string of FAISS's for inner products, such as IVF256,SQ8 or HNSW32"
_TRAINED_BEFORE = 2  # FAISS's quantizer_trains_alone of lists that a graph finds: centroids are made before it is filled
COARSE_EF_SEARCH = 128  # of a graph that finds the nearest lists; less misses the very nearest too often


def check_key(key: str, dimension: int) -> None:
    """Raises RagvecError if FAISS can't make an index of this key."""
    if cagra_degree(key):
        check_cagra(key)
    else:
        _make(key, dimension)


class Lists(NamedTuple):
    """An inverted file's lists: their centroids (nlist, d) float32, and in which each vector lies (rows,) int32."""

    centroids: np.ndarray
    numbers: np.ndarray


def filled_index(key: str, vectors: np.ndarray, lists: Lists | None = None) -> Any:
    """A FAISS index of this key, trained, that holds the vectors (rows, d) float16.

    lists  of an index of other codes over the same vectors, where it has as many: taken over, which are most of its work
    """
    try:
        if degree := cagra_degree(key):
            return build_cagra(degree, vectors)
        index = _make(key, vectors.shape[1])
        ivf = ivf_of(index)
        return _filled(index, vectors, TRAINING_ROWS) if ivf is None else _filled_ivf(index, ivf, vectors, lists)
    except RuntimeError as error:
        raise WrongInput(f"FAISS can't build {key!r} over {len(vectors)} vectors: {_reason(error)}") from error


def lists_of(index: Any) -> Lists | None:
    """The lists of an index that is filled; None for a kind without."""
    ivf = ivf_of(index)
    if ivf is None:
        return None
    return Lists(ivf.quantizer.reconstruct_n(0, ivf.nlist), list_numbers(ivf))


def _filled_ivf(index: Any, ivf: Any, vectors: np.ndarray, lists: Lists | None) -> Any:
    """An inverted file, filled on the GPU where FAISS has its kind there. A graph of lists comes last: it is slow to fill."""
    rows, graph = max(_prepare(ivf), ivf.nlist * POINTS_PER_LIST), _take_graph(ivf)
    codes = load_faiss().downcast_index(ivf)
    with clustering_on_gpu(ivf) as resources:
        filled = _filled_on_gpu(index, vectors, rows=rows, resources=resources)
        if filled is None:
            if lists and len(lists.centroids) == ivf.nlist and isinstance(codes, load_faiss().IndexIVFPQFastScan):
                filled = _filled_lists(index, codes, vectors, rows=rows, lists=lists)
            else:
                filled = _filled(index, vectors, rows)
    if graph is not None:
        _give_graph(graph, ivf_of(filled))
    return filled


def _filled_on_gpu(index: Any, vectors: np.ndarray, *, rows: int, resources: Any) -> Any | None:
    """A copy of the index, filled on the GPU; None where there is none for it, or too little memory for these vectors."""
    held = on_gpu(index, resources)
    if held is None:
        return None
    try:
        return load_faiss().index_gpu_to_cpu(_filled(held, vectors, rows))
    except RuntimeError as error:
        _log.info("an index of %s vectors is filled on the CPU: %s", f"{len(vectors):,}", _reason(error))
        return None


def _filled(index: Any, vectors: np.ndarray, rows: int) -> Any:
    index.train(_sample(vectors, rows))
    _speed_coding(index)
    for _, block in float32_blocks(vectors):
        index.add(block)
    return index


def _filled_lists(index: Any, ivf: Any, vectors: np.ndarray, *, rows: int, lists: Lists) -> Any:
    """The same as `_filled`, to the byte, for lists that are known.

    FAISS puts vectors into lists that it is told for the slower kind of these codes alone, and makes the fast one of that.
    """
    faiss = load_faiss()
    ivf.quantizer.add(lists.centroids)  # which keeps training from looking for some
    index.train(_sample(vectors, rows))
    shape = ivf.d, ivf.nlist, ivf.pq.M, ivf.pq.nbits
    slow = faiss.IndexIVFPQ(ivf.quantizer, *shape, faiss.METRIC_INNER_PRODUCT)
    slow.own_fields, slow.by_residual, slow.pq, slow.is_trained = False, ivf.by_residual, ivf.pq, True
    slow.pq.sync_transposed_centroids()
    for start, block in float32_blocks(vectors):
        numbers = lists.numbers[start : start + len(block)].astype(np.int64)
        block = transformed(index, block)
        slow.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(numbers))
    fast = faiss.IndexIVFPQFastScan(slow)
    ivf.replace_invlists(fast.invlists, True)
    fast.own_invlists = False
    ivf.ntotal = index.ntotal = fast.ntotal
    return index


def _prepare(ivf: Any) -> int:
    """Set how an inverted file is trained; returns how many rows its codes need for that."""
    faiss = load_faiss()
    ivf.cp.niter, ivf.cp.max_points_per_centroid = ITERATIONS, POINTS_PER_LIST
    codes = faiss.downcast_index(ivf)
    if not isinstance(codes, faiss.IndexIVFPQFastScan):
        return IVF_TRAINING_ROWS
    codes.pq.cp.niter, codes.pq.cp.max_points_per_centroid = ITERATIONS, POINTS_PER_CENTROID
    return FEWEST_TRAINING_ROWS


def _speed_coding(index: Any) -> None:
    """Let product-quantised codes be found with centroids that lie value by value: 20 % less time."""
    faiss = load_faiss()
    codes = faiss.downcast_index(ivf_of(index) or index)
    if isinstance(getattr(codes, "pq", None), faiss.ProductQuantizer):
        codes.pq.sync_transposed_centroids()


def _take_graph(ivf: Any) -> Any | None:
    """The graph that finds the nearest lists, None = there is none; until it is given back, all centroids are compared."""
    faiss = load_faiss()
    graph = faiss.downcast_index(ivf.quantizer)
    if not isinstance(graph, faiss.IndexHNSW):
        return None
    flat = faiss.IndexFlatIP(ivf.d)
    ivf.quantizer, ivf.quantizer_trains_alone = flat, 0
    flat.this.disown()  # each is freed by who has it: the file this one, Python the graph
    graph.this.own(True)
    return graph


def _give_graph(graph: Any, ivf: Any) -> None:
    """Let a graph find the nearest lists of an inverted file that is filled; it is filled with their centroids first."""
    flat = load_faiss().downcast_index(ivf.quantizer)
    graph.add(flat.reconstruct_n(0, flat.ntotal))
    graph.hnsw.efSearch = COARSE_EF_SEARCH
    ivf.quantizer, ivf.quantizer_trains_alone = graph, _TRAINED_BEFORE
    graph.this.disown()
    flat.this.own(True)


def _sample(vectors: np.ndarray, rows: int) -> np.ndarray:
    """Some of the rows, float32."""
    if len(vectors) > rows:
        chosen = np.random.default_rng(0).choice(len(vectors), rows, replace=False)
        vectors = vectors[np.sort(chosen)]
    return to_float32(vectors, np.empty(vectors.shape, np.float32))


def _make(key: str, dimension: int) -> Any:
    faiss = load_faiss()
    try:
        return faiss.index_factory(dimension, key, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        said = _reason(error)
        why = "" if _OF_SOURCE.search(said) else f" ({said})"
        raise WrongUsage(f"`faiss_key` {key!r} makes no FAISS index of {dimension} dimensions{why}: {_REMEDY}") from error


def _reason(error: RuntimeError) -> str:
    """FAISS's own words, without the place in its source."""
    return last_line(error).rpartition("failed: ")[2]
