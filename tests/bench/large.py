"""An index that many commits have filled, beside the same after `compact`: time, memory, queries warm and from disk, recall.

    python -m tests.bench.large --folder FOLDER                      ten commits of 100,000 passages, vectors of 128 values
    python -m tests.bench.large --folder FOLDER --rows 1000000       ten of a million: 9 GB of disk, half an hour
    python -m tests.bench.large --folder FOLDER --minutes 100        begin no step after so many; the same command goes on
    python -m tests.bench.large --folder FOLDER --plot docs/large.svg

Each step (the vectors, every commit, `compact`, the measurements after both) is a process of its own, whose figures become a
line of FOLDER/figures.jsonl; one that was killed is done again. Passages have 12 words (Zipf over 200,000), a title, a year, a
language; vectors are those of `tests.bench.vectors`.

memory      the most of a process that is its own (RssAnon, looked at ten times a second): pages of mapped files, which the
            system takes back when it wants to, are not in it
warm, ms    of CPU, of one query on one thread, after all of them were asked once; median of 100. filtered: a year of 76, dense
cold, ms    in a new process, the index's files put out of the system's memory: open, and the first query of each kind
"""

import argparse
import json
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count as numbers
from pathlib import Path
from typing import Any

import numpy as np

from ragvec.index import Index
from ragvec.index.ann.threads import load_faiss
from ragvec.index.changes import Changes
from ragvec.records import Passage
from ragvec.retrieve import Request, Retriever
from tests.bench.index import cpu
from tests.bench.vectors import K, clustered_blocks, nearest, recall

QUERIES, ASKED = 200, 100
WORDS, VOCABULARY, BLOCK = 12, 200_000, 10_000
LANGUAGES = ("en", "ko", "de", "fr")
WHERE = "year = 1999"
KINDS = ("dense", "filtered", "words", "hybrid")
MIB = 2**20


def main() -> None:
    """Take the steps that are left, and print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of the index and the figures; kept")
    parser.add_argument("--commits", type=int, default=10)
    parser.add_argument("--rows", type=int, default=100_000, help="of each commit")
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no step begins")
    parser.add_argument("--plot", type=Path, help="draw the commits there")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    for name, step in steps(options).items():
        if name not in figures(options.folder) and time.monotonic() - begun < 60 * options.minutes:
            child = multiprocessing.get_context("spawn").Process(target=taken, args=(name, step, options.folder))
            child.start()
            child.join()
            if child.exitcode:
                raise SystemExit(f"{name} failed")
    print(f"{options.commits} commits of {options.rows:,} x {options.dimension}, {os.cpu_count()} threads; {cpu()}")
    report(figures(options.folder))
    if options.plot:
        plot(figures(options.folder), options)


def steps(options: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is to be done, in order."""
    folder, total = options.folder, options.commits * options.rows
    commits = {
        f"commit {number + 1}": partial(commit, folder, number * options.rows, options.rows)
        for number in range(options.commits)
    }
    after = {"warm": partial(warm, folder), "cold": partial(cold, folder)}
    return {
        "vectors": partial(prepare, folder, total, options.dimension),
        **commits,
        **{f"after the commits, {name}": step for name, step in after.items()},
        "compact": partial(compact, folder),
        **{f"after compact, {name}": step for name, step in after.items()},
    }


def figures(folder: Path) -> dict[str, dict[str, Any]]:
    """What was measured so far, by step."""
    path = folder / "figures.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line.pop("step"): line for line in map(json.loads, lines)}


