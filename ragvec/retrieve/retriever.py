"""The retriever: from queries to hits, step by step."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragvec.errors import WrongInput
from ragvec.index import Index
from ragvec.index.encoder import check_encoder, load_encoder
from ragvec.records import Hit
from ragvec.retrieve.fusion import Ranking
from ragvec.retrieve.request import Request, check_queries
from ragvec.retrieve.rerank import MAXSIM, Reranker, load_reranker
from ragvec.retrieve.snippets import best_sentences
from ragvec.retrieve.stages import FirstStage, first_depth, second_stage

if TYPE_CHECKING:
    from ragvec.encoder import Encoder


class Retriever:
    """Finds passages for queries in an index. May be used from several threads."""

    def __init__(self, index: Index, encoder: "Encoder | None" = None, *, reranker: Reranker | None = None) -> None:
        """encoder   what makes query vectors; None is enough for lexical retrieval
        reranker  scores the best hits again; see `load_reranker`

        Raises RagvecError if the index was built with another encoder.
        """
        if encoder is not None:
            check_encoder(index.settings, encoder)
        self.index = index
        self.encoder = encoder
        self.reranker = reranker

    def retrieve(self, query: str, k: int = 10, *, instruction: str | None = None, **options: Any) -> list[Hit]:
        """The k best passages for a query, best first; fewer only if fewer match.

        instruction   what the query is for; None = the encoder's own
        mode          dense: similarity of vectors (score = cosine). lexical: the query's words (score = BM25).
                      hybrid (default): both, fused
        fusion        hybrid only; weighted (default): scores scaled to the query's best and added, score = 0 … 1.
                      rrf: reciprocal ranks, score = sum of 1 / (60 + rank)
        dense_weight  the share of the vectors in a fusion, 0 … 1; default: DENSE_WEIGHTS
        where         a filter on metadata, such as `year >= 2020 and lang = "ko"`; see ragvec.index.where
        offset        hits to pass over, for pages; ranks go on counting
        min_score     no hit below it; the score is the mode's or, if there is one, the reranker's
        group_by      "doc_id": of each document only its best passage
        diversity     0 (default) … 1: how much hits shall differ from those above them (maximal marginal relevance)
        rerank_depth  how many hits the reranker scores; default 50, or all that are asked for if more
        snippets      give each hit the sentence that is nearest to the query
        Raises RagvecError for an empty query, for options out of their range, for a wrong filter, and for a mode that needs
        an encoder where there is none.
        """
        if not isinstance(query, str):
            raise TypeError("query must be one string: for many queries call retrieve_many")
        return self.retrieve_many([query], k, instruction=instruction, **options)[0]

    def retrieve_many(
        self, queries: Sequence[str], k: int = 10, *, instruction: str | None = None, **options: Any
    ) -> list[list[Hit]]:
        """The same for many queries at once: they are encoded together and see one commit of the index."""
        request = Request(k=k, **options)
        check_queries(queries)
        if request.mode != "lexical" and self.encoder is None:
            raise WrongInput(f"{request.mode} retrieval needs an encoder: pass one to Retriever, or use mode='lexical'")
        vectors = None if request.mode == "lexical" else self.encoder.encode_queries(queries, instruction=instruction)
        with self.index.reading() as view:
            allowed = None if request.where is None else view.matching(request.where)
            first = FirstStage(view, request, allowed)
            rankings = first.rank(queries, vectors, first_depth(request, self.reranker))
            return [
                self._answer(first, query, None if vectors is None else vectors[row], rankings[row])
                for row, query in enumerate(queries)
            ]

    def _answer(self, first: FirstStage, query: str, vector: np.ndarray | None, ranking: Ranking) -> list[Hit]:
        request = first.request
        ranking = second_stage(first, query, vector, ranking, self.reranker)[request.offset : request.last]
        passages = first.view.passages([passage for passage, _ in ranking])
        snippets: Sequence[str | None] = [None] * len(passages)
        if request.snippets:
            snippets = best_sentences(query, [passage.text for passage in passages], vector, self.encoder)
        return [
            Hit(request.offset + place, score, p.doc_id, p.passage_id, p.title, p.text, p.metadata, snippet)
            for place, (p, (_, score), snippet) in enumerate(zip(passages, ranking, snippets, strict=True), 1)
        ]


def open_retriever(
    path: str | Path,
    *,
    mode: str = "hybrid",
    where: str | None = None,
    encoder: str | None = None,
    rerank: str | None = None,
    **options: Any,
) -> Retriever:
    """A Retriever over an index folder, with the encoder the index was built with; none is loaded where none is needed.

    where    a filter that will be asked for, checked before the encoder is loaded
    encoder  load this folder or hub id instead; it must be the same encoder
    rerank   "maxsim", or a cross-encoder's folder or hub id; None = hits stay as they are
    options  arguments of `Encoder.load` that change no vector: device, dtype, offline
    Raises RagvecError if there is no index, it is empty, the encoder is another, or the reranker can't be loaded.
    """
    index = Index.open(path)
    if not len(index):
        raise WrongInput(f"the index in {path} is empty: fill it with `ragvec index CORPUS -o {path}`")
    if where is not None:
        with index.reading() as view:
            view.check_where(where)
    needed = mode != "lexical" or rerank == MAXSIM
    loaded = load_encoder(index.settings, encoder, **options) if needed else None
    reranker = (
        None
        if rerank is None
        else load_reranker(rerank, loaded, device=options.get("device"), offline=options.get("offline", False))
    )
    return Retriever(index, loaded, reranker=reranker)
