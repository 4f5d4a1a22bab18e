"""How hard an approximate index must look to reach a recall, measured against exact search on vectors of its own."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ragvec.index.ann.exact import search_exact
from ragvec.index.ann.threads import load_faiss

RECALL_K = 10
# Vectors that serve as queries: so many values in all, for exact search of them to be a like share of any build, within bounds.
SAMPLED_VALUES, FEWEST_QUERIES, MOST_QUERIES = 409_600, 200, 800
# candidates tried, for 10 results
POOLS = (20, 25, 30, 40, 50, 60, 80, 100, 120, 140, 160, 200, 240, 280, 320, 400, 480, 560, 640)
GRAPH_EFFORTS = (16, 32, 64, 128, 256, 512, 1024)
MOST_EFFORT = 2**20  # far above any that is ever chosen; FAISS makes room for as much as it is told
TABLE_BYTES = 2**28
CONFIDENCE = 1.645  # standard errors: so far may the recall of other queries lie below a sample's, in 1 of 20 cases
PATIENCE = 2  # numbers of cells in a row that are dearer, after which no more are tried
FAR = 0.02  # from the target: more than a few more cells are necessary
# What a search costs in nanoseconds on one core, measured with AVX512 and PQ's fast scan; only their proportions matter
ROW_NS, CODE_NS = 2, 0.033  # a row in the cells that are visited, and a byte of its code
CANDIDATE_NS, VALUE_NS = 280, 0.16  # a candidate, and a value of its exact vector, which may lie anywhere in the file
COUNTED = 100  # queries that tell how many rows lie in the cells visited: more than on average, for full cells are near to many


class Effort(NamedTuple):
    """How hard to look; written as text in index.sqlite, such as "nprobe=8 candidates=120".

    nprobe      inverted lists visited; 0 = the kind has none
    efSearch    a graph's effort; 0 = the kind has none
    candidates  for 10 results so many are scored again from their exact vectors
    """

    nprobe: int = 0
    efSearch: int = 0
    candidates: int = 40

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in zip(self._fields, self, strict=True) if value)

    @classmethod
    def parse(cls, text: str) -> "Effort":
        """The effort that `str` wrote. Raises ValueError for anything else."""
        effort = {name: int(value) for name, _, value in (word.partition("=") for word in text.split())}
        if unknown := effort.keys() - set(cls._fields):
            raise ValueError(f"no effort is called {min(unknown)!r}")
        if not all(0 < value <= MOST_EFFORT for value in effort.values()):
            raise ValueError(f"an effort is outside 1 … {MOST_EFFORT:,}")
        return cls(**effort)

    def pool(self, k: int) -> int:
        """How many candidates to take for k results: fewer a result the more there are."""
        return max(k, round(self.candidates * (k / RECALL_K) ** 0.75))


class Reached(NamedTuple):
    """A sample's recall@10, and what other queries' is at least, with a confidence of 95 %."""

    recall: float
    least: float


class _Trial(NamedTuple):
    """An effort, what a search with it costs in nanoseconds, and what it reaches."""

    cost: float
    effort: Effort
    reached: Reached


class Sample(NamedTuple):
    """Vectors of the index itself as queries (q, d) float32, and each one's 10 true neighbours, itself left out."""

    queries: np.ndarray
    truth: np.ndarray
    own: np.ndarray


