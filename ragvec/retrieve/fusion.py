"""From two rankings to one: reciprocal rank fusion, and weighted sums of scores."""

from collections.abc import Sequence

Ranking = list[tuple[int, float]]  # (passage id, score), best first

FUSION_CONSTANT = 60
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
    """A weighted sum of scores, each scaled to 0 … 1 over its own ranking; a passage that a ranking lacks gets its 0 there.

    Source: Bruch, Gai, Ingber, An Analysis of Fusion Functions for Hybrid Retrieval, 2023 (convex combination, TM2C2).
    """
    sums: dict[int, float] = {}
    floor = min((score for _, score in dense), default=0.0)
    for ranking, weight, least in ((dense, dense_weight, floor), (lexical, 1 - dense_weight, 0.0)):
        span = max((score for _, score in ranking), default=0.0) - least
        for passage, score in ranking:
            sums[passage] = sums.get(passage, 0.0) + weight * ((score - least) / span if span > 0 else 1.0)
    return _sorted(sums)


def _sorted(sums: dict[int, float]) -> Ranking:
    return sorted(sums.items(), key=lambda item: -item[1])
