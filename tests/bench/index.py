"""The index against other libraries: the same vectors, the same recall, the same threads, one run.

    python -m tests.bench.index                          100,000 x 1024
    python -m tests.bench.index --shape 1000000x256
    python -m tests.bench.index --rivals ragvec,usearch

Each library builds and saves its index in a process of its own; then, in turns, each opens it in a fresh process, where it is
tuned to the target recall@10 on one half of the queries and measured on the other. ragvec comes with the effort it chose at the
build, without having seen any query. Memory is what a process holds beyond its imports and the queries, apart from what it maps
from files; what the mapped files hold in memory is shown beside it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.rivals import RIVALS, K, installed, load
from tests.bench.vectors import clustered, nearest, recall

SINGLE_QUERIES = 300
MIB = 2**20
Figures = dict[str, dict[str, Any]]  # library → what was measured → how much


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="100000x1024", help="rows x dimension")
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rivals", default=",".join(RIVALS))
    parser.add_argument("--step", nargs=3, metavar=("STEP", "RIVAL", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, rival, folder = options.step
        print(json.dumps({"build": build, "measure": measure}[step](rival, Path(folder), options)))
        return
    names = installed(options.rivals.split(","))
    rows, dimension = map(int, options.shape.split("x"))
    with tempfile.TemporaryDirectory(prefix="ragvec-bench-") as folder:
        prepare(Path(folder), rows, dimension, options.queries)
        report(rows, dimension, options, compare(names, folder, options))


def prepare(folder: Path, rows: int, dimension: int, queries: int) -> None:
    """The vectors, the queries, none of which is among them, and each query's true neighbours."""
    made = clustered(rows + queries, dimension)
    np.save(folder / "vectors.npy", made[queries:])
    np.save(folder / "queries.npy", made[:queries])
    np.save(folder / "truth.npy", nearest(made[queries:], made[:queries], K))


def compare(names: list[str], folder: str, options: argparse.Namespace) -> Figures:
    """Per library what `build` and `measure` found, medians over the rounds."""
    figures = {name: run_step("build", name, folder, options) for name in names}
    rounds = [{name: run_step("measure", name, folder, options) for name in names} for _ in range(options.rounds)]
    for name in names:
        for key, value in rounds[0][name].items():
            middle = statistics.median(one[name][key] for one in rounds) if isinstance(value, float) else value
            figures[name][key] = middle
    return figures


def run_step(step: str, name: str, folder: str, options: argparse.Namespace) -> dict[str, Any]:
    """A step in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.index", "--step", step, name, folder]
    command += ["--threads", str(options.threads), "--recall", str(options.recall)]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def build(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds from vectors in memory to an index on disk, and the bytes that it takes there."""
    vectors = np.load(folder / "vectors.npy")
    load(name)
    start = time.perf_counter()
    RIVALS[name].build(vectors, folder, options.threads)
    seconds = time.perf_counter() - start
    files = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0].startswith(name)]
    return {"build_s": seconds, "disk_mib": sum(path.stat().st_size for path in files) / MIB}


def measure(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Open, tune, and search: one query at a time on one thread, then all at once on all threads."""
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    load(name)
    before = memory()
    start = time.perf_counter()
    opened = RIVALS[name].open(folder)
    open_s = time.perf_counter() - start
    held = [now - then for now, then in zip(memory(), before, strict=True)]
    half = len(queries) // 2
    for effort in opened.efforts:
        if recall(opened.search(queries[:half], options.threads, effort), truth[:half]) >= options.recall:
            break
    times = []
    for query in queries[half : half + SINGLE_QUERIES]:
        start = time.perf_counter()
        opened.search(query[None], 1, effort)
        times.append(time.perf_counter() - start)
    found: np.ndarray
    batch_s: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        found = opened.search(queries[half:], options.threads, effort)
        batch_s.append(time.perf_counter() - start)
    return {
        "open_s": open_s,
        "single_ms": 1000 * statistics.median(times),
        "batch_qps": (len(queries) - half) / min(batch_s),
        "recall": recall(found, truth[half:]),
        "memory_mib": held[0] / MIB,
        "mapped_mib": held[1] / MIB,
        "key": f"{opened.key} effort={effort}" if effort else opened.key,
    }


def memory() -> tuple[int, int]:
    """Bytes of this process in memory: its own, and mapped from files."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss")}
    return found["RssAnon"], found["RssFile"]


def report(rows: int, dimension: int, options: argparse.Namespace, figures: Figures) -> None:
    """A table, and what ragvec is to each of the others."""
    threads = f"{options.threads} threads to build and for batches"
    print(f"{rows:,} x {dimension}, recall@{K} >= {options.recall}, {threads}; {cpu()}")
    print("| | build s | one query ms | batch queries/s | recall@10 | open s | memory MiB (mapped) | disk MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, f in figures.items():
        print(
            f"| {name}: {f['key']} | {f['build_s']:.1f} | {f['single_ms']:.2f} | {f['batch_qps']:,.0f} | {f['recall']:.3f} "
            f"| {f['open_s']:.2f} | {f['memory_mib']:,.0f} ({f['mapped_mib']:,.0f}) | {f['disk_mib']:,.0f} |"
        )
    ours = figures.get("ragvec")
    for name, f in figures.items():
        if ours and name != "ragvec":
            print(
                f"against {name}: built {f['build_s'] / ours['build_s']:.1f} times as fast, one query "
                f"{f['single_ms'] / ours['single_ms']:.2f} times, batches {ours['batch_qps'] / f['batch_qps']:.2f} times, "
                f"{f['memory_mib'] / ours['memory_mib']:.1f} times less memory"
            )


def cpu() -> str:
    """The vector instructions of this machine."""
    path = Path("/proc/cpuinfo")
    flags = set(path.read_text(encoding="utf-8").split()) if path.exists() else set()
    known = ("avx2", "avx512f", "avx512_bf16", "avx512_vpopcntdq", "amx_bf16")
    return f"CPU: {' '.join(flag for flag in known if flag in flags)}"


if __name__ == "__main__":
    main()