def draw_sample(vectors: np.ndarray) -> Sample:
    """A sample of a segment's vectors (rows, d) float16, the same for the same rows."""
    rows = np.arange(len(vectors))
    count = min(max(SAMPLED_VALUES // vectors.shape[1], FEWEST_QUERIES), MOST_QUERIES)
    if len(vectors) > count:
        rows = np.sort(np.random.default_rng(0).choice(len(vectors), count, replace=False))
    queries = vectors[rows].astype(np.float32)
    found = search_exact(vectors, queries, RECALL_K + 1, None).rows
    return Sample(queries, _without(found, rows, RECALL_K), rows)


def tune(index, sample: Sample, target: float) -> tuple[Effort, Reached]:
    """The cheapest effort whose recall@10 is above the target with confidence, or the best there is; and what it reaches.

    index  a FAISS index over the segment's vectors, in their order
    """
    faiss = load_faiss()
    cells = cells_of(index)
    if cells is not None:
        return _tune_cells(index, cells, sample, target)
    graph = faiss.downcast_index(index)
    graph = faiss.downcast_index(graph.index) if isinstance(graph, faiss.IndexPreTransform) else graph
    if isinstance(graph, faiss.IndexHNSW):
        return _tune_graph(index, graph, sample, target)
    return _least_pool(recalls(index, sample), target, Effort())


def cells_of(index):
    """The inverted file in a FAISS index; None for a kind without."""
    try:
        return load_faiss().extract_index_ivf(index)
    except RuntimeError:
        return None


def in_blocks(search: Callable, queries: np.ndarray, k: int, probes: float) -> tuple[np.ndarray, np.ndarray]:
    """search(queries, k) for some queries (n, d) at a time: FAISS makes tables for all at once, and crashes beyond 2 GB.

    probes  how many inverted lists each query visits; a table a list is 4 bytes a dimension
    """
    rows = max(1, int(TABLE_BYTES / (4 * queries.shape[1] * max(1.0, probes))))
    if len(queries) <= rows:
        return search(queries, k)
    found = [search(queries[start : start + rows], k) for start in range(0, len(queries), rows)]
    scores, places = zip(*found, strict=True)
    return np.concatenate(scores), np.concatenate(places)


def recalls(index, sample: Sample, probes: int = 0, most: int = POOLS[-1]) -> dict[int, Reached]:
    """What is reached for each number of candidates up to `most`: the share of the 10 true neighbours that are among them."""
    most = min(most, index.ntotal - 1)
    pools = [pool for pool in POOLS if pool < most] + [most]
    _, found = in_blocks(index.search, sample.queries, most + 1, probes)
    hits = _without(found, sample.own, most)[:, None, :] == sample.truth[:, :, None]
    places = np.where(hits.any(axis=2), hits.argmax(axis=2), most)
    return {pool: _reached(places < pool) for pool in pools}


def _reached(found: np.ndarray) -> Reached:
    """found: (queries, 10) bool, which of each query's true neighbours are"""
    shares = found.mean(axis=1)
    recall = float(shares.mean())
    return Reached(recall, recall - CONFIDENCE * float(shares.std()) / math.sqrt(len(shares)))


def _tune_cells(index, cells, sample: Sample, target: float) -> tuple[Effort, Reached]:
    """The fewest cells that reach the target, or more of them if fewer candidates make that cheaper."""
    nearer, visited = survey(index, cells, sample)

    def cost(effort: Effort) -> float:
        codes = visited[effort.nprobe - 1] * (ROW_NS + cells.code_size * CODE_NS)
        return codes + effort.candidates * (CANDIDATE_NS + index.d * VALUE_NS)

    def measure(probes: int, most: int = POOLS[-1]) -> _Trial:
        cells.nprobe = min(probes, cells.nlist)
        effort, reached = _least_pool(recalls(index, sample, cells.nprobe, most), target, Effort(nprobe=cells.nprobe))
        return _Trial(cost(effort), effort, reached)

    fewest = 1
    while fewest < cells.nlist and _reached(nearer < fewest).least < target:  # with so few, no codes reach it
        fewest += 1
    best = measure(fewest)
    while best.reached.least < target and cells.nprobe < cells.nlist:
        best = measure(2 * cells.nprobe if target - best.reached.least > FAR else _more(cells.nprobe))
    probes, dearer = _more(best.effort.nprobe), 0
    while probes <= cells.nlist and dearer < PATIENCE and cost(Effort(nprobe=probes, candidates=POOLS[0])) < best.cost:
        one = measure(probes, most=best.effort.candidates)
        if one.reached.least >= target and one.cost < best.cost:
            best, dearer = one, 0
        else:
            dearer += 1
        probes = _more(probes)
    return best.effort, best.reached


def _more(probes: int) -> int:
    return probes + max(1, probes // 8)


def survey(index, cells, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """How many cells are nearer to a query than that of each of its true neighbours, (q, 10); the rows in a query's nearest
    1, 2, 3 … cells, on average, (cells,).
    """
    faiss = load_faiss()
    sizes = np.array([cells.invlists.list_size(cell) for cell in range(cells.nlist)])
    cell_of = np.empty(index.ntotal, np.int64)
    for cell, size in enumerate(sizes.tolist()):
        if size:
            cell_of[faiss.rev_swig_ptr(cells.invlists.get_ids(cell), size)] = cell
    queries, outer = sample.queries, faiss.downcast_index(index)
    for number in range(outer.chain.size() if isinstance(outer, faiss.IndexPreTransform) else 0):
        queries = outer.chain.at(number).apply(queries)
    scores = queries @ cells.quantizer.reconstruct_n(0, cells.nlist).T
    reached = np.take_along_axis(scores, cell_of[sample.truth], 1)
    nearer = np.stack([(scores > column[:, None]).sum(axis=1) for column in reached.T], axis=1)
    return nearer, sizes[np.argsort(-scores[:COUNTED], axis=1)].cumsum(axis=1).mean(axis=0)


def _tune_graph(index, graph, sample: Sample, target: float) -> tuple[Effort, Reached]:
    for effort in GRAPH_EFFORTS:
        graph.hnsw.efSearch = effort
        found, reached = _least_pool(recalls(index, sample), target, Effort(efSearch=effort))
        if reached.least >= target:
            break
    return found, reached


def _least_pool(measured: dict[int, Reached], target: float, effort: Effort) -> tuple[Effort, Reached]:
    pool = next((pool for pool, reached in measured.items() if reached.least >= target), max(measured))
    return effort._replace(candidates=pool), measured[pool]


def _without(found: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """The first k of each row that are not the query itself; -1 fills up."""
    order = np.argsort(found == own[:, None], axis=1, kind="stable")
    return np.take_along_axis(found, order, 1)[:, :k]
