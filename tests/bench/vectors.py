"""Vectors as an encoder makes them: a common direction, topics within topics, and a spectrum that falls."""

import numpy as np

BLOCK_ROWS = 65_536
ROWS_PER_TOPIC = 200


def clustered(rows: int, dimension: int, *, seed: int = 0) -> np.ndarray:
    """(rows, dimension) float32 of length 1, in no order; any two have a mean cosine near 0.3, two of a topic near 0.75."""
    dice = np.random.default_rng(seed)
    scale = np.arange(1, dimension + 1, dtype=np.float32) ** -0.5
    scale /= np.linalg.norm(scale)
    turn = np.linalg.qr(dice.standard_normal((dimension, dimension), dtype=np.float32))[0]
    fields = dice.standard_normal((64, dimension), dtype=np.float32) * scale
    topics = dice.standard_normal((max(64, rows // ROWS_PER_TOPIC), dimension), dtype=np.float32) * scale
    topics += fields[dice.integers(0, len(fields), len(topics))]
    common = dice.standard_normal(dimension, dtype=np.float32)
    common /= np.linalg.norm(common)
    vectors = np.empty((rows, dimension), dtype=np.float32)
    for start in range(0, rows, BLOCK_ROWS):
        block = vectors[start : start + BLOCK_ROWS]
        block[:] = dice.standard_normal(block.shape, dtype=np.float32) * scale
        block += common + topics[dice.integers(0, len(topics), len(block))]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        block[:] = block @ turn
    return vectors


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """The k rows with the highest inner product for each query, (n, k), by numpy alone."""
    best_scores = np.empty((len(queries), 0), np.float32)
    best_rows = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), BLOCK_ROWS):
        scores = queries @ vectors[start : start + BLOCK_ROWS].T
        rows = np.argpartition(-scores, min(k, scores.shape[1] - 1), axis=1)[:, :k]
        best_scores = np.hstack([best_scores, np.take_along_axis(scores, rows, 1)])
        best_rows = np.hstack([best_rows, rows + start])
        order = np.argsort(-best_scores, axis=1)[:, :k]
        best_scores, best_rows = np.take_along_axis(best_scores, order, 1), np.take_along_axis(best_rows, order, 1)
    return best_rows


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """The share of the true rows (n, k) among those found (n, k or more)."""
    return float(np.mean([np.isin(true, line).mean() for line, true in zip(found, truth, strict=True)]))
