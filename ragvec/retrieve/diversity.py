"""Maximal marginal relevance: hits that are relevant and unlike those above them."""

import numpy as np

from ragvec.retrieve.fusion import Candidate


def diversify(ranking: list[Candidate], vectors: np.ndarray, k: int, diversity: float) -> list[Candidate]:
    """The k passages that are chosen one by one for (1 - diversity) · relevance - diversity · likeness to those chosen before.

    ranking    candidates, best first; relevance is their score scaled to 0 … 1
    vectors    (n, d) float32, the candidates' own; likeness is the highest cosine with a chosen one
    returns    the chosen with their scores as they were, in the order of choice
    Source: Carbonell and Goldstein, SIGIR 1998.
    """
    if not ranking:
        return []
    relevance = np.array([one.score for one in ranking], dtype=np.float32)
    span = relevance.max() - relevance.min()
    relevance = (relevance - relevance.min()) / span if span > 0 else np.ones_like(relevance)
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    likeness = np.full(len(ranking), -1.0, dtype=np.float32)
    chosen: list[int] = []
    for _ in range(min(k, len(ranking))):
        worth = (1 - diversity) * relevance - (diversity * likeness if chosen else 0.0)
        worth[chosen] = -np.inf
        chosen.append(int(worth.argmax()))
        likeness = np.maximum(likeness, units @ units[chosen[-1]])
    return [ranking[place] for place in chosen]
