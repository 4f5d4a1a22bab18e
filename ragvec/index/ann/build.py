"""Filling: a FAISS index, trained on a sample of a segment's vectors, that holds them all."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np

from ragvec.errors import WrongInput, last_line
from ragvec.index.ann.exact import single_blocks, to_singles
from ragvec.index.ann.gpu import build_cagra, cagra_degree, check_cagra, cluster_on_gpu, on_gpu
from ragvec.index.ann.threads import load_faiss
from ragvec.index.ann.tuning import cells_of

TRAINING_ROWS = 200_000  # for codes such as PQ's
CELL_TRAINING_ROWS = 50_000  # for an inverted file's
FEWEST_TRAINING_ROWS = 2_048  # for codes of 4 bits, which have few centres
POINTS_PER_CELL = 39  # to train an inverted file's cells on, FAISS's least; its usual 256 take six times as long for no recall
ITERATIONS = 4
POINTS_PER_CENTRE = 48  # to train a piece of a code of 4 bits on; 256, and 25 iterations, FAISS's usual, make them no better
CELL_EFFORT = 128  # efSearch of a graph that finds the nearest cells; less misses the very nearest too often


def check_key(key: str, dimension: int) -> None:
    """Raises RagvecError if FAISS can't make an index of this key."""
    if cagra_degree(key):
        check_cagra(key)
    else:
        _make(key, dimension)


def filled_index(key: str, vectors: np.ndarray):
    """A FAISS index of this key, trained, that holds the vectors (rows, d) float16."""
    try:
        if degree := cagra_degree(key):
            return build_cagra(degree, vectors)
        index = _make(key, vectors.shape[1])
        cells, rows = cells_of(index), TRAINING_ROWS
        if cells is not None:
            rows = max(_prepare(cells), cells.nlist * POINTS_PER_CELL)
        with nullcontext() if cells is None else _flat_cells(cells):
            filled = on_gpu(index) or index
            filled.train(_sample(vectors, rows))
            _speed_coding(index if cells is None else cells)
            for _, block in single_blocks(vectors):
                filled.add(block)
            return index if filled is index else load_faiss().index_gpu_to_cpu(filled)
    except RuntimeError as error:
        raise WrongInput(f"FAISS can't build {key!r} over {len(vectors)} vectors: {_reason(error)}") from error


def _prepare(cells) -> int:
    """Set how an inverted file is trained; returns how many rows its codes need for that."""
    faiss = load_faiss()
    cells.cp.niter, cells.cp.max_points_per_centroid = ITERATIONS, POINTS_PER_CELL
    cluster_on_gpu(cells)
    codes = faiss.downcast_index(cells)
    if not isinstance(codes, faiss.IndexIVFPQFastScan):
        return CELL_TRAINING_ROWS
    codes.pq.cp.niter, codes.pq.cp.max_points_per_centroid = ITERATIONS, POINTS_PER_CENTRE
    return FEWEST_TRAINING_ROWS


def _speed_coding(index) -> None:
    """Let product-quantised codes be found with centroids that lie value by value: 20 % less time."""
    codes = load_faiss().downcast_index(index)
    if hasattr(codes, "pq"):
        codes.pq.sync_transposed_centroids()


@contextmanager
def _flat_cells(cells) -> Iterator[None]:
    """Until the end the cells of an inverted file are compared one by one, by matrix products: a graph takes longer to fill."""
    faiss = load_faiss()
    graph = faiss.downcast_index(cells.quantizer)
    if not isinstance(graph, faiss.IndexHNSW):
        yield
        return
    flat, alone = faiss.IndexFlatIP(cells.d), cells.quantizer_trains_alone
    cells.quantizer, cells.own_fields, cells.quantizer_trains_alone = flat, False, 0
    try:
        yield
    finally:
        cells.quantizer, cells.own_fields, cells.quantizer_trains_alone = graph, True, alone
    graph.add(flat.reconstruct_n(0, flat.ntotal))
    graph.hnsw.efSearch = CELL_EFFORT


def _sample(vectors: np.ndarray, rows: int) -> np.ndarray:
    """Some of the rows, float32."""
    if len(vectors) > rows:
        chosen = np.random.default_rng(0).choice(len(vectors), rows, replace=False)
        vectors = vectors[np.sort(chosen)]
    return to_singles(vectors, np.empty(vectors.shape, np.float32))


def _make(key: str, dimension: int):
    faiss = load_faiss()
    try:
        return faiss.index_factory(dimension, key, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise WrongInput(f"--index-key {key!r} makes no FAISS index of {dimension} dimensions: {_reason(error)}") from error


def _reason(error: RuntimeError) -> str:
    """FAISS's own words, without the place in its source."""
    return last_line(error).rpartition("failed: ")[2]
