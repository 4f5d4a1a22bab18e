"""An index of many documents: how long adding, finding, filtering, replacing and deleting take in index.sqlite.

    python -m tests.bench.rows --rows 10000000 --folder FOLDER

Synthetic documents of 12 words (Zipf over 200,000 words) with a year and a language; vectors of 8 dimensions, since what is
measured is the rows. Run again with the same folder, it goes on from the rows that are there; --rows says how many are wanted.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from ragvec.index import Index, IndexSettings
from ragvec.index.changes import Changes
from ragvec.records import Passage
from ragvec.retrieve import Retriever

DIMENSION, WORDS, VOCABULARY = 8, 12, 200_000
BLOCK_ROWS, COMMIT_ROWS = 4096, 1_000_000
LANGUAGES = ("en", "ko", "de", "fr")
TRIES = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    if not options.folder.exists():
        Index.create_with(options.folder, IndexSettings("bench", "0", DIMENSION)).close()
    with Index.open(options.folder) as index:
        fill(index, options.rows)
    with Index.open(options.folder) as index:
        with timed("open, count"):
            rows = len(index)
        size = (options.folder / "index.sqlite").stat().st_size
        print(f"{rows:,} rows; index.sqlite {size / 1e9:.2f} GB, {size / rows:.0f} bytes a row")
        look_up(index, rows)
        change(index, rows)


def fill(index: Index, rows: int) -> None:
    """Add documents, a million a commit, until there are so many."""
    for start in range(len(index), rows, COMMIT_ROWS):
        stop = min(start + COMMIT_ROWS, rows)
        with timed(f"adding rows {start:,} to {stop:,}"), index.writing() as writer:
            writer.commit(blocks(start, stop), Changes(writer.connection))


def blocks(start: int, stop: int) -> Iterator[tuple[list[Passage], np.ndarray]]:
    dice = np.random.default_rng(start)
    while start < stop:
        count = min(BLOCK_ROWS, stop - start)
        texts = [" ".join(f"w{word}" for word in line) for line in (dice.zipf(1.1, (count, WORDS)) % VOCABULARY).tolist()]
        years = dice.integers(1950, 2026, count).tolist()
        passages = [
            Passage(f"doc-{row}", f"doc-{row}#0", text, f"title {row}", {"year": year, "lang": LANGUAGES[row % 4]})
            for row, text, year in zip(itertools.count(start), texts, years, strict=False)
        ]
        yield passages, dice.standard_normal((count, DIMENSION), dtype=np.float32)
        start += count


def look_up(index: Index, rows: int) -> None:
    """What searches ask of the database."""
    dice = np.random.default_rng(1)
    retriever = Retriever(index)
    each("10 passages by id", lambda: index.passages(dice.integers(1, rows, 10).tolist()))
    each(
        "lexical, a rare word (1 in 10⁶)", lambda: retriever.retrieve(f"w{dice.integers(150_000, VOCABULARY)}", mode="lexical")
    )
    each("lexical, two middling words", lambda: retriever.retrieve(f"w{dice.integers(900, 1100)} w777", mode="lexical"))
    each("lexical, the commonest word", lambda: retriever.retrieve("w1", mode="lexical"), tries=3)
    for where in ('doc_id = "doc-77"', "year = 1999", 'year >= 2020 and lang = "ko"'):
        with timed(f"filter {where}, first time"), index.reading() as view:
            print(f"  {len(view.matching(where)):,} match")
        each(f"filter {where}, again, with words", partial(retriever.retrieve, "w777", mode="lexical", where=where), tries=5)


def change(index: Index, rows: int) -> None:
    """What later runs do."""
    dice = np.random.default_rng(2)
    each("delete 10 documents", lambda: index.delete([f"doc-{row}" for row in dice.integers(0, rows, 10)]), tries=5)
    with index.writing() as writer:
        changes = Changes(writer.connection)
        names = [f"doc-{row}" for row in dice.integers(0, rows, 10_000)]
        with timed("comparing 10,000 documents of a corpus with what is there"):
            for name in names:
                changes.is_fresh(Passage(name, f"{name}#0", "text"))


def each(what: str, call: Callable[[], object], tries: int = TRIES) -> None:
    """Print the median and the longest time of some calls."""
    times = []
    for _ in range(tries):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    print(f"{what}: {statistics.median(times):.2f} ms, at most {max(times):.2f}")


@contextmanager
def timed(what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - start:.2f} s", flush=True)


if __name__ == "__main__":
    main()
