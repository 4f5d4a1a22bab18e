"""Words: building and searching beside SQLite's FTS5 (which held them before), bm25s and LanceDB's full-text search.

    python -m tests.bench.lexical --texts FILE.txt [--rows 1000000] [--queries 120] [--systems ragvec,fts5,bm25s,lancedb]

texts  one passage a line. Queries are eight words in a row out of random passages; k is 100; one thread; times are medians and
       the 99th of 100. `common` is a query of the eight most frequent words that are no function words. A filter allows 1 %.
"""

import argparse
import random
import re
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ragvec.index.words import DEFAULT_LANGUAGE, Words, WordsRecord, WordWriter
from ragvec.index.words.analysis import STOPWORDS, folded_words
from ragvec.records import Passage

K = 100
BLOCK = 8192
Search = Callable[[str], object]


def ragvec(passages: Sequence[Passage], folder: Path) -> Search:
    """Our own, through the writer that an index's commits use, of passages as an index has them at hand."""
    writer = WordWriter(folder / "words", folder / "words.new", WordsRecord(), DEFAULT_LANGUAGE)
    for start in range(0, len(passages), BLOCK):
        block = passages[start : start + BLOCK]
        writer.add(range(start, start + len(block)), block)
    return partial(Words(folder / "words", writer.finish(), DEFAULT_LANGUAGE).search, k=K)


def fts5(texts: Sequence[str], folder: Path) -> Search:
    """SQLite's, with the tokenizer and the query that ragvec had."""
    connection = sqlite3.connect(folder / "fts5.sqlite")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text, content='', tokenize=\"porter unicode61\")")
    connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(texts))
    connection.commit()

    def search(query: str) -> object:
        words = dict.fromkeys(word for word in re.findall(r"\w+", query.lower()) if word not in STOPWORDS)
        asked = " OR ".join(f'"{word}"' for word in words) or '""'
        statement = "SELECT rowid, -rank FROM words WHERE words MATCH ? ORDER BY rank, rowid LIMIT ?"
        return connection.execute(statement, (asked, K)).fetchall()

    return search


def bm25s(texts: Sequence[str], folder: Path) -> Search:
    """bm25s, all in memory."""
    import bm25s as library
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    retriever = library.BM25()
    retriever.index(library.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False)

    def search(query: str) -> object:
        tokens = library.tokenize([query], stopwords="en", stemmer=stemmer, show_progress=False)
        return retriever.retrieve(tokens, k=K, show_progress=False)

    return search


def lancedb(texts: Sequence[str], folder: Path) -> Search:
    """LanceDB's full-text search."""
    import lancedb as library

    table = library.connect(folder / "lance").create_table("words", [{"id": n, "text": text} for n, text in enumerate(texts)])
    table.create_fts_index("text", use_tantivy=False)
    return lambda query: table.search(query, query_type="fts").select(["id"]).limit(K).to_arrow()


SYSTEMS: dict[str, Callable[[Any, Path], Search]] = {  # of texts; ours of passages
    "ragvec": ragvec,
    "fts5": fts5,
    "bm25s": bm25s,
    "lancedb": lancedb,
}


def queries_of(texts: Sequence[str], count: int) -> tuple[list[str], str]:
    """Queries of eight words in a row, and one of the most frequent words."""
    draw = random.Random(1)
    queries = []
    for text in draw.choices(texts, k=count):
        words = text.split()
        start = draw.randrange(max(1, len(words) - 8))
        queries.append(" ".join(words[start : start + 8]))
    frequent = Counter(word for text in draw.choices(texts, k=20_000) for word in folded_words(text).split())
    return queries, " ".join(islice((word for word, _ in frequent.most_common() if word not in STOPWORDS and len(word) > 1), 8))


def times(search: Search, queries: Sequence[str]) -> tuple[float, float]:
    """The median and the 99th of 100 in ms, after one round that warms."""
    taken = []
    for query in (*queries[:10], *queries):
        begin = time.perf_counter()
        search(query)
        taken.append(1000 * (time.perf_counter() - begin))
    median, slow = np.percentile(taken[min(10, len(queries)) :], [50, 99])
    return float(median), float(slow)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=120)
    parser.add_argument("--systems", default="ragvec,fts5,bm25s,lancedb")
    options = parser.parse_args()
    with options.texts.open(encoding="utf-8") as lines:
        texts = [line.rstrip("\n") for line in islice(lines, options.rows)]
    queries, common = queries_of(texts, options.queries)
    print(f"{len(texts):,} passages; ms a query: median, 99th of 100, the commonest words ({common})")
    with tempfile.TemporaryDirectory() as place:
        for name in options.systems.split(","):
            rows: Sequence[object] = [Passage("", "", text) for text in texts] if name == "ragvec" else texts
            begin = time.perf_counter()
            search = SYSTEMS[name](rows, Path(place))
            built = time.perf_counter() - begin
            median, slow = times(search, queries)
            line = f"{median:7.2f} {slow:8.2f} {times(search, [common] * 5)[0]:8.2f}"
            print(f"{name:8} built in {built:6.1f} s   {line}", flush=True)
            if isinstance(search, partial):  # ours: the others' filters are other things
                allowed = np.sort(np.random.default_rng(0).choice(len(texts), len(texts) // 100, replace=False))
                median, slow = times(partial(search, allowed=allowed), queries)
                print(f"{'':8} with a filter that 1 % meet {median:7.2f} {slow:8.2f}", flush=True)


if __name__ == "__main__":
    main()
