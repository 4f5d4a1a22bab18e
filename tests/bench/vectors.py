"""Vectors as an encoder makes them, and how like a real index's they are.

    python -m tests.bench.vectors INDEX      the vectors of an index, and made ones of the same shape, side by side

A common direction, topics within topics within fields, each at its own distance from what it belongs to, and a spectrum that
falls. The numbers below were chosen so that made vectors are as hard to search as those of 63,666 package descriptions
(`tests.bench.debian`) by the bundled encoder.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ragvec.index.ann.threads import load_faiss

BLOCK_ROWS = 65_536
FIELDS, ROWS_PER_TOPIC, ROWS_PER_SUBTOPIC = 256, 16, 4
COMMON, SPREAD = 1.3, 1.0  # how far all vectors lie from the origin, and one from its subtopic; a level is 1
VARIETY = 0.5  # of those distances: the deviation of their logarithm
FALL = 0.35  # the n-th direction has n ** -0.35 of the first one's deviation
K, COMPARED, PAIRS = 10, 500, 20_000


def clustered(rows: int, dimension: int, *, seed: int = 0) -> np.ndarray:
    """(rows, dimension) float32 of length 1, in no order."""
    vectors = np.empty((rows, dimension), dtype=np.float32)
    for start, block in clustered_blocks(rows, dimension, seed=seed):
        vectors[start : start + len(block)] = block
    return vectors


def clustered_blocks(rows: int, dimension: int, *, seed: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """The same some at a time, and where they begin: memory holds a third as much."""
    dice = np.random.default_rng(seed)
    scale = np.arange(1, dimension + 1, dtype=np.float32) ** -FALL
    scale /= np.linalg.norm(scale)
    turn = np.linalg.qr(dice.standard_normal((dimension, dimension), dtype=np.float32))[0]
    common = dice.standard_normal((1, dimension), dtype=np.float32)
    centres = COMMON * common / np.linalg.norm(common)
    for count in (FIELDS, rows // ROWS_PER_TOPIC, rows // ROWS_PER_SUBTOPIC):
        centres = _around(centres, max(FIELDS, count), scale, dice)
    for start in range(0, rows, BLOCK_ROWS):
        block = _around(centres, min(BLOCK_ROWS, rows - start), SPREAD * scale, dice)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        yield start, block @ turn


def _around(centres: np.ndarray, count: int, scale: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """Points (count, d), each in any direction from any of the centres, as far as chance has it."""
    points: np.ndarray = dice.standard_normal((count, len(scale)), dtype=np.float32) * scale
    points *= np.exp(VARIETY * dice.standard_normal((count, 1), dtype=np.float32))
    points += centres[dice.integers(0, len(centres), count)]
    return points


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    real = stored(parser.parse_args().index)
    made = clustered(*real.shape)
    print(f"{len(real):,} x {real.shape[1]}; {COMPARED} of the vectors as queries, the rest searched")
    print("| | the index | made |")
    print("|---|---|---|")
    for (what, one), (_, other) in zip(figures(real), figures(made), strict=True):
        print(f"| {what} | {one} | {other} |")


def stored(path: Path) -> np.ndarray:
    """The vectors of an index, (rows, d) float32 of length 1, shuffled."""
    from ragvec.index import Index

    with Index.open(path) as index, index.reading() as view:
        vectors = np.concatenate([segment.vectors for segment in view.segments]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.random.default_rng(0).permutation(vectors)


def figures(vectors: np.ndarray) -> list[tuple[str, str]]:
    """What says how hard vectors are to search."""
    faiss = load_faiss()
    queries, rest = vectors[:COMPARED], vectors[COMPARED:]
    truth = nearest(rest, queries, K)
    left, right = np.random.default_rng(0).integers(0, len(rest), (2, PAIRS))
    cosines = np.einsum("nd,nd->n", rest[left], rest[right])
    close = np.median(np.einsum("nd,nkd->nk", queries, rest[truth[:, [0, -1]]]), axis=0)
    spread = np.linalg.eigvalsh(np.cov(rest.T))
    found = [
        ("cosine of any two, mean ± deviation", f"{cosines.mean():.2f} ± {cosines.std():.2f}"),
        ("cosine of the nearest and of the tenth, median", f"{close[0]:.2f}, {close[1]:.2f}"),
        ("effective dimensions, (Σλ)² / Σλ²", f"{spread.sum() ** 2 / (spread**2).sum():.0f}"),
    ]
    nlist = 2 ** round(np.log2(len(rest) / 400))
    index = faiss.index_factory(rest.shape[1], f"IVF{nlist},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(rest)
    index.add(rest)
    for index.nprobe in (1, 4, 16, 64):
        share = recall(index.search(queries, K)[1], truth)
        found.append((f"recall@{K}, {index.nprobe} of {nlist} lists", f"{share:.3f}"))
    index = faiss.index_factory(rest.shape[1], f"PQ{rest.shape[1] // 4}x4fs", faiss.METRIC_INNER_PRODUCT)
    index.train(rest)
    index.add(rest)
    for pool in (20, 40, 160):
        share = recall(index.search(queries, pool)[1], truth)
        found.append((f"recall@{K}, best {pool} by four bits for 4 values", f"{share:.3f}"))
    return found


if __name__ == "__main__":
    main()