def taken(name: str, step: Callable[[], dict[str, Any]], folder: Path) -> None:
    """Take a step and write its figures down."""
    begun, used, watched = time.perf_counter(), time.process_time(), Memory()
    found = step()
    spent = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - used, "memory": watched.most()}
    with open(folder / "figures.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"step": name, **spent, **found}) + "\n")
    print(f"{name}: {spent['seconds']:.0f} s", flush=True)


class Memory:
    """Looks at how much memory is this process' own."""

    def __init__(self) -> None:
        self._most, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def most(self) -> int:
        """The most so far, in bytes; no more is looked at."""
        self._ended.set()
        self._thread.join()
        return self._most

    def _look(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            own = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self._most = max(self._most, 1024 * own)
            if self._ended.wait(0.1):
                return


def prepare(folder: Path, rows: int, dimension: int) -> dict[str, Any]:
    """Write vectors and queries, and which rows are nearest to these."""
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (rows, dimension))
    queries = np.empty((0, dimension), np.float32)
    for start, block in clustered_blocks(rows + QUERIES, dimension):
        here = block[: max(0, rows - start)]
        vectors[start : start + len(here)] = here
        queries = np.concatenate([queries, block[len(here) :]])
    vectors.flush()
    np.save(folder / "queries.npy", queries)
    np.save(folder / "truth.npy", nearest(vectors, queries, K))
    return {}


def commit(folder: Path, start: int, rows: int) -> dict[str, Any]:
    """One commit of so many passages."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    if not start and not (folder / "index").exists():
        Index.create(
            folder / "index", dimension=vectors.shape[1], fingerprint="made", language="english", filter_fields=("year", "lang")
        ).close()
    with Index.open(folder / "index") as index:
        if len(index) == start:  # or it was killed after its commit
            with index.writing() as writer:
                changes = Changes(writer.connection)
                writer.commit(blocks(changes, vectors, start, start + rows), changes)
        assert len(index) == start + rows
        return described(index)


def compact(folder: Path) -> dict[str, Any]:
    """All segments into one."""
    with Index.open(folder / "index") as index:
        index.compact()
        return described(index)


def described(index: Index) -> dict[str, Any]:
    told = index.describe()
    return {"bytes": told["bytes"], "segments": [segment["faiss_key"] for segment in told["segments"]]}


def blocks(changes: Changes, vectors: np.ndarray, start: int, stop: int) -> Iterator[tuple[list[Passage], np.ndarray]]:
    """Passages with their vectors, some at a time."""
    dice = np.random.default_rng(start)
    for first in range(start, stop, BLOCK):
        count = min(BLOCK, stop - first)
        words = (dice.zipf(1.1, (count, WORDS)) % VOCABULARY).tolist()
        years = dice.integers(1950, 2026, count).tolist()
        passages = [
            Passage(f"doc-{row}", f"doc-{row}", " ".join(f"w{word}" for word in line), f"title {row % 1000}",
                    {"year": year, "lang": LANGUAGES[row % 4]})
            for row, line, year in zip(numbers(first), words, years, strict=False)
        ]  # fmt: skip
        fresh = [passage for passage in passages if changes.is_fresh(passage)]
        assert len(fresh) == len(passages)
        yield passages, np.asarray(vectors[first : first + count])
    changes.finish()


def requests(folder: Path) -> dict[str, list[Request]]:
    """So many queries of each kind."""
    dice, queries = np.random.default_rng(1), np.load(folder / "queries.npy")[:ASKED]
    texts = [" ".join(f"w{word}" for word in line) for line in dice.integers(100, 20_000, (ASKED, 3))]
    rows = list(zip(queries, texts, strict=True))
    return {
        "dense": [Request(vector=vector, k=K) for vector, _ in rows],
        "filtered": [Request(vector=vector, k=K, where=WHERE) for vector, _ in rows],
        "words": [Request(query=text, k=K, mode="lexical") for _, text in rows],
        "hybrid": [Request(query=text, vector=vector, k=K) for vector, text in rows],
    }


def warm(folder: Path) -> dict[str, Any]:
    """Milliseconds of each kind of query, and recall of dense search."""
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    load_faiss().omp_set_num_threads(1)
    with Index.open(folder / "index") as index:
        retriever = Retriever(index)
        found: dict[str, Any] = {}
        for kind, asked in requests(folder).items():
            for request in asked:
                retriever.answer(request)
            found[kind] = statistics.median(timed(partial(retriever.answer, request), time.process_time) for request in asked)
        with index.reading() as view:
            ids = view.search(queries, K).ids
            rows = np.array([[int(doc_id.removeprefix("doc-")) for doc_id in view.doc_ids(line.tolist())] for line in ids])
    return {**found, "recall": recall(rows, truth)}


def cold(folder: Path) -> dict[str, Any]:
    """Milliseconds until an index that nobody has read lately is open, and of the first query of each kind."""
    asked = requests(folder)
    load_faiss().omp_set_num_threads(1)
    found: dict[str, Any] = {}
    for kind in KINDS:
        forget(folder / "index")
        begun = time.perf_counter()
        with Index.open(folder / "index") as index:
            if kind == KINDS[0]:
                found["open"] = 1000 * (time.perf_counter() - begun)
            found[kind] = timed(partial(Retriever(index).answer, asked[kind][0]))
            found[f"{kind}, second"] = timed(partial(Retriever(index).answer, asked[kind][1]))
    return found


def forget(folder: Path) -> None:
    """Put a folder's files out of the system's memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(ask: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Milliseconds, by a clock."""
    begun = clock()
    ask()
    return 1000 * (clock() - begun)


def report(found: dict[str, dict[str, Any]]) -> None:
    """Two tables: what it takes to make, and what queries take."""
    print("\n| | s | CPU s | memory, MiB | index, GB | segments |\n|---|---|---|---|---|---|")
    for name, one in found.items():
        if "segments" in one:
            keys = [f"{one['segments'].count(key)} x {key}" for key in dict.fromkeys(one["segments"])]
            spent = f"{one['seconds']:.0f} | {one['cpu_seconds']:.0f} | {one['memory'] / MIB:,.0f}"
            print(f"| {name} | {spent} | {one['bytes'] / 1e9:.2f} | {', '.join(keys)} |")
    print(f"\n| | {', '.join(KINDS)}: ms | recall@{K} | open, ms | memory, MiB |\n|---|---|---|---|---|")
    for name, one in found.items():
        if KINDS[0] in one:
            times = ", ".join(f"{one[kind]:.1f}" for kind in KINDS)
            last = f"{one['recall']:.3f}" if "recall" in one else "", f"{one['open']:.0f}" if "open" in one else ""
            print(f"| {name} | {times} | {' | '.join(last)} | {one['memory'] / MIB:,.0f} |")


def plot(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    """CPU seconds, memory and disk by commit, `compact` last."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    made = {name: one for name, one in found.items() if "segments" in one}
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3), layout="constrained")
    for axis, (key, title, unit) in zip(
        axes, (("cpu_seconds", "CPU seconds", 1), ("memory", "memory, MiB", MIB), ("bytes", "index, GB", 1e9)), strict=True
    ):
        colours = ["C0" if name.startswith("commit") else "C1" for name in made]
        axis.bar([name.removeprefix("commit ") for name in made], [one[key] / unit for one in made.values()], color=colours)
        axis.set(title=title, xlabel="commit")
    figure.suptitle(f"{options.commits} commits of {options.rows:,} x {options.dimension}; {cpu()}", fontsize=9)
    figure.savefig(options.plot, metadata={"Date": None})


if __name__ == "__main__":
    main()
