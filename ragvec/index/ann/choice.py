"""Which kind of FAISS index a segment gets, by its size, the memory it may take, and the recall it must reach."""

import math
import re

AUTO_KEY = "auto"
EXACT_KEY = "exact"
RECALL_TARGET = 0.95
# Below so many stored values exact search of one query takes about 3 ms on one core, as long as an index's overheads.
EXACT_VALUES = 16_000_000
# The lists of an inverted file (FAISS's nlist): so many times √rows, or the fewer that keep their centroids to so many times
# √rows values in all. More take longer to find, for searches that are hardly faster.
LISTS_PER_ROOT, CENTROID_VALUES, LISTS_STEP = 1.6, 1_024, 16
GRAPH_LISTS = 4_096  # from so many on, a query's nearest lists are themselves found by a graph (HNSW)
# The values of a vector that one subquantizer turns into 4 bits (FAISS's dsub). More make codes smaller and scanned faster, and
# more candidates necessary. The usual number leaves a code at least 96 subquantizers; where that can't reach the recall, fewer
# values do.
SUBVECTOR_VALUES = (32, 16, 8, 4, 2)
USUAL_VALUES, FEWEST_SUBQUANTIZERS = (8, 4), 96
# Below so many dimensions codes are of what separates a vector from its list's centroid ("r"), which is sharper there and
# blunter from 768 on; and, since centroids have length 1, for vectors of that length alone.
RESIDUAL_DIMENSIONS = 512
ID_BYTES = 8
PADDING_ROWS = 16  # of a list on average: codes lie in blocks of 32, without their ids
GRAPH_BYTES = 290  # of a list in such a graph


def plan_keys(rows: int, dimension: int, *, max_memory: int | None = None, normalized: bool = True) -> list[str]:
    """FAISS factory strings to try in order until one reaches the target recall; ["exact"] where no index is wanted.

    max_memory  bytes that the index may take in memory; None = no limit. Codes are first made smaller to fit; what can't fit is
                searched exactly, from the mapped file.
    normalized  whether the vectors have length 1

    For 100,000 vectors of 1,024 values: these are 102 million, more than 16, so an index pays. nlist is 1,024 / 1,024 times
    √100,000 = 316, rounded up to 320, below 4,096, so no graph over them. With 8 values each there are 1,024 / 8 = 128
    subquantizers, at least 96, so 8 is usual: "IVF320,PQ128x4fs", which takes 8.8 MB (`memory_of`) where the vectors take 205.
    If no search parameters let its codes reach the recall, 4 values are tried, then 2, then "exact". Within 4 MB 8 values don't
    fit, nor do 16 (5.5 MB); 32 do, at 3.8: "IVF320,PQ32x4fs", then "exact".
    """
    if rows * dimension <= EXACT_VALUES:
        return [EXACT_KEY]
    nlist, padded = lists_for(rows, dimension), math.ceil(dimension / USUAL_VALUES[-1]) * USUAL_VALUES[-1]
    kind = f"IVF{nlist}_HNSW32" if nlist >= GRAPH_LISTS else f"IVF{nlist}"
    kind = kind if padded == dimension else f"Pad{padded},{kind}"
    usual = next((values for values in USUAL_VALUES if dimension // values >= FEWEST_SUBQUANTIZERS), USUAL_VALUES[-1])
    fitting = [
        values
        for values in SUBVECTOR_VALUES
        if padded % values == 0 and (max_memory is None or memory_of(rows, padded, nlist, padded // values) <= max_memory)
    ]
    first = min((values for values in fitting if values >= usual), default=usual)
    codes = "x4fsr" if normalized and dimension < RESIDUAL_DIMENSIONS else "x4fs"
    return [f"{kind},PQ{padded // values}{codes}" for values in fitting if values <= first] + [EXACT_KEY]


def lists_for(rows: int, dimension: int) -> int:
    """The number of lists of an inverted file, FAISS's nlist."""
    lists = min(LISTS_PER_ROOT, CENTROID_VALUES / dimension) * math.sqrt(rows)
    return LISTS_STEP * math.ceil(lists / LISTS_STEP)


def memory_of(rows: int, dimension: int, nlist: int, subquantizers: int) -> int:
    """About how many bytes such an index takes in memory, with codes of so many subquantizers of 4 bits."""
    graph = GRAPH_BYTES if nlist >= GRAPH_LISTS else 0
    code = math.ceil(subquantizers / 2)
    return rows * (code + ID_BYTES) + nlist * (dimension * 4 + graph + PADDING_ROWS * code)


def planned_bytes(rows: int, dimension: int) -> int:
    """About how many bytes the index that so many vectors get takes in memory; 0 where exact search is enough.

    With the codes of the first key, or of the second where the first has fewer subquantizers than FEWEST_SUBQUANTIZERS: those
    seldom reach the recall. 10 million vectors of 128 values: 407 MB with 64 subquantizers, where 32 would take 245.
    """
    planned = [int(codes[1]) for codes in (re.search(r"PQ(\d+)x4fs", key) for key in plan_keys(rows, dimension)) if codes]
    if not planned:
        return 0
    first, second = planned[0], planned[min(1, len(planned) - 1)]
    return memory_of(rows, dimension, lists_for(rows, dimension), first if first >= FEWEST_SUBQUANTIZERS else second)


def enough_rows(key: str, rows: int) -> bool:
    """Whether a segment is worth an index of a given key: below, exact search is faster, and lists can't be trained."""
    lists = re.search(r"IVF(\d+)", key)
    return rows >= max(1_000, int(lists.group(1)) if lists else 0)
