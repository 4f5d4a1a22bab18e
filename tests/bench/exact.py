"""Exact search of one query against the floor that memory sets: reading every vector once, on all cores.

    python -m tests.bench.exact [--shape 200000x1024]

The floor is the fastest of three ways to read the same mapped bytes with as many threads; beside it, the same search by faiss
alone (float32 and float16) and by numpy. All in turns, medians.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from ragvec.index import IndexSettings
from ragvec.index.ann.exact import search_exact
from ragvec.index.ann.threads import load_faiss, search_threads
from ragvec.index.segment import SegmentWriter, map_vectors
from tests.bench.index import cpu
from tests.bench.vectors import clustered

K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="200000x1024", help="rows x dimension")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    rows, dimension = map(int, options.shape.split("x"))
    made = clustered(rows + options.rounds + 1, dimension)
    queries, vectors = made[:, None][: options.rounds + 1], made[options.rounds + 1 :]
    with tempfile.TemporaryDirectory(prefix="ragvec-bench-") as folder:
        segment = SegmentWriter(Path(folder), 1, dimension)
        segment.append(vectors, np.arange(rows))
        segment.finish(IndexSettings("bench", "0", dimension, faiss_key="exact"))
        mapped = map_vectors(segment.folder, rows, dimension)
        contenders = {
            "floor": floor(mapped),
            "ragvec": lambda query: search_exact(mapped, query, K, None),
            "faiss, float32": faiss_flat("Flat", vectors),
            "faiss, float16": faiss_flat("SQfp16", vectors),
            "numpy, float32": lambda query: np.argpartition(-(vectors @ query[0]), K)[:K],
        }
        report(mapped.nbytes, {name: seconds(search, queries) for name, search in contenders.items()})


def floor(mapped: np.ndarray) -> Callable[[np.ndarray], object]:
    """What reads all the bytes, shared out among threads, and hardly computes."""
    words = mapped.reshape(-1).view(np.uint64)
    parts = np.array_split(words, search_threads())
    pool = ThreadPoolExecutor(len(parts))
    ways = [partial(read, way) for way in (np.bitwise_or.reduce, np.add.reduce, np.max)]
    fastest = min(ways, key=lambda way: min(timed(lambda: list(pool.map(way, parts))) for _ in range(5)))
    return lambda query: list(pool.map(fastest, parts))


def read(way: Callable[[np.ndarray], np.integer], words: np.ndarray) -> int:
    return int(way(words))


def faiss_flat(key: str, vectors: np.ndarray) -> Callable[[np.ndarray], object]:
    faiss = load_faiss()
    index = faiss.index_factory(vectors.shape[1], key, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return lambda query: index.search(query, K)


def seconds(search: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    search(queries[0])
    return statistics.median(timed(partial(search, query)) for query in queries[1:])


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def report(size: int, medians: dict[str, float]) -> None:
    print(f"{size / 1e6:,.0f} MB of float16 vectors, {search_threads()} threads; {cpu()}")
    for name, median in medians.items():
        speed = f"{1000 * median:7.2f} ms  {size / median / 1e9:6.1f} GB/s"
        print(f"{name:16s} {speed}  {median / medians['floor']:5.2f} times the floor")


if __name__ == "__main__":
    main()
