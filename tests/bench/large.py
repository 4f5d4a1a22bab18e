"""An index that many commits have filled, beside the same after `compact`: segments, time, memory, one query, recall.

    python -m tests.bench.large                          ten commits of 100,000 vectors of 128 values
    python -m tests.bench.large --rows 1000000           ten of a million

Vectors are those of `tests.bench.vectors`, made in another process, each with a passage of a word. "One query" is dense search
for ten on one thread, median of three rounds; memory is this process' most so far, mapped files that it has read included.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ragvec.index import Index
from ragvec.index.ann.threads import load_faiss
from ragvec.index.changes import Changes
from ragvec.index.view import View
from ragvec.records import Passage
from tests.bench.index import cpu
from tests.bench.vectors import K, clustered, nearest, recall

QUERIES, ROUNDS = 200, 3


def main() -> None:
    """Print a row after the commits, and one after `compact`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=10)
    parser.add_argument("--rows", type=int, default=100_000, help="of each commit")
    parser.add_argument("--dimension", type=int, default=128)
    options = parser.parse_args()
    print(f"{options.commits} commits of {options.rows:,} x {options.dimension}, {os.cpu_count()} threads; {cpu()}")
    print("| | segments | s | CPU s | longest commit, s | one query, ms | recall@10 | memory, MiB |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="ragvec-bench-") as name:
        folder = Path(name)
        child = multiprocessing.get_context("spawn").Process(target=prepare, args=(folder, options))
        child.start()
        child.join()
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        with Index.create(folder / "index", dimension=options.dimension, fingerprint="made") as index:
            begun, used, longest = time.perf_counter(), time.process_time(), 0.0
            for start in range(0, len(vectors), options.rows):
                longest = max(longest, add(index, vectors, start, options.rows))
            row("after the commits", index, folder, begun=begun, used=used, longest=longest)
            begun, used = time.perf_counter(), time.process_time()
            index.compact()
            row("after `compact`", index, folder, begun=begun, used=used, longest=0.0)


def prepare(folder: Path, options: argparse.Namespace) -> None:
    """Write vectors and queries, and which rows are nearest to these."""
    made = clustered(options.commits * options.rows + QUERIES, options.dimension)
    vectors, queries = made[:-QUERIES].astype(np.float16), made[-QUERIES:]
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "queries.npy", queries)
    del made
    np.save(folder / "truth.npy", nearest(vectors, queries, K))


def add(index: Index, vectors: np.ndarray, start: int, rows: int) -> float:
    """One commit; returns the seconds it took."""
    begun = time.perf_counter()
    with index.writing() as writer:
        changes = Changes(writer.connection)
        writer.commit(blocks(changes, vectors, start, start + rows), changes)
    return time.perf_counter() - begun


def blocks(changes: Changes, vectors: np.ndarray, start: int, stop: int) -> Iterator[tuple[list[Passage], np.ndarray]]:
    """Passages with their vectors, some at a time."""
    for first in range(start, stop, 10_000):
        numbers = range(first, min(first + 10_000, stop))
        passages = [Passage(doc_id=str(number), passage_id=str(number), text=f"word{number}") for number in numbers]
        fresh = [passage for passage in passages if changes.is_fresh(passage)]
        assert len(fresh) == len(passages)
        yield passages, np.asarray(vectors[numbers.start : numbers.stop])
    changes.finish()


def row(label: str, index: Index, folder: Path, *, begun: float, used: float, longest: float) -> None:
    """Print what the index has come to."""
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    with index.reading() as view:
        names = index_order(view, index.search(queries, K).ids)
        load_faiss().omp_set_num_threads(1)
        rounds = [timed(index, queries) for _ in range(ROUNDS)]
        load_faiss().omp_set_num_threads(os.cpu_count())
    keys = " + ".join(segment["faiss_key"] for segment in index.describe()["segments"])
    print(
        f"| {label} | {keys} | {seconds:.0f} | {cpu_seconds:.0f} | {longest:.0f} "
        f"| {statistics.median(rounds):.2f} | {recall(names, truth):.3f} | {memory:,.0f} |",
        flush=True,
    )


def index_order(view: View, ids: np.ndarray) -> np.ndarray:
    """Passage ids as rows of the vectors."""
    return np.array([[int(doc_id) for doc_id in view.doc_ids(line.tolist())] for line in ids])


def timed(index: Index, queries: np.ndarray) -> float:
    """The median milliseconds of one query."""
    times = []
    for number in range(len(queries)):
        begun = time.perf_counter()
        index.search(queries[number : number + 1], K)
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


if __name__ == "__main__":
    main()
