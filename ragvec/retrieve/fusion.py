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
    "weighted": 0.6,
    "rrf": 0.5,
}  # the vectors' share where none is given
FUSION_CONSTANT = 60
FUSION_DEPTH = 100  # of each kind: ranks that count in reciprocal rank fusion, and are told
HALF_WORTH = 0.25  # the steepness of `words_worth`: higher makes a share of the words worth less


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


def fuse_scores(candidates: Sequence[Candidate], dense_weight: float, words_weight: float) -> list[Candidate]:
    """Scored by a weighted sum of the similarity, as it is, and the words' part, 0 … 1; best first.

    The words' part is BM25 scaled to the query's best, times what that best is worth (`words_worth`). So a score says how good
    a match is, and may be compared with those of other queries to the same encoder.
    words_weight  the BM25 that all words of the query would have
    """
    length = max((one.similarity or 0.0 for one in candidates), default=1.0)  # above 1 of vectors that may have any
    most = max((one.bm25 or 0.0 for one in candidates), default=0.0)
    worth = words_worth(most / words_weight) / most if most > 0 and words_weight > 0 else 0.0

    def score(one: Candidate) -> float:
        return dense_weight * (one.similarity or 0.0) / max(1.0, length) + (1 - dense_weight) * worth * (one.bm25 or 0.0)

    return sort(one._replace(score=score(one)) for one in candidates)


def words_worth(share: float) -> float:
    """What a passage's words are worth, 0 … 1, by the share of the query's words, in BM25, that it holds.

    0.71 for a third of them, 0.83 for a half, 1 for all: a long question's words are never all in its answer.
    """
    return min(1.0, (1 + HALF_WORTH) * share / (HALF_WORTH + share))


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
