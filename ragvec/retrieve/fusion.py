"""From two rankings to one: weighted sums of scores, and reciprocal rank fusion."""

from collections.abc import Sequence
from typing import Literal, get_args

Ranking = list[tuple[int, float]]  # (passage id, score), best first

Fusion = Literal["weighted", "rrf"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)  # the first is the default
DENSE_WEIGHTS: dict[Fusion, float] = {
    "weighted": 0.8,
    "rrf": 0.5,
}  # the vectors' share where none is given; 0.8: Bruch, Gai, Ingber
FUSION_CONSTANT = 60
_LEAST_COSINE = -1.0
FUSION_DEPTH = 100  # hits of each kind that fusion looks at, or as many as are asked for if that is more


def fusion_depth(last: int) -> int:
    """How deep to look for `last` fused hits: the next of 100, 200, 400 …, so that one page follows from another."""
    depth = FUSION_DEPTH
    while depth < last:
        depth *= 2
    return depth


def fuse(rankings: Sequence[Ranking], weights: Sequence[float] | None = None) -> Ranking:
    """Reciprocal rank fusion: each ranking gives a passage weight / (60 + rank). Equal sums keep the first ranking's order.

    weights  one a ranking; None = 1 each
    Source: Cormack, Clarke, Büttcher, SIGIR 2009.
    """
    sums: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for rank, (passage, _) in enumerate(ranking, 1):
            sums[passage] = sums.get(passage, 0.0) + weight / (FUSION_CONSTANT + rank)
    return _sorted(sums)


def fuse_scores(dense: Ranking, lexical: Ranking, dense_weight: float) -> Ranking:
    """A weighted sum of scores, 0 … 1: each scaled from the least it could be (cosine -1, BM25 0) to its query's best.

    So a ranking in which all score alike, as vectors do where an encoder does not know the language, says little. A passage
    that the words found and the vectors didn't gets the last vector's score; one without the query's words gets 0 for them.
    Source: Bruch, Gai, Ingber, An Analysis of Fusion Functions for Hybrid Retrieval, 2023 (TM2C2).
    """
    cosines = dict(dense)
    last = min(cosines.values(), default=_LEAST_COSINE)
    vectors = cosines | {passage: last for passage, _ in lexical if passage not in cosines}
    vectors, words = _scaled(vectors, min(last, _LEAST_COSINE)), _scaled(dict(lexical), 0.0)
    return _sorted({p: dense_weight * score + (1 - dense_weight) * words.get(p, 0.0) for p, score in vectors.items()})


def _scaled(scores: dict[int, float], least: float) -> dict[int, float]:
    span = max(scores.values(), default=0.0) - least
    return {passage: (score - least) / span if span > 0 else 0.0 for passage, score in scores.items()}


def _sorted(sums: dict[int, float]) -> Ranking:
    return sorted(sums.items(), key=lambda item: -item[1])
