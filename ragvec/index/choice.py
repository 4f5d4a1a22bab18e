"""Which kind of FAISS index a segment gets, by its size, the memory it may take, and the recall it must reach."""

import math
import re

AUTO_KEY = "auto"
EXACT_KEY = "exact"
RECALL_TARGET = 0.95
# Below so many stored values exact search of one query takes about 3 ms on one core, as long as an index's overheads.
EXACT_VALUES = 16_000_000
# The cells of an inverted file are rows ** 0.54. More make a search cheaper and the clustering, which costs cells², dearer.
CELLS_POWER = 0.54
MOST_CELLS = 65_536
GRAPH_CELLS = 4_096  # from so many on, a query's nearest cells are themselves found by a graph (HNSW)
ROW_BYTES = 16  # of a RaBitQ code besides its bits: the id, the scale factors
PADDING_ROWS = 16  # of a cell on average: codes lie in blocks of 32, without their ids
GRAPH_BYTES = 290  # of a cell in such a graph
LEAST_DIMENSION = 64


def plan_keys(rows: int, dimension: int, *, max_memory: int | None = None) -> list[str]:
    """FAISS factory strings to try in order until one reaches the target recall; ["exact"] where no index is wanted.

    max_memory  bytes that the index may take in memory; None = no limit. Vectors are first shortened (PCA) to fit; what can't
                fit is searched exactly, from the mapped file.
    """
    if rows * dimension <= EXACT_VALUES:
        return [EXACT_KEY]
    cells = cells_for(rows)
    keys = []
    for bits in ("", "4"):  # 1 bit a value, then 4 for a recall that 1 bit can't reach
        for kept in _dimensions(dimension):
            if max_memory is None or memory_of(rows, kept, cells, bits=int(bits or 1)) <= max_memory:
                shorter = "" if kept == dimension else f"PCA{kept},"
                keys.append(f"{shorter}IVF{cells}{'_HNSW32' if cells >= GRAPH_CELLS else ''},RaBitQfs{bits}")
                break
    return [*keys, EXACT_KEY]


def cells_for(rows: int) -> int:
    """The number of cells of an inverted file: a power of two, about rows ** 0.54."""
    return min(MOST_CELLS, 2 ** round(CELLS_POWER * math.log2(max(1, rows))))


def memory_of(rows: int, dimension: int, cells: int, *, bits: int = 1) -> int:
    """About how many bytes such an index takes in memory."""
    graph = GRAPH_BYTES if cells >= GRAPH_CELLS else 0
    code = math.ceil(dimension * bits / 8)
    return rows * (code + ROW_BYTES) + cells * (dimension * 4 + graph + PADDING_ROWS * (code + ROW_BYTES // 2))


def enough_rows(key: str, rows: int) -> bool:
    """Whether a segment is worth an index of a given key: below, exact search is faster, and clusters can't be trained."""
    clusters = re.search(r"IVF(\d+)", key)
    return rows >= max(1_000, int(clusters.group(1)) if clusters else 0)


def _dimensions(dimension: int) -> list[int]:
    """The dimension itself, then halves of it."""
    kept = [dimension]
    while kept[-1] // 2 >= LEAST_DIMENSION:
        kept.append(kept[-1] // 2)
    return kept
