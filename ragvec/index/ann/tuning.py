"""What search parameters an approximate index needs to reach a recall, measured against exact search on its own vectors."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ragvec.index.ann.exact import search_exact
from ragvec.index.ann.threads import load_faiss

RECALL_K = 10
# Vectors that serve as queries: so many values in all, for exact search of them to be a like share of any build, within bounds.
SAMPLED_VALUES, FEWEST_QUERIES, MOST_QUERIES = 409_600, 200, 800
# candidates tried, for 10 results
POOLS = (20, 25, 30, 40, 50, 60, 80, 100, 120, 140, 160, 200, 240, 280, 320, 400, 480, 560, 640)
EF_SEARCHES = (16, 32, 64, 128, 256, 512, 1024)  # of a graph
MOST_OF_A_PARAMETER = 2**20  # far above any that is ever chosen; FAISS makes room for as much as it is told
TABLE_BYTES = 2**28
CONFIDENCE = 1.645  # standard errors: so far may the recall of other queries lie below a sample's, in 1 of 20 cases
PATIENCE = 2  # numbers of lists in a row that are dearer, after which no more are tried
FAR = 0.02  # from the target: more than a few more lists are necessary
# What a search costs in nanoseconds on one core, measured with AVX512 and PQ's fast scan; only their proportions matter
ROW_NS, CODE_NS = 2, 0.033  # a row in the lists that are visited, and a byte of its code
CANDIDATE_NS, VALUE_NS = 280, 0.16  # a candidate, and a value of its exact vector, which may lie anywhere in the file
COUNTED = 100  # queries that tell how many rows lie in the lists visited: more than on average, for long ones are near to many


class SearchParameters(NamedTuple):
    """What a search is told; written as text in index.sqlite, such as "nprobe=8 candidates=120".

    nprobe      inverted lists visited; 0 = the kind has none
    efSearch    nodes that a graph keeps in view; 0 = the kind has no graph
    candidates  for 10 results so many are scored again from their exact vectors
    """

    nprobe: int = 0
    efSearch: int = 0
    candidates: int = 40

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in zip(self._fields, self, strict=True) if value)

    @classmethod
    def parse(cls, text: str) -> "SearchParameters":
        """The parameters that `str` wrote. Raises ValueError for anything else."""
        parameters = {name: int(value) for name, _, value in (word.partition("=") for word in text.split())}
        if unknown := parameters.keys() - set(cls._fields):
            raise ValueError(f"no search parameter is called {min(unknown)!r}")
        if not all(0 < value <= MOST_OF_A_PARAMETER for value in parameters.values()):
            raise ValueError(f"a search parameter is outside 1 … {MOST_OF_A_PARAMETER:,}")
        return cls(**parameters)

    def pool(self, k: int) -> int:
        """How many candidates to take for k results: fewer a result the more there are."""
        return max(k, round(self.candidates * math.pow(k / RECALL_K, 0.75)))


class Trial(NamedTuple):
    """What these parameters reach: a sample's recall@10, and what other queries' is at least, with a confidence of 95 %."""

    recall: float
    least: float
    parameters: SearchParameters


class SampleQueries(NamedTuple):
    """Vectors of the index itself as queries (q, d) float32, each one's 10 true neighbours (q, 10), and its own row (q,)."""

    queries: np.ndarray
    truth: np.ndarray
    own: np.ndarray


