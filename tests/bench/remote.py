"""One index, its halves as two folders, and the halves behind two servers: milliseconds a query, and whether hits are the same.

    python -m tests.bench.remote --rows 20000

Two `ragvec serve` on the loopback, each a process; queries bring their vectors: nothing is encoded. The median of 100 queries,
and the CPU time of a query in all processes, with the ratio to one index in the same run: the second says what a search costs
also where other work runs beside it.
"""

import argparse
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.joint import Joint
from ragvec.records import Document, Hit
from ragvec.remote import Server, Together
from ragvec.retrieve import Request, Retriever
from ragvec.retrieve.searched import Searched
from tests.bench.index import cpu
from tests.bench.vectors import clustered
from tests.serving import serving

ASKED, WORDS, VOCABULARY = 100, 40, 20_000
WAYS: dict[str, dict[str, Any]] = {
    "dense": {"mode": "dense"},
    "filtered": {"mode": "dense", "where": "year = 1999"},
    "words": {"mode": "lexical"},
    "hybrid": {},
}


def main() -> None:
    """Print a row for each way of searching."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    rows = parser.parse_args().rows
    encoder, dice = Encoder.load(), np.random.default_rng(0)
    made = clustered(rows + ASKED, encoder.dimension)
    words = dice.zipf(1.2, (rows, WORDS)) % VOCABULARY
    documents = [
        Document(f"{row}", " ".join(f"w{word}" for word in line), metadata={"year": 1950 + row % 76})
        for row, line in enumerate(words.tolist())
    ]
    with tempfile.TemporaryDirectory(prefix="ragvec-bench-") as base, ExitStack() as stack:
        folders = [Path(base) / name for name in ("one", "a", "b")]
        for folder, here in zip(folders, (slice(rows), slice(rows // 2), slice(rows // 2, rows)), strict=True):
            with Index.create(folder, encoder=encoder, language="english", faiss_key="exact") as index:
                index.add(documents[here], vectors=made[:rows][here])
        servers = [stack.enter_context(serving("-i", folder, cwd=Path(base))) for folder in folders[1:]]
        searched: dict[str, Searched] = {
            "one index": stack.enter_context(Index.open(folders[0])),
            "two folders": stack.enter_context(Joint.open(folders[1:])),
            "two servers": stack.enter_context(Together([Server(server.url) for server in servers])),
        }
        pids = [os.getpid(), *(server.process.pid for server in servers)]
        print(f"{rows:,} x {encoder.dimension}; {cpu()}")
        print("| | one index: ms, CPU ms | two folders | two servers | same hits |\n|---|---|---|---|---|")
        for name, way in WAYS.items():
            lexical = name == "words"
            asked = [
                Request(query=" ".join(f"w{word}" for word in line[:4]), vector=None if lexical else vector, **way)
                for line, vector in zip(words.tolist(), made[rows:], strict=False)
            ]
            found = {one: measured(Retriever(index), asked, pids) for one, index in searched.items()}
            first, *others = found.values()
            same = np.mean([same_hits(one, other) for one, other in zip(first[0], others[-1][0], strict=True)])
            shown = " | ".join(f"{ms:.2f}, {used:.2f} ({used / first[2]:.1f} times)" for _, ms, used in others)
            print(f"| {name} | {first[1]:.2f}, {first[2]:.2f} | {shown} | {same:.0%} |", flush=True)


def measured(retriever: Retriever, asked: list[Request], pids: list[int]) -> tuple[list[list[Hit]], float, float]:
    """What each request finds; of the second time, the median milliseconds and the mean CPU milliseconds in all processes."""
    found = [retriever.answer(request) for request in asked]
    times, used = [], sum(map(cpu_seconds, pids))
    for request in asked:
        begun = time.perf_counter()
        retriever.answer(request)
        times.append(1000 * (time.perf_counter() - begun))
    return found, statistics.median(times), 1000 * (sum(map(cpu_seconds, pids)) - used) / len(asked)


def cpu_seconds(pid: int) -> float:
    """What a process has taken of the CPUs so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def same_hits(one: list[Hit], other: list[Hit]) -> bool:
    """Whether two lists are the same, in the same order."""
    return [hit.doc_id for hit in one] == [hit.doc_id for hit in other]


if __name__ == "__main__":
    main()
