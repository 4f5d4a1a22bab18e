"""Which kind of FAISS index a segment gets, by its size, the memory it may take, and the recall it must reach."""

import math
import re

AUTO_KEY = "auto"
EXACT_KEY = "exact"
RECALL_TARGET = 0.95
# Below so many stored values exact search of one query takes about 3 ms on one core, as long as an index's overheads.
EXACT_VALUES = 16_000_000
# An inverted file's cells: so many times √rows, or the fewer that keep their centres to so many times √rows values in all. More
# take longer to find, for searches that are hardly faster.
CELLS, CENTRE_VALUES, CELLS_STEP = 1.6, 1_024, 16
GRAPH_CELLS = 4_096  # from so many on, a query's nearest cells are themselves found by a graph (HNSW)
# Four bits of a code stand for so many values of a vector. More make codes smaller and scanned faster, and more candidates
# necessary. The usual number leaves a code at least 96 pieces; where that can't reach the recall, fewer values do.
PIECE_VALUES = (32, 16, 8, 4, 2)
USUAL_VALUES, LEAST_PIECES = (8, 4), 96
# Below so many dimensions codes are of what separates a vector from its cell's centre ("r"), which is sharper there and blunter
# from 768 on; and, since centres have length 1, for vectors of that length alone.
RESIDUAL_DIMENSIONS = 512
ID_BYTES = 8
PADDING_ROWS = 16  # of a cell on average: codes lie in blocks of 32, without their ids
GRAPH_BYTES = 290  # of a cell in such a graph


def plan_keys(rows: int, dimension: int, *, max_memory: int | None = None, normalized: bool = True) -> list[str]:
    """FAISS factory strings to try in order until one reaches the target recall; ["exact"] where no index is wanted.

    max_memory  bytes that the index may take in memory; None = no limit. Codes are first made smaller to fit; what can't fit is
                searched exactly, from the mapped file.
    normalized  whether the vectors have length 1
    """
    if rows * dimension <= EXACT_VALUES:
        return [EXACT_KEY]
    cells, padded = cells_for(rows, dimension), math.ceil(dimension / USUAL_VALUES[-1]) * USUAL_VALUES[-1]
    kind = f"IVF{cells}_HNSW32" if cells >= GRAPH_CELLS else f"IVF{cells}"
    kind = kind if padded == dimension else f"Pad{padded},{kind}"
    usual = next((values for values in USUAL_VALUES if dimension // values >= LEAST_PIECES), USUAL_VALUES[-1])
    fitting = [
        values
        for values in PIECE_VALUES
        if padded % values == 0 and (max_memory is None or memory_of(rows, padded, cells, padded // values) <= max_memory)
    ]
    first = min((values for values in fitting if values >= usual), default=usual)
    codes = "x4fsr" if normalized and dimension < RESIDUAL_DIMENSIONS else "x4fs"
    return [f"{kind},PQ{padded // values}{codes}" for values in fitting if values <= first] + [EXACT_KEY]


def cells_for(rows: int, dimension: int) -> int:
    """The number of cells of an inverted file."""
    cells = min(CELLS, CENTRE_VALUES / dimension) * math.sqrt(rows)
    return CELLS_STEP * math.ceil(cells / CELLS_STEP)


def memory_of(rows: int, dimension: int, cells: int, pieces: int) -> int:
    """About how many bytes such an index takes in memory, with codes of so many pieces of 4 bits."""
    graph = GRAPH_BYTES if cells >= GRAPH_CELLS else 0
    code = math.ceil(pieces / 2)
    return rows * (code + ID_BYTES) + cells * (dimension * 4 + graph + PADDING_ROWS * code)


def planned_bytes(rows: int, dimension: int) -> int:
    """The same of the index that so many vectors get; 0 where exact search is enough."""
    pieces = re.search(r"PQ(\d+)x4fs", plan_keys(rows, dimension)[0])
    return memory_of(rows, dimension, cells_for(rows, dimension), int(pieces.group(1))) if pieces else 0


def enough_rows(key: str, rows: int) -> bool:
    """Whether a segment is worth an index of a given key: below, exact search is faster, and clusters can't be trained."""
    clusters = re.search(r"IVF(\d+)", key)
    return rows >= max(1_000, int(clusters.group(1)) if clusters else 0)
