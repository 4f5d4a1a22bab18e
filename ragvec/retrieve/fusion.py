"""What is found by vectors and by words, made one: weighted sums of scores, and reciprocal rank fusion.

Both are defined for every passage of an index, whatever is asked for: the first ten of a hundred hits are the ten hits.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

Ranking = list[tuple[int, float]]  # (passage id, score), best first

FUSION_CONSTANT = 60
FUSION_DEPTH = 100  # passages of the most words, and ranks by vectors, that count; 50 find as much, 1,000 no more
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


def by_similarity(ids: Iterable[int], scores: Iterable[float]) -> list[Candidate]:
    """What was found by vectors alone."""
    pairs = enumerate(zip(ids, scores, strict=True), 1)
    return [Candidate(passage, score, similarity=score, dense_rank=rank) for rank, (passage, score) in pairs]


def by_words(ranking: Ranking) -> list[Candidate]:
    """What was found by words alone."""
    return [Candidate(passage, score, bm25=score, lexical_rank=rank) for rank, (passage, score) in enumerate(ranking, 1)]


class Candidates(NamedTuple):
    """What was found either way, not scored yet: arrays (n,) with a row for each passage.

    bm25  0 where its words are not among the best; ranks from 1 on, 0 where it was not come upon that way
    """

    passages: np.ndarray
    similarity: np.ndarray
    bm25: np.ndarray
    dense_rank: np.ndarray
    lexical_rank: np.ndarray

    def best(self, scores: np.ndarray, depth: int) -> list[Candidate]:
        """The `depth` of the highest scores (n,), best first, equal scores by id."""
        order = np.lexsort((self.passages, -scores))[:depth]
        columns = (column[order].tolist() for column in (self.passages, scores, *self[1:]))
        return [
            Candidate(
                passage,
                score,
                similarity=similarity,
                bm25=bm25 if words else None,
                dense_rank=near or None,
                lexical_rank=words or None,
            )
            for passage, score, similarity, bm25, near, words in zip(*columns, strict=True)
        ]


def joined(
    ids: np.ndarray, scores: np.ndarray, lexical: Ranking, similarities: Callable[[np.ndarray], np.ndarray]
) -> Candidates:
    """The nearest passages, best first, and those of the best words.

    ids, scores   of the nearest, (m,)
    similarities  of passages that words alone have brought up, (n,) → (n,)
    """
    worded = np.array([passage for passage, _ in lexical], dtype=np.int64)
    bm25 = np.array([score for _, score in lexical], dtype=np.float64)
    _, places, rows = np.intersect1d(ids, worded, assume_unique=True, return_indices=True)
    alone = np.setdiff1d(np.arange(len(worded)), rows, assume_unique=True)
    near, others = len(ids), len(alone)
    result = Candidates(
        passages=np.concatenate([ids, worded[alone]]),
        similarity=np.concatenate([scores, similarities(worded[alone])]).astype(np.float64),
        bm25=np.zeros(near + others),
        dense_rank=np.concatenate([np.arange(1, near + 1), np.zeros(others, np.int64)]),
        lexical_rank=np.zeros(near + others, np.int64),
    )
    for there, here in ((places, rows), (slice(near, None), alone)):
        result.bm25[there], result.lexical_rank[there] = bm25[here], here + 1
    return result


def fused_scores(candidates: Candidates, dense_weight: float, words_weight: float) -> np.ndarray:
    """A weighted sum of the similarity, as it is, and the words' part, 0 … 1; (n,).

    The words' part is BM25 scaled to the query's best, times what that best is worth (`words_worth`). So a score says how good
    a match is, and may be compared with those of other queries to the same encoder.
    words_weight  the BM25 that all words of the query would have
    """
    length = max(1.0, candidates.similarity.max(initial=1.0))  # above 1 of vectors that may have any
    most = candidates.bm25.max(initial=0.0)
    worth = words_worth(most / words_weight) / most if most > 0 and words_weight > 0 else 0.0
    scores: np.ndarray = dense_weight * candidates.similarity / length + (1 - dense_weight) * worth * candidates.bm25
    return scores


def words_worth(share: float) -> float:
    """What a passage's words are worth, 0 … 1, by the share of the query's words, in BM25, that it holds.

    0.71 for a third of them, 0.83 for a half, 1 for all: a long question's words are never all in its answer.
    """
    return min(1.0, (1 + HALF_WORTH) * share / (HALF_WORTH + share))


def fused_ranks(candidates: Candidates, dense_weight: float) -> np.ndarray:
    """Reciprocal ranks: the sum of weight / (60 + rank) over both kinds, the weights' mean being 1; (n,).

    Of passages that both brought up, ranks by vectors beyond FUSION_DEPTH don't count.
    Source: Cormack, Clarke, Büttcher, SIGIR 2009.
    """
    counts = (candidates.dense_rank > 0) & ((candidates.dense_rank <= FUSION_DEPTH) | (candidates.lexical_rank == 0))
    dense = np.where(counts, 2 * dense_weight / (FUSION_CONSTANT + candidates.dense_rank), 0.0)
    lexical = np.where(candidates.lexical_rank > 0, 2 * (1 - dense_weight) / (FUSION_CONSTANT + candidates.lexical_rank), 0.0)
    scores: np.ndarray = dense + lexical
    return scores
