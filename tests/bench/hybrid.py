"""Hybrid search in process beside its halves: encoding the query, and searching by vectors alone; in turns, query by query.

    python -m tests.bench.hybrid --texts FILE.txt [--rows 1000000] [--queries 120] [--encoder ENCODER]

texts  one passage a line. Vectors are made ones that are as hard to search as a real index's (tests.bench.vectors); queries are
       eight words in a row out of random passages, encoded by the encoder (default: the bundled one). k is 10.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.index.changes import Changes
from ragvec.records import Passage
from ragvec.retrieve import Mode, Request, Retriever
from tests.bench.lexical import queries_of
from tests.bench.vectors import clustered

BLOCK = 8192
WARM = 10  # queries that are not counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=120)
    parser.add_argument("--encoder")
    options = parser.parse_args()
    with options.texts.open(encoding="utf-8") as lines:
        texts = [line.rstrip("\n") for line in islice(lines, options.rows)]
    encoder = Encoder.load(options.encoder)
    queries, _ = queries_of(texts, options.queries + WARM)
    with tempfile.TemporaryDirectory() as place, Index.create(Path(place) / "index", encoder=encoder) as index:
        begin = time.perf_counter()
        with index.writing() as writer:
            writer.commit(blocks(texts, encoder.dimension), Changes(writer.connection))
        seconds, [segment] = time.perf_counter() - begin, index.describe()["segments"]
        print(f"{len(texts):,} passages, {encoder.dimension} dimensions: added in {seconds:.0f} s, {segment['faiss_key']}")
        compare(Retriever(index, encoder), encoder, queries)


def blocks(texts: Sequence[str], dimension: int) -> Iterator[tuple[list[Passage], np.ndarray]]:
    """Passages with their vectors."""
    vectors = clustered(len(texts), dimension)
    for start in range(0, len(texts), BLOCK):
        block = texts[start : start + BLOCK]
        yield [Passage(f"{n}", f"{n}", text) for n, text in enumerate(block, start)], vectors[start : start + BLOCK]


def compare(retriever: Retriever, encoder: Encoder, queries: Sequence[str]) -> None:
    """Print medians in ms."""
    taken: dict[str, list[float]] = {"encode": [], "dense": [], "lexical": [], "hybrid": [], "hybrid, end to end": []}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = call()
        taken[name].append(1000 * (time.perf_counter() - begin))
        return result

    modes: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
    for query in queries:
        vector = timed("encode", partial(encoder.encode_queries, [query]))[0]
        for mode in modes:
            timed(mode, partial(retriever.answer, Request(query=query, vector=vector, mode=mode)))
        timed("hybrid, end to end", partial(retriever.retrieve, query))
    middle = {name: median(times[WARM:]) for name, times in taken.items()}
    print("  ".join(f"{name} {time:.2f} ms" for name, time in middle.items()))
    print(f"hybrid, end to end: {middle['hybrid, end to end'] / (middle['encode'] + middle['dense']):.2f} times encode + dense")


if __name__ == "__main__":
    main()
