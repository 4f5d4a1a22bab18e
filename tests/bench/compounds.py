"""German compounds: how well a title finds its text, by stems alone and with the parts of compounds.

    python -m tests.bench.compounds Translation-de.bz2

The file is Debian's German descriptions of packages (dists/bookworm/main/i18n); of each, the first line is the query and the
rest is what it looks for.
"""

import argparse
import bz2
import random
import re
import tempfile
import time
from pathlib import Path

from ragvec.index.words import Words, WordsRecord, WordWriter
from ragvec.records import Passage

LANGUAGES = ("german", "german-compounds")
QUERIES = 1_500
K = 10
_ENTRY = re.compile(r"Package: \S+\nDescription-md5: \S+\nDescription-de: (.*?)\n(.{150,})", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("descriptions", type=Path)
    options = parser.parse_args()
    rows = read_rows(options.descriptions)
    for language in LANGUAGES:
        with tempfile.TemporaryDirectory() as folder:
            writer = WordWriter(Path(folder) / "words", Path(folder) / "new", WordsRecord(), language)
            begin = time.process_time()
            writer.add(range(len(rows)), [Passage(str(number), str(number), text) for number, (_, text) in enumerate(rows)])
            words = Words(Path(folder) / "words", writer.finish(), language)
            built = time.process_time() - begin
            ranks = [[number for number, _ in words.search(title, K)] for title, _ in rows[:QUERIES]]
        found = sum(1 / (hits.index(number) + 1) for number, hits in enumerate(ranks) if number in hits)
        print(
            f"{language:17} MRR@{K} {found / len(ranks):.4f}   built in {built:.1f} CPU seconds of {len(rows):,} passages",
            flush=True,
        )


def read_rows(path: Path) -> list[tuple[str, str]]:
    """Titles and texts, each once, in an order drawn by a seed."""
    with bz2.open(path, "rt", encoding="utf-8") as file:
        entries = [found for entry in file.read().split("\n\n") if (found := _ENTRY.match(entry))]
    seen: set[str] = set()
    rows = []
    for title, text in ((entry[1], re.sub(r"\s+", " ", entry[2])) for entry in entries):
        if seen.isdisjoint((title, text)):
            rows.append((title, text))
        seen.update((title, text))
    random.Random(0).shuffle(rows)
    return rows


if __name__ == "__main__":
    main()
