"""Points for vectors: principal components, exact neighbours in them, and t-SNE (openTSNE, interpolated on a grid).

UMAP (umap-learn 0.5) keeps fewer of the nearest neighbours and brings a compiler of 200 MB along; docs/serving.md has figures.
"""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from ragvec.errors import Unavailable
from ragvec.map.file import WIDTH

MOST_LAID_OUT = 20_000  # points that push and pull each other; others lie among the nearest of them
COMPONENTS = 50
PERPLEXITY = 15
EARLY, LATE = 100, 250  # rounds
_FEWEST_ON_GRID = 2000  # fewer points are faster without one
_BLOCK = 8192  # vectors that are held at once
_AMONG = 3

Vectors = Callable[[np.ndarray], np.ndarray]  # rows (m,) → their vectors (m, dimension) float32


def check_installed() -> None:
    """Raises Unavailable where the library that lays points out is not installed."""
    if find_spec("openTSNE") is None:
        raise Unavailable("a map needs openTSNE: pip install 'ragvec[map]'")


def lay_out(vectors: Vectors, count: int) -> np.ndarray:
    """Points (count, 2) uint16, 0 … WIDTH, such that passages with near vectors lie near each other."""
    landmarks = np.unique(np.linspace(0, count - 1, MOST_LAID_OUT).astype(int)) if count > MOST_LAID_OUT else np.arange(count)
    values = _components(vectors, count, landmarks)
    places = np.empty((count, 2))
    places[landmarks] = _by_neighbours(values[landmarks])
    others = np.setdiff1d(np.arange(count), landmarks, assume_unique=True)
    if len(others):
        places[others] = _among(values[landmarks], places[landmarks], values[others])
    return _scaled(places)


def _components(vectors: Vectors, count: int, landmarks: np.ndarray) -> np.ndarray:
    """The vectors' principal components, (count, c) float32, by those of the landmarks."""
    import faiss

    sample = np.ascontiguousarray(vectors(landmarks), dtype=np.float32)
    components = faiss.PCAMatrix(sample.shape[1], min(COMPONENTS, sample.shape[1], len(sample) - 1))
    components.train(sample)
    if len(landmarks) == count:
        return np.asarray(components.apply(sample))
    blocks = [np.arange(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]
    return np.vstack([components.apply(np.ascontiguousarray(vectors(rows), dtype=np.float32)) for rows in blocks])


def _by_neighbours(values: np.ndarray) -> np.ndarray:
    """Places (n, 2) by t-SNE, from the first two components on."""
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    near = min(3 * PERPLEXITY, len(values) - 1)
    ids, distances = _nearest(values, values, near + 1)
    knn = PrecomputedNeighbors(ids[:, 1:], distances[:, 1:])
    affinities = PerplexityBasedNN(perplexity=min(PERPLEXITY, near / 3), knn_index=knn, n_jobs=1)
    first = np.zeros((len(values), 2))
    first[:, : values.shape[1]] = values[:, :2]
    first *= 1e-4 / max(first[:, 0].std(), 1e-12)
    method = "fft" if len(values) > _FEWEST_ON_GRID else "bh"
    embedding = TSNEEmbedding(first, affinities, negative_gradient_method=method, n_jobs=1, random_state=0)
    embedding = embedding.optimize(n_iter=EARLY, exaggeration=12, momentum=0.5)
    return np.asarray(embedding.optimize(n_iter=LATE, momentum=0.8))


def _nearest(values: np.ndarray, asked: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each value asked for the nearest rows, (m, count), and how far they are; of a row itself, the row itself first."""
    import faiss

    index = faiss.IndexFlatL2(values.shape[1])
    index.add(values)
    squares, ids = index.search(asked, count)
    if asked is values:  # where others are the same, any of them may have come first
        rows, places = np.arange(len(ids)), np.argmax(ids == np.arange(len(ids))[:, None], axis=1)
        ids[rows, places] = ids[:, 0]
    return ids, np.sqrt(np.maximum(squares, 0))


def _among(landmarks: np.ndarray, places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Places of further values: among the nearest landmarks, nearer to the nearer ones."""
    ids, distances = _nearest(landmarks, values, _AMONG)
    weights = 1 / (distances + 1e-6)
    weights /= weights.sum(axis=1, keepdims=True)
    mean: np.ndarray = np.einsum("nk,nkd->nd", weights, places[ids])
    return mean


def _scaled(places: np.ndarray) -> np.ndarray:
    """Places as whole numbers that fill the square, but for its rim."""
    least, most = places.min(axis=0), places.max(axis=0)
    share = (places - least) / np.maximum(most - least, 1e-12)
    scaled: np.ndarray = np.round((0.03 + 0.94 * share) * WIDTH).astype(np.uint16)
    return scaled
