"""How vectors are stored: float32, float16, int8 with a scale for each vector, or one bit a dimension."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

STORED_AS: dict[str, np.dtype[Any]] = {
    "float16": np.dtype(np.float16),
    "float32": np.dtype(np.float32),
    "int8": np.dtype(np.int8),
    "binary": np.dtype(np.uint8),
}
DTYPES = tuple(STORED_AS)
_LARGEST = 127


class Stored(NamedTuple):
    """Vectors as stored: codes (n, width), and for int8 what each row is multiplied by (n,) float32, else None."""

    codes: np.ndarray
    scales: np.ndarray | None

    def rows(self, rows: Sequence[int] | np.ndarray) -> "Stored":
        """Some of them."""
        return Stored(self.codes[rows], None if self.scales is None else self.scales[rows])

    def put(self, rows: Sequence[int] | np.ndarray, other: "Stored") -> None:
        """Overwrite some rows."""
        self.codes[rows] = other.codes
        if self.scales is not None:
            self.scales[rows] = other.scales


def empty(rows: int, dtype: str, dimension: int) -> Stored:
    """Room for so many vectors, contents undefined."""
    width = -(-dimension // 8) if dtype == "binary" else dimension
    return Stored(np.empty((rows, width), STORED_AS[dtype]), np.empty(rows, np.float32) if dtype == "int8" else None)


def store(vectors: np.ndarray, dtype: str) -> Stored:
    """Vectors (n, d) float32 as they are stored; a float16 that is too large becomes infinite.

    int8     each vector times 127 over its largest component, rounded; the scale turns it back
    binary   a bit a dimension, 1 where it is positive, first dimension in the highest bit of the first byte
    """
    if dtype == "int8":
        scales = np.abs(vectors).max(axis=1) / _LARGEST
        return Stored(np.rint(vectors / np.where(scales == 0, 1, scales)[:, None]).astype(np.int8), scales.astype(np.float32))
    if dtype == "binary":
        return Stored(np.packbits(vectors > 0, axis=1), None)
    with np.errstate(over="ignore"):
        return Stored(vectors.astype(STORED_AS[dtype]), None)


def restore(stored: Stored, dtype: str, dimension: int) -> np.ndarray:
    """Vectors (n, d) again: float16 and float32 as they are, int8 as float32, binary as float32 of length 1."""
    if dtype == "int8":
        assert stored.scales is not None
        vectors: np.ndarray = stored.codes.astype(np.float32) * stored.scales[:, None]
        return vectors
    if dtype == "binary":
        bits = np.unpackbits(stored.codes, axis=1, count=dimension)
        signs: np.ndarray = (bits * np.float32(2) - 1) / np.float32(dimension**0.5)
        return signs
    return stored.codes


def recall_of(exact: np.ndarray, restored: np.ndarray, *, k: int = 10, queries: int = 200) -> float | None:
    """The share of each vector's k nearest neighbours, by inner product, that are still its nearest after storing.

    exact, restored   (n, d), the same vectors before and after; the first `queries` of them search among all the others
    returns           None for fewer than 3 k vectors, whose neighbours tell nothing
    """
    if len(exact) < 3 * k:
        return None
    queries = min(queries, len(exact))
    neighbours = [_neighbours(vectors.astype(np.float32), exact[:queries], k) for vectors in (exact, restored)]
    shared = [len(set(a) & set(b)) for a, b in zip(*neighbours, strict=True)]
    return round(sum(shared) / (k * queries), 4)


def _neighbours(vectors: np.ndarray, queries: np.ndarray, k: int) -> list[list[int]]:
    scores = queries @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    nearest: list[list[int]] = np.argpartition(-scores, k, axis=1)[:, :k].tolist()
    return nearest
