"""The topics of a map: its points in groups, and the words that tell each group from the others."""

from collections.abc import Callable, Sequence

import numpy as np

from ragvec.index.words.telling import telling_words
from ragvec.map.file import LONGEST_WORD, Topic

FEWEST, MOST = 3, 24  # topics
WORDS = 4  # of a topic
READ = 300  # passages of a topic whose words are weighed
_ROUNDS = 25


def topics_of(
    points: np.ndarray, texts: Callable[[Sequence[int]], list[str]], language: str
) -> tuple[np.ndarray, tuple[Topic, ...]]:
    """Which topic each point (n, 2) of a map belongs to, (n,) uint8, and the topics, the largest first.

    texts  gives the texts of points, by their numbers; language: what they are in
    """
    import faiss

    wanted = min(max(round(len(points) ** 0.5 / 2), FEWEST), MOST, len(points))
    places = np.ascontiguousarray(points, dtype=np.float32)
    groups = faiss.Kmeans(2, wanted, niter=_ROUNDS, seed=1, min_points_per_centroid=1, max_points_per_centroid=2**20)
    groups.train(places)
    found = groups.index.search(places, 1)[1].ravel()
    numbers, sizes = np.unique(found, return_counts=True)
    order = numbers[np.argsort(-sizes, kind="stable")]
    renumbered = np.zeros(wanted, dtype=np.uint8)
    renumbered[order] = np.arange(len(order))
    topics = renumbered[found]
    members = [np.flatnonzero(topics == number) for number in range(len(order))]
    read = [texts(_some(rows)) for rows in members]
    words = telling_words(read, language=language, most=WORDS)
    names = []
    for rows, said in zip(members, words, strict=True):
        x, y = np.median(points[rows], axis=0).astype(int).tolist()
        names.append(Topic(tuple(word[:LONGEST_WORD] for word in said), x, y))
    return topics, tuple(names)


def _some(rows: np.ndarray) -> list[int]:
    chosen: list[int] = rows[np.unique(np.linspace(0, len(rows) - 1, READ).astype(int))].tolist()
    return chosen