def draw_queries(vectors: np.ndarray) -> SampleQueries:
    """Some of a segment's vectors (rows, d) float16 as queries, the same for the same rows; none is its own neighbour."""
    rows = np.arange(len(vectors))
    count = min(max(SAMPLED_VALUES // vectors.shape[1], FEWEST_QUERIES), MOST_QUERIES)
    if len(vectors) > count:
        rows = np.sort(np.random.default_rng(0).choice(len(vectors), count, replace=False))
    queries = vectors[rows].astype(np.float32)
    ids = search_exact(vectors, queries, RECALL_K + 1, None).ids
    return SampleQueries(queries, _without(ids, rows, RECALL_K), rows)


def tune(index: Any, sample: SampleQueries, target: float) -> Trial:
    """The cheapest parameters whose recall@10 is above the target with confidence, or the best there are.

    index  a FAISS index over the segment's vectors, in their order
    """
    faiss = load_faiss()
    ivf = ivf_of(index)
    if ivf is not None:
        return _tune_lists(index, ivf, sample, target)
    graph = faiss.downcast_index(index)
    graph = faiss.downcast_index(graph.index) if isinstance(graph, faiss.IndexPreTransform) else graph
    if isinstance(graph, faiss.IndexHNSW):
        return _tune_graph(index, graph, sample, target)
    return _fewest_candidates(recalls(index, sample), target)


def ivf_of(index: Any) -> Any | None:
    """The inverted file in a FAISS index; None for a kind without."""
    try:
        return load_faiss().extract_index_ivf(index)
    except RuntimeError:
        return None


Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def in_blocks(search: Search, queries: np.ndarray, k: int, nprobe: float) -> tuple[np.ndarray, np.ndarray]:
    """search(queries, k) for some queries (n, d) at a time: FAISS makes tables for all at once, and crashes beyond 2 GB.

    nprobe  how many inverted lists each query visits; a table a list is 4 bytes a dimension
    """
    rows = max(1, int(TABLE_BYTES / (4 * queries.shape[1] * max(1.0, nprobe))))
    if len(queries) <= rows:
        return search(queries, k)
    answers = [search(queries[start : start + rows], k) for start in range(0, len(queries), rows)]
    scores, places = zip(*answers, strict=True)
    return np.concatenate(scores), np.concatenate(places)


def recalls(
    index: Any,
    sample: SampleQueries,
    parameters: SearchParameters = SearchParameters(),  # noqa: B008 - a tuple
    *,
    most: int = POOLS[-1],
) -> dict[int, Trial]:
    """What is reached by each number of candidates up to `most`: the share of the 10 true neighbours that are among them.

    parameters  as the index is set
    """
    most = min(most, index.ntotal - 1)
    pools = [pool for pool in POOLS if pool < most] + [most]
    _, ids = in_blocks(index.search, sample.queries, most + 1, parameters.nprobe)
    hits = _without(ids, sample.own, most)[:, None, :] == sample.truth[:, :, None]
    places = np.where(hits.any(axis=2), hits.argmax(axis=2), most)
    return {pool: Trial(*_recall_of(places < pool), parameters._replace(candidates=pool)) for pool in pools}


def _recall_of(found: np.ndarray) -> tuple[float, float]:
    """The recall, and what other queries' is at least. found: (queries, 10) bool, which true neighbours were found."""
    shares = found.mean(axis=1)
    recall = float(shares.mean())
    return recall, recall - CONFIDENCE * float(shares.std()) / math.sqrt(len(shares))


def _tune_lists(index: Any, ivf: Any, sample: SampleQueries, target: float) -> Trial:
    """The fewest lists that reach the target, or more of them if fewer candidates make that cheaper.

    100,000 vectors of 256 values in 512 lists (`IVF512,PQ64x4fsr`, the made ones of tests.bench.vectors), 0.95 to be reached:
    16 lists hold 6,483 rows on average, but only 92.2 % of the true neighbours; 28 are the fewest that hold 95 % for certain,
    and with fewer no codes could reach the target. From there on, in microseconds:

        lists  rows    candidates  recall  at least  rows x 3.06 ns + candidates x 321 ns
        28     10,700  640         0.957   0.9499     33 + 205 = 238   just not enough: an eighth more
        31     11,800  280         0.958   0.9512     36 +  90 = 126
        34     12,800  140         0.958   0.9516     39 +  45 =  84
        38     14,100  120         0.958   0.9523     43 +  39 =  82
        42     15,400  100         0.958   0.9524     47 +  32 =  79   the cheapest, so chosen
        47     17,000  100         0.960   0.9541     52 +  32 =  84   dearer
        52     18,500  100         0.962   0.9569     57 +  32 =  89   dearer a second time: the end

    "At least" is what other queries reach with a confidence of 95 %. More candidates make up for codes that rank a neighbour
    low, more lists for neighbours that lie elsewhere.
    """
    nearer, visited = survey(index, ivf, sample)

    def cost(parameters: SearchParameters) -> float:
        codes = float(visited[parameters.nprobe - 1]) * (ROW_NS + int(ivf.code_size) * CODE_NS)
        return codes + parameters.candidates * (CANDIDATE_NS + int(index.d) * VALUE_NS)

    def measure(nprobe: int, most: int = POOLS[-1]) -> Trial:
        ivf.nprobe = min(nprobe, ivf.nlist)
        return _fewest_candidates(recalls(index, sample, SearchParameters(nprobe=ivf.nprobe), most=most), target)

    fewest = 1
    while fewest < ivf.nlist and _recall_of(nearer < fewest)[1] < target:  # with so few, no codes reach it
        fewest += 1
    best = measure(fewest)
    while best.least < target and ivf.nprobe < ivf.nlist:
        best = measure(2 * ivf.nprobe if target - best.least > FAR else _more(ivf.nprobe))
    nprobe, dearer, price = _more(best.parameters.nprobe), 0, cost(best.parameters)
    while nprobe <= ivf.nlist and dearer < PATIENCE and cost(SearchParameters(nprobe, candidates=POOLS[0])) < price:
        one = measure(nprobe, most=best.parameters.candidates)
        if one.least >= target and cost(one.parameters) < price:
            best, dearer, price = one, 0, cost(one.parameters)
        else:
            dearer += 1
        nprobe = _more(nprobe)
    return best


def _more(nprobe: int) -> int:
    return nprobe + max(1, nprobe // 8)


def survey(index: Any, ivf: Any, sample: SampleQueries) -> tuple[np.ndarray, np.ndarray]:
    """How many lists are nearer to a query than that of each of its true neighbours, (q, 10); the rows in a query's nearest
    1, 2, 3 … lists, on average, (nlist,).
    """
    list_of = list_numbers(ivf)
    sizes = np.bincount(list_of, minlength=ivf.nlist)
    scores = transformed(index, sample.queries) @ ivf.quantizer.reconstruct_n(0, ivf.nlist).T
    reached = np.take_along_axis(scores, list_of[sample.truth], 1)
    nearer = np.stack([(scores > column[:, None]).sum(axis=1) for column in reached.T], axis=1)
    return nearer, sizes[np.argsort(-scores[:COUNTED], axis=1)].cumsum(axis=1).mean(axis=0)


def list_numbers(ivf: Any) -> np.ndarray:
    """In which list of an inverted file each of its vectors lies, (rows,) int32."""
    faiss, numbers = load_faiss(), np.empty(ivf.ntotal, np.int32)
    for number in range(ivf.nlist):
        if size := ivf.invlists.list_size(number):
            numbers[faiss.rev_swig_ptr(ivf.invlists.get_ids(number), size)] = number
    return numbers


def transformed(index: Any, vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, d) float32 as the lists of an index see them, such as padded."""
    faiss = load_faiss()
    outer = faiss.downcast_index(index)
    for number in range(outer.chain.size() if isinstance(outer, faiss.IndexPreTransform) else 0):
        vectors = outer.chain.at(number).apply(vectors)
    return vectors


def _tune_graph(index: Any, graph: Any, sample: SampleQueries, target: float) -> Trial:
    for efSearch in EF_SEARCHES:
        graph.hnsw.efSearch = efSearch
        best = _fewest_candidates(recalls(index, sample, SearchParameters(efSearch=efSearch)), target)
        if best.least >= target:
            break
    return best


def _fewest_candidates(trials: dict[int, Trial], target: float) -> Trial:
    return next((trial for trial in trials.values() if trial.least >= target), trials[max(trials)])


def _without(ids: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """The first k of each row that are not the query itself; -1 fills up."""
    order = np.argsort(ids == own[:, None], axis=1, kind="stable")
    return np.take_along_axis(ids, order, 1)[:, :k]
