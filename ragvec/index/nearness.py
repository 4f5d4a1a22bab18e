"""From which similarity on a passage is near a query, told from an index's own vectors: encoders differ in what 0.5 means."""

from collections.abc import Sequence

import numpy as np

from ragvec.index.ann.exact import RowFilter
from ragvec.index.segment import Segment

FEWEST = 16  # passages that say anything about others
SAMPLE = 64  # passages whose nearest neighbours are looked for
MOST_PRODUCTS = 2**31  # of two values, roughly, that are computed for it: large segments that are searched exactly get fewer


def measure_near(segments: Sequence[Segment], live: Sequence[np.ndarray | None]) -> float | None:
    """Half-way from the similarity of any two passages (mean) to that of nearest neighbours (median), in a sample.

    live     for each segment which rows live, (rows,) bool, or None where all do
    returns  None for too few passages, or vectors that don't tell them apart

    Of queries whose best hit is relevant 1 to 2 % stay below it with less than half of their words in the hit, of queries on
    other things and of nonsense 81 to 92 % (SciFact, SciTLDR, XQuAD, Cranfield, NFCorpus).
    """
    pairs, rows = list(zip(segments, live, strict=True)), rows_of(segments, live)
    total = sum(map(len, rows))
    if total < FEWEST:
        return None
    sample = vectors_at(segments, rows, sample_places(total, segments[0].vectors.shape[1]))
    nearest = np.full((len(sample), 2), -np.inf, dtype=np.float32)
    for segment, mask in pairs:
        allowed = None if mask is None else RowFilter(mask)
        if allowed is None or allowed.count:
            scores = segment.search(sample, 2, allowed).scores
            nearest = -np.sort(-np.hstack([nearest, scores]), axis=1)[:, :2]
    return near_between(sample, nearest[:, 1])  # the first is the passage itself


def near_between(sample: np.ndarray, second: np.ndarray) -> float | None:
    """What `measure_near` tells of a sample (n, d) float32, and of the similarities (n,) to the nearest passage but itself."""
    neighbours = float(np.median(second))
    any_two = float((sample @ sample.T)[~np.eye(len(sample), dtype=bool)].mean())
    return (any_two + neighbours) / 2 if neighbours - any_two > 1e-3 else None


def sample_places(total: int, dimension: int) -> np.ndarray:
    """Which of so many passages are looked at, at even distances; (n,) int64."""
    count = min(total, max(8, min(SAMPLE, MOST_PRODUCTS // (total * dimension))))
    return np.linspace(0, total - 1, count).astype(np.int64)


def rows_of(segments: Sequence[Segment], live: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """The rows of each segment that live, ascending."""
    pairs = zip(segments, live, strict=True)
    return [np.arange(segment.record.rows) if mask is None else np.flatnonzero(mask) for segment, mask in pairs]


def vectors_at(segments: Sequence[Segment], rows: Sequence[np.ndarray], places: np.ndarray) -> np.ndarray:
    """Vectors (n, dimension) float32 by their places, ascending, among these rows of all segments."""
    parts, start = [], 0
    for segment, here in zip(segments, rows, strict=True):
        mine = places[(places >= start) & (places < start + len(here))] - start
        parts.append(segment.vectors[here[mine]].astype(np.float32))
        start += len(here)
    return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)
