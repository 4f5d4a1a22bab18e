"""The two stages of a retrieval: candidates from the index, then what is made of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ragvec.index import View
from ragvec.retrieve.asked import meaning
from ragvec.retrieve.diversity import diversify
from ragvec.retrieve.fusion import Ranking, fuse, fuse_scores, fusion_depth
from ragvec.retrieve.request import Request
from ragvec.retrieve.rerank import Reranker

DIVERSITY_POOL = 5  # candidates looked at per hit asked for, where hits shall differ
GROUP_POOL = 4  # passages looked at per document asked for, and how much deeper each further look goes


class FirstStage(NamedTuple):
    """Candidates of one commit for one request, of the passages allowed; None = all."""

    view: View
    request: Request
    allowed: np.ndarray | None

    def rank(self, queries: Sequence[str], vectors: np.ndarray | None, depth: int) -> list[Ranking]:
        """The `depth` best passages of each query, best first; vectors (n, d) are the queries', None for lexical."""
        mode = self.request.chosen_mode
        deep = fusion_depth(depth) if mode == "hybrid" else depth
        dense = [] if vectors is None else self._dense(vectors, deep)
        lexical = [] if mode == "dense" else [self._by_words(query, deep) for query in queries]
        if mode != "hybrid":
            return dense or lexical
        return [self._fused(*pair)[:depth] for pair in zip(dense, lexical, strict=True)]

    def _by_words(self, query: str, depth: int) -> Ranking:
        return self.view.search_lexical(query, depth, allowed=self.allowed, syntax=self.request.syntax)

    def _dense(self, vectors: np.ndarray, depth: int) -> list[Ranking]:
        nearest = self.view.search(vectors, depth, allowed=self.allowed)
        return [
            [(passage, score) for passage, score in zip(ids, scores, strict=True) if passage >= 0]
            for ids, scores in zip(nearest.ids.tolist(), nearest.scores.tolist(), strict=True)
        ]

    def _fused(self, dense: Ranking, lexical: Ranking) -> Ranking:
        weight = self.request.share
        if self.request.fusion == "weighted":
            return fuse_scores(dense, lexical, weight)
        return fuse([dense, lexical], [2 * weight, 2 * (1 - weight)])


def first_depth(request: Request, reranker: Reranker | None) -> int:
    """How many candidates the second stage needs to begin with."""
    depth = request.last
    if reranker is not None:
        depth = max(depth, request.rerank_depth)
    if request.diversity:
        depth = max(depth, DIVERSITY_POOL * request.last)
    return max(depth, GROUP_POOL * request.last) if request.group_by else depth


def second_stage(
    first: FirstStage, ranking: Ranking, *, query: str, vector: np.ndarray | None, reranker: Reranker | None
) -> Ranking:
    """The passages to show: candidates scored again, cut at the least score, grouped and made to differ, as asked.

    query, vector  what the candidates were found by; "" and None where there is none
    """
    request = first.request
    depth = first_depth(request, reranker)
    while True:
        kept = _reranked(first.view, meaning(query, syntax=request.syntax), ranking, reranker)
        if request.min_score is not None:
            kept = [(passage, score) for passage, score in kept if score >= request.min_score]
        ended = len(ranking) < depth or len(kept) < len(ranking)
        if not request.group_by:
            break
        kept = _best_of_documents(first.view, kept)
        if ended or len(kept) >= request.last:
            break
        depth *= GROUP_POOL  # documents of many passages fill the candidates: look deeper
        ranking = first.rank([query], None if vector is None else vector[None], depth)[0]
    if not request.diversity:
        return kept
    return diversify(kept, first.view.vectors([passage for passage, _ in kept]), request.last, request.diversity)


def _reranked(view: View, query: str, ranking: Ranking, reranker: Reranker | None) -> Ranking:
    if reranker is None or not ranking:
        return ranking
    passages = view.passages([passage for passage, _ in ranking])
    scores = reranker(query, [passage.encoded_text for passage in passages]).tolist()
    return sorted(((passage, score) for (passage, _), score in zip(ranking, scores, strict=True)), key=lambda item: -item[1])


def _best_of_documents(view: View, ranking: Ranking) -> Ranking:
    doc_ids = view.doc_ids([passage for passage, _ in ranking])
    best: dict[str, tuple[int, float]] = {}
    for doc_id, item in zip(doc_ids, ranking, strict=True):
        best.setdefault(doc_id, item)
    return list(best.values())
