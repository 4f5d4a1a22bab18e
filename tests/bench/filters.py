"""What a filter's first use takes, with and without a table of its field's values.

    python -m tests.bench.filters --rows 500000

Synthetic passages of 60 words with a year, a language and three groups of 1,000; in index.sqlite alone, since words and vectors
take no part. The median of three.
"""

import argparse
import random
import sqlite3
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from ragvec.artefacts import DATABASE_NAME
from ragvec.index import IndexSettings, store
from ragvec.index.where import parse_where
from ragvec.records import Passage

BLOCK_ROWS, TRIES = 4096, 3
FIELDS = ("year", "lang", "groups")
IDS = [f"g{n:03}-{'0' * 28}" for n in range(1000)]
FILTERS: list[tuple[str, dict[str, list[str]]]] = [
    ("year = 1999", {}),
    ("year >= 1980", {}),
    ('year >= 2020 and lang = "ko"', {}),
    ("groups in $few", {"few": IDS[:1]}),
    ("groups in $acl", {"acl": [*IDS[:20], *(f"elsewhere {n}" for n in range(1980))]}),
    ("lang != 'ko'", {}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    rows = parser.parse_args().rows
    found: dict[str, list[str]] = {where: [] for where, _ in FILTERS}
    for fields in ((), FIELDS):
        with TemporaryDirectory() as folder:
            store.create_store(Path(folder), IndexSettings("bench", "0", 8, filter_fields=fields))
            connection = sqlite3.connect(Path(folder) / DATABASE_NAME, isolation_level=None)
            fill(connection, rows, fields)
            for where, values in FILTERS:
                count, took = timed(connection, where, values)
                found[where].append(f"{took:.0f}")
                found[where][0:0] = [] if fields else [f"{count:,}"]
            connection.close()
    print("| filter | matches | every passage read | from the table |\n|---|---|---|---|")
    for where, cells in found.items():
        print(f"| `{where}` | {' | '.join(cells)} |")


def fill(connection: sqlite3.Connection, rows: int, fields: tuple[str, ...]) -> None:
    start = time.perf_counter()
    connection.execute("BEGIN")
    for ids, passages in blocks(rows):
        store.insert_passages(connection, ids, passages, [None] * len(ids))
    connection.execute("COMMIT")
    size = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()[0]
    print(
        f"fields {', '.join(fields) or 'none'}: {time.perf_counter() - start:.0f} s to add, {size / rows:.0f} bytes a passage"
    )


def blocks(rows: int) -> Iterator[tuple[list[int], list[Passage]]]:
    dice = random.Random(1)
    text = "word " * 60
    for start in range(1, rows + 1, BLOCK_ROWS):
        ids = list(range(start, min(start + BLOCK_ROWS, rows + 1)))
        yield (
            ids,
            [
                Passage(
                    f"doc-{n}#0",
                    f"doc-{n}",
                    text,
                    metadata={
                        "year": dice.randrange(1950, 2026),
                        "lang": dice.choice(("en", "ko", "de", "fr")),
                        "groups": dice.choices(IDS, k=3),
                    },
                )
                for n in ids
            ],
        )


def timed(connection: sqlite3.Connection, where: str, values: dict[str, list[str]]) -> tuple[int, float]:
    """How many passages match, and the milliseconds that takes."""
    times, count = [], 0
    for _ in range(TRIES):
        start = time.perf_counter()
        count = len(store.matching_ids(connection, parse_where(where, store.read_fields(connection), values)))
        times.append(1000 * (time.perf_counter() - start))
    return count, statistics.median(times)


if __name__ == "__main__":
    main()
