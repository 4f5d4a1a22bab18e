"""FAISS on the GPU through ragvec's own functions: what fills there, and how fast it is searched."""

import time
from typing import TYPE_CHECKING, Any

from tests.bench.gpu.bench import Bench

if TYPE_CHECKING:
    import numpy as np

KEYS = ("IVF2048,Flat", "IVF2048,SQ8", "IVF2048_HNSW32,SQ8", "IVF2048,PQ96x4fs", "CAGRA32")
ROWS, WIDTH, QUERIES, K = 500_000, 768, 1_000, 10
DRY_KEYS = ("IVF64,Flat", "IVF64_HNSW32,SQ8")
DRY_ROWS, DRY_WIDTH = 4_000, 32


def search(bench: Bench) -> None:
    """Build each kind of index over half a million vectors around a thousand centres, and search it."""
    import numpy as np

    from ragvec.index.ann.gpu import gpu_count

    try:
        count = gpu_count()
    except Exception as error:  # no FAISS here, or one that does not load: that is the figure
        bench.figures.failed("FAISS", "FAISS", error)
        return
    if not count and not bench.dry:
        bench.figures.put("FAISS", {"not measured": "this build of FAISS has no GPU"})
        return
    rows, width = (DRY_ROWS, DRY_WIDTH) if bench.dry else (ROWS, WIDTH)
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((1000, width), dtype=np.float32)
    vectors = centres[draw.integers(0, 1000, rows)] + 0.5 * draw.standard_normal((rows, width), dtype=np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    for key in DRY_KEYS if bench.dry else KEYS:
        if bench.left() < 10:
            break
        try:
            bench.figures.put("FAISS", {key: figures_of(key, vectors)})
        except Exception as error:  # a kind that is not there
            bench.figures.failed("FAISS", key, error)


def figures_of(key: str, vectors: "np.ndarray") -> dict[str, Any]:
    """Seconds to build, where it is searched, and queries a second with 16 lists visited."""
    import numpy as np

    from ragvec.index.ann.build import filled_index
    from ragvec.index.ann.gpu import on_gpu
    from ragvec.index.ann.tuning import ivf_of

    start = time.perf_counter()
    index = filled_index(key, vectors)
    built = time.perf_counter() - start
    copy = on_gpu(index)
    searched = index if copy is None else copy
    if copy is not None:
        copy.nprobe = 16
    elif (ivf := ivf_of(index)) is not None:
        ivf.nprobe = 16
    queries = np.ascontiguousarray(vectors[:QUERIES], np.float32)
    searched.search(queries, K)
    start = time.perf_counter()
    _, found = searched.search(queries, K)
    seconds = time.perf_counter() - start
    own = float((found == np.arange(len(queries))[:, None]).any(axis=1).mean())
    where = "CPU" if copy is None else "GPU"
    return {"rows": len(vectors), "dimension": vectors.shape[1], "build s": built, "searched on": where,
            "queries/s": len(queries) / seconds, "find themselves": own}  # fmt: skip
