"""Which segments of an index become one after a commit, so that a search looks through few however many commits there were."""

from collections.abc import Sequence
from itertools import takewhile

from ragvec.index.ann import choice

MERGE_FACTOR = 16  # so many small segments of one size become one of the next
MERGE_SIZES = (1, MERGE_FACTOR, MERGE_FACTOR**2)  # rows from which a small segment is of each size
LARGE_FACTOR = 4  # so many segments that are too large for exact search become one: building its index costs more than copying
MOST_MERGED_VALUES = 2**31  # of vectors; building an index over so many takes 1.5 GB of memory. More wait for `compact`


def merging_tail(rows: Sequence[int], dimension: int, key: str) -> int:
    """How many of the newest segments are to become one, given the rows of each, oldest first; 0 = none.

    Newer ones go with older ones, for ids ascend from segment to segment. One of these makes it worth while:

    - small: 16 have 1–15 rows, or 16–255, or 256–4,095, and none of them more. So a row is copied three times.
    - exact: together they hold more than exact search is fast for, each by itself does not: as one they get a FAISS index.
    - large: 4 hold 1–4 times as many values as that, or 4–16 times, and so on. Each row is in one index a size.

    Ten commits of 100,000 vectors of 128 values, 12.8 million in each, where exact search is chosen up to 16 million: every
    second commit makes one segment of 200,000, the eighth one of 800,000 of all. Two are there in the end, where ten were.

    key  the index's faiss_key: where it is "exact", only small segments are merged
    """
    left, taken = list(rows), 0
    while tail := _tail(left, dimension, key):  # what comes of one merge may be due for the next: done at once
        taken = len(rows) - len(left) + tail
        left[-tail:] = [sum(left[-tail:])]
    return taken


def _tail(rows: Sequence[int], dimension: int, key: str) -> int:
    for least in MERGE_SIZES:
        if tail := _full(rows, least, MERGE_FACTOR):
            return tail
    if key == choice.EXACT_KEY:
        return 0
    exact = max(1, choice.EXACT_VALUES // dimension)
    tail = len(list(takewhile(exact.__ge__, reversed(rows))))
    if tail > 1 and sum(rows[-tail:]) > exact:
        return tail
    least = exact + 1
    while least <= max(rows, default=0):
        tail = _full(rows, least, LARGE_FACTOR)
        if tail and sum(rows[-tail:]) * dimension <= MOST_MERGED_VALUES:
            return tail
        least *= LARGE_FACTOR
    return 0


def _full(rows: Sequence[int], least: int, factor: int) -> int:
    """How many of the newest hold less than `factor` times the least, if so many of them hold that at least; else 0."""
    tail = list(takewhile((least * factor).__gt__, reversed(rows)))
    return len(tail) if sum(count >= least for count in tail) >= factor else 0
