"""What is found by vectors and by words, made one: weighted sums of scores, and reciprocal rank fusion.

Both are defined for every passage of an index, whatever is asked for: the first ten of a hundred hits are the ten hits.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    import numpy as np

Ranking = list[tuple[int, float]]  # (passage id, score), best first

Fusion = Literal["weighted", "rrf"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)  # the first is the default
DENSE_WEIGHTS: dict[Fusion, float] = {
    "weighted": 0.8,
    "rrf": 0.5,
}  # the vectors' share where none is given; 0.8: Bruch, Gai, Ingber
FUSION_CONSTANT = 60
FUSION_DEPTH = 100  # of each kind: ranks that count in reciprocal rank fusion, and are told
_LEAST_COSINE = -1.0


class Candidate(NamedTuple):
    """A passage that was found, and what speaks for it.

    score       what it is ordered by
    similarity  of its vector and the query's: a cosine, or an inner product where the encoder's vectors have any length
    bm25        None where its words are not among the best
    dense_rank, lexical_rank  from 1 on; None where it was not come upon that way
    """

    passage: int
    score: float
    similarity: float | None = None
    bm25: float | None = None
    dense_rank: int | None = None
    lexical_rank: int | None = None


def by_similarity(ranking: Ranking) -> list[Candidate]:
    """What was found by vectors alone."""
    return [Candidate(passage, score, similarity=score, dense_rank=rank) for rank, (passage, score) in enumerate(ranking, 1)]


def by_words(ranking: Ranking) -> list[Candidate]:
    """What was found by words alone."""
    return [Candidate(passage, score, bm25=score, lexical_rank=rank) for rank, (passage, score) in enumerate(ranking, 1)]


def joined(dense: Ranking, lexical: Ranking, similarities: Callable[[Sequence[int]], "np.ndarray"]) -> list[Candidate]:
    """What was found either way, not scored yet.

    dense         the nearest passages
    lexical       those of the best words; all others have none that count
    similarities  of passages that words alone have brought up, (n,) float
    """
    found = {one.passage: one for one in by_similarity(dense)}
    others = [passage for passage, _ in lexical if passage not in found]
    if others:
        compared = zip(others, similarities(others).tolist(), strict=True)
        found |= {passage: Candidate(passage, 0.0, similarity) for passage, similarity in compared}
    for one in by_words(lexical):
        found[one.passage] = found[one.passage]._replace(bm25=one.bm25, lexical_rank=one.lexical_rank)
    return list(found.values())


def fuse_scores(candidates: Sequence[Candidate], dense_weight: float) -> list[Candidate]:
    """Scored by a weighted sum, 0 … 1: each scaled from the least it could be (cosine -1, BM25 0) to its query's best.

    So a ranking in which all score alike, as vectors do where an encoder does not know the language, says little.
    Source: Bruch, Gai, Ingber, An Analysis of Fusion Functions for Hybrid Retrieval, 2023 (TM2C2).
    """
    best = max((one.similarity or 0.0 for one in candidates), default=0.0)
    least = _LEAST_COSINE if abs(best) <= 1.01 else -2 * abs(best)  # products of vectors of any length have no least
    most = max((one.bm25 or 0.0 for one in candidates), default=0.0) or 1.0

    def score(one: Candidate) -> float:
        nearness, words = ((one.similarity or 0.0) - least) / (best - least), (one.bm25 or 0.0) / most
        return dense_weight * nearness + (1 - dense_weight) * words

    return sort(one._replace(score=score(one)) for one in candidates)


def fuse_ranks(candidates: Sequence[Candidate], dense_weight: float) -> list[Candidate]:
    """Scored by reciprocal ranks: the sum of weight / (60 + rank) over both kinds, the weights' mean being 1.

    Of passages that both brought up, ranks beyond FUSION_DEPTH don't count.
    Source: Cormack, Clarke, Büttcher, SIGIR 2009.
    """

    def part(rank: int | None, weight: float) -> float:
        return 0.0 if rank is None else 2 * weight / (FUSION_CONSTANT + rank)

    def score(one: Candidate) -> float:
        far = one.lexical_rank is not None and one.dense_rank is not None and one.dense_rank > FUSION_DEPTH
        return part(None if far else one.dense_rank, dense_weight) + part(one.lexical_rank, 1 - dense_weight)

    return sort(one._replace(score=score(one)) for one in candidates)


def sort(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Best first, equal scores by id."""
    return sorted(candidates, key=lambda one: (-one.score, one.passage))
