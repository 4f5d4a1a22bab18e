"""The two stages of a retrieval: candidates from the index, then what is made of them.

Both give the first hits of what they would give if more were asked for, so that pages follow from one another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ragvec.retrieve.asked import meaning
from ragvec.retrieve.diversity import diversify
from ragvec.retrieve.fusion import FUSION_DEPTH, Candidate, Ranking, by_similarity, by_words, fused_ranks, fused_scores, joined
from ragvec.retrieve.request import Request
from ragvec.retrieve.rerank import MaxSim, Reranker, blend
from ragvec.retrieve.searched import Allowed, SearchedView

GROUP_POOL = 4  # passages looked at per document asked for
DEEPER = 4  # times as deep goes each further look
DIVERSITY_POOL = 100  # hits that are made to differ; further ones follow in their order
FILTERED_DEPTH = 50  # passages of the best words in a fusion with a filter, where many that are not allowed are passed over
LEAST_SHARE = 0.5  # of the words of a query, by which a passage is no weak match


@dataclass(frozen=True, slots=True)
class FirstStage:
    """Candidates of one commit for one request, of the passages allowed; None = all."""

    view: SearchedView
    request: Request
    allowed: Allowed | None
    _weights: dict[str, float] = field(default_factory=dict, init=False)  # of the words of queries, which are asked for twice

    def rank(self, queries: Sequence[str], vectors: np.ndarray | None, depth: int) -> list[list[Candidate]]:
        """The `depth` best passages of each query, best first; vectors (n, d) are the queries', None for lexical.

        A passage's score does not depend on the depth, and the first of many are the same as the first of few.
        """
        mode = self.request.chosen_mode
        if vectors is None or mode == "lexical":
            return [by_words(self._by_words(query, depth)) for query in queries]
        nearest = self.view.search(vectors, _nearest_depth(depth), allowed=self.allowed)
        near = [(ids[ids >= 0], scores[ids >= 0]) for ids, scores in zip(nearest.ids, nearest.scores, strict=True)]
        if mode == "dense":
            return [by_similarity(ids[:depth].tolist(), scores[:depth].tolist()) for ids, scores in near]
        rows = zip(queries, vectors, near, strict=True)
        return [self._fused(query, vector, near, depth=depth) for query, vector, near in rows]

    def _fused(self, query: str, vector: np.ndarray, near: tuple[np.ndarray, np.ndarray], *, depth: int) -> list[Candidate]:
        """The best of what is near (ids and scores) and what has the words: any other passage scores below all that is near."""
        lexical = self._by_words(query, FUSION_DEPTH if self.allowed is None else FILTERED_DEPTH)
        candidates = joined(*near, lexical, lambda passages: self.view.similarities(vector, passages))
        if self.request.fusion == "rrf":
            return candidates.best(fused_ranks(candidates, self.request.share), depth)
        return candidates.best(fused_scores(candidates, self.request.share, self._words_weight(query)), depth)

    def _by_words(self, query: str, depth: int) -> Ranking:
        return self.view.search_lexical(query, depth, allowed=self.allowed, syntax=self.request.syntax)

    def is_weak(self, one: Candidate, query: str) -> bool:
        """Whether a passage neither is near the query nor holds half of its words (by their IDF), of what the mode looks at."""
        mode = self.request.chosen_mode
        near = mode != "lexical" and (self.view.near is None or one.similarity is None or one.similarity >= self.view.near)
        return not near and (mode == "dense" or (one.bm25 or 0.0) < LEAST_SHARE * self._words_weight(query))

    def _words_weight(self, query: str) -> float:
        """What all words of a query are worth in BM25."""
        if query not in self._weights:
            self._weights[query] = self.view.words_weight(query, syntax=self.request.syntax)
        return self._weights[query]


def _nearest_depth(depth: int) -> int:
    """How deep to look by vectors: the next of 100, 400, 1,600 …, since approximate search finds a little more when it is to
    find more, which would change the pages before."""
    deep = FUSION_DEPTH
    while deep < depth:
        deep *= DEEPER
    return deep


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
    again = _reranked(first, meaning(query, syntax=request.syntax), ranking[: request.rerank_depth], reranker)
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
        depth *= DEEPER  # documents of many passages fill the candidates: look deeper
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


def _best_of_documents(view: SearchedView, ranking: list[Candidate]) -> list[Candidate]:
    doc_ids = view.doc_ids([one.passage for one in ranking])
    best: dict[str, Candidate] = {}
    for doc_id, one in zip(doc_ids, ranking, strict=True):
        best.setdefault(doc_id, one)
    return list(best.values())
