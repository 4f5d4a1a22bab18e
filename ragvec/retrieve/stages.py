"""The two stages of a retrieval: candidates from the index, then what is made of them.

Both give the first hits of what they would give if more were asked for, so that pages follow from one another.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ragvec.index import View
from ragvec.retrieve.diversity import diversify
from ragvec.retrieve.fusion import (
    FUSION_DEPTH,
    Candidate,
    Ranking,
    by_similarity,
    by_words,
    fuse_ranks,
    fuse_scores,
    joined,
)
from ragvec.retrieve.request import Request
from ragvec.retrieve.rerank import MaxSim, Reranker, blend

GROUP_POOL = 4  # passages looked at per document asked for, and how much deeper each further look goes
DIVERSITY_POOL = 100  # hits that are made to differ; further ones follow in their order
WORDS_DEPTH = 256  # passages of the best words that a fusion looks at: fewer where a filter would have many passed over


class FirstStage(NamedTuple):
    """Candidates of one commit for one request, of the passages allowed; None = all."""

    view: View
    request: Request
    allowed: np.ndarray | None

    def rank(self, queries: Sequence[str], vectors: np.ndarray | None, depth: int) -> list[list[Candidate]]:
        """The `depth` best passages of each query, best first; vectors (n, d) are the queries', None for lexical.

        A passage's score does not depend on the depth, and the first of many are the same as the first of few.
        """
        mode = self.request.chosen_mode
        if vectors is None or mode == "lexical":
            return [by_words(self._by_words(query, depth)) for query in queries]
        dense = self._nearest(vectors, depth if mode == "dense" else max(depth, FUSION_DEPTH))
        if mode == "dense":
            return [by_similarity(ranking) for ranking in dense]
        rows = zip(queries, vectors, dense, strict=True)
        return [self._fused(query, vector, ranking)[:depth] for query, vector, ranking in rows]

    def _fused(self, query: str, vector: np.ndarray, dense: Ranking) -> list[Candidate]:
        """Of any passage beyond both lists, as many have a higher score as are in the vectors' list."""
        lexical = self._by_words(query, FUSION_DEPTH if self.allowed is not None else WORDS_DEPTH)
        candidates = joined(dense, lexical, lambda passages: self.view.similarities(vector, passages))
        fuse = fuse_scores if self.request.fusion == "weighted" else fuse_ranks
        return fuse(candidates, self.request.share)

    def _by_words(self, query: str, depth: int) -> Ranking:
        return self.view.search_lexical(query, depth, allowed=self.allowed)

    def _nearest(self, vectors: np.ndarray, depth: int) -> list[Ranking]:
        nearest = self.view.search(vectors, depth, allowed=self.allowed)
        return [
            [(passage, score) for passage, score in zip(ids, scores, strict=True) if passage >= 0]
            for ids, scores in zip(nearest.ids.tolist(), nearest.scores.tolist(), strict=True)
        ]


def first_depth(request: Request, reranker: Reranker | None) -> int:
    """How many candidates the second stage needs to begin with."""
    depth = max(request.last, DIVERSITY_POOL if request.diversity else 0)
    if request.group_by:
        depth *= GROUP_POOL
    return max(depth, request.rerank_depth if reranker is not None else 0)


def second_stage(
    first: FirstStage, ranking: list[Candidate], *, query: str, vector: np.ndarray | None, reranker: Reranker | None
) -> list[Candidate]:
    """The passages to show: candidates scored again, cut at the least score, grouped and made to differ, as asked.

    query, vector  what the candidates were found by; "" and None where there is none
    """
    request, view = first.request, first.view
    depth, wanted = first_depth(request, reranker), max(request.last, DIVERSITY_POOL if request.diversity else 0)
    again = _reranked(first, query, ranking[: request.rerank_depth], reranker)
    while True:
        kept = ranking if reranker is None else again + _after(again, ranking[request.rerank_depth - 1 :])
        if request.min_score is not None:
            kept = [one for one in (kept if reranker is None else again) if one.score >= request.min_score]
        ended = len(ranking) < depth or len(kept) < len(ranking)
        if not request.group_by:
            break
        kept = _best_of_documents(view, kept)
        if ended or len(kept) >= wanted:
            break
        depth *= GROUP_POOL  # documents of many passages fill the candidates: look deeper
        ranking = first.rank([query], None if vector is None else vector[None], depth)[0]
    if not request.diversity:
        return kept
    pool = kept[:DIVERSITY_POOL]
    return diversify(pool, view.vectors([one.passage for one in pool]), request.last, request.diversity) + kept[DIVERSITY_POOL:]


def _reranked(first: FirstStage, query: str, ranking: list[Candidate], reranker: Reranker | None) -> list[Candidate]:
    if reranker is None or not ranking:
        return ranking
    passages = first.view.passages([one.passage for one in ranking])
    scores = reranker(query, [passage.encoded_text for passage in passages])
    if isinstance(reranker, MaxSim):
        least = -1.0 if first.request.chosen_mode == "dense" else 0.0
        scores = blend([one.score for one in ranking], scores, least=least)
    rescored = zip(ranking, scores.tolist(), strict=True)
    return sorted((one._replace(score=score) for one, score in rescored), key=lambda one: -one.score)


def _after(again: list[Candidate], rest: list[Candidate]) -> list[Candidate]:
    """What was not scored again, behind what was: scores go down from the last one's by as much as they did before.

    rest  begins with the last one that was scored again, as it was
    """
    if not rest:
        return []
    drop = again[-1].score - rest[0].score
    return [one._replace(score=one.score + drop) for one in rest[1:]]


def _best_of_documents(view: View, ranking: list[Candidate]) -> list[Candidate]:
    doc_ids = view.doc_ids([one.passage for one in ranking])
    best: dict[str, Candidate] = {}
    for doc_id, one in zip(doc_ids, ranking, strict=True):
        best.setdefault(doc_id, one)
    return list(best.values())
