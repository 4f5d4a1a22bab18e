"""Retrieval: text in, hits out; by vectors, by words, or by both."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragvec.errors import RagvecError
from ragvec.index import Index, View
from ragvec.index.origin import check_encoder, load_encoder
from ragvec.records import Hit

if TYPE_CHECKING:
    from ragvec.encoder import Encoder

MODES = ("dense", "lexical", "hybrid")
FUSION_CONSTANT = 60
FUSION_DEPTH = 100  # hits of each kind that fusion looks at, or k if that is more

Ranking = list[tuple[int, float]]  # (passage id, score), best first


class Retriever:
    """Finds passages for queries in an index."""

    def __init__(self, index: Index, encoder: "Encoder | None" = None) -> None:
        """encoder: what makes query vectors; None is enough for lexical retrieval.

        Raises RagvecError if the index was built with another encoder.
        """
        if encoder is not None:
            check_encoder(index.settings, encoder)
        self.index = index
        self.encoder = encoder

    def retrieve(
        self,
        query: str,
        k: int = 10,
        *,
        mode: str = "hybrid",
        instruction: str | None = None,
        where: np.ndarray | None = None,
    ) -> list[Hit]:
        """The k best passages for a query, best first; fewer only if fewer match.

        mode         dense: similarity of vectors (score = cosine). lexical: the query's words (score = BM25).
                     hybrid: both, by reciprocal rank fusion (score = sum of 1 / (60 + rank))
        instruction  what the query is for; None = the encoder's own
        where        (m,) ids of the passages that may be found; None = all
        Raises RagvecError for an empty query, k < 1, an unknown mode, or a mode that needs an encoder where there is none.
        """
        if not isinstance(query, str):
            raise TypeError("query must be one string: for many queries call retrieve_many")
        return self.retrieve_many([query], k, mode=mode, instruction=instruction, where=where)[0]

    def retrieve_many(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        mode: str = "hybrid",
        instruction: str | None = None,
        where: np.ndarray | None = None,
    ) -> list[list[Hit]]:
        """The same for many queries at once: they are encoded together and see one commit of the index."""
        check_request(queries, k, mode)
        if mode != "lexical" and self.encoder is None:
            raise RagvecError(f"{mode} retrieval needs an encoder: pass one to Retriever, or use mode='lexical'")
        vectors = None if mode == "lexical" else self.encoder.encode_queries(queries, instruction=instruction)
        depth = max(k, FUSION_DEPTH) if mode == "hybrid" else k
        with self.index.reading() as view:
            dense = [] if vectors is None else _dense(view, vectors, depth, where)
            lexical = [] if mode == "dense" else [view.search_lexical(query, depth, allowed=where) for query in queries]
            rankings = dense or lexical if mode != "hybrid" else [fuse(pair)[:k] for pair in zip(dense, lexical, strict=True)]
            return [_hits(view, ranking) for ranking in rankings]


def check_request(queries: Sequence[str], k: int, mode: str) -> None:
    """Raises RagvecError for what no index could answer: an empty query, k < 1, an unknown mode."""
    if isinstance(queries, str):
        raise TypeError("queries must be a sequence of strings: for one query call retrieve")
    if mode not in MODES:
        raise RagvecError(f"unknown mode {mode!r}: choose one of {', '.join(MODES)}")
    if k < 1:
        raise RagvecError(f"k is {k}: ask for at least 1 result")
    if any(not query.strip() for query in queries):
        raise RagvecError("a query is empty: say what to look for")
    if any("\ud800" <= character <= "\udfff" for query in queries for character in query):
        raise RagvecError("a query is not valid UTF-8: check the terminal's or the file's encoding")


def open_retriever(path: str | Path, *, mode: str = "hybrid", encoder: str | None = None, **options: Any) -> Retriever:
    """A Retriever over an index folder, with the encoder the index was built with; none is loaded for lexical retrieval.

    encoder  load this folder or hub id instead; it must be the same encoder
    options  arguments of `Encoder.load` that change no vector: device, dtype
    Raises RagvecError if there is no index, it is empty, or the encoder is another.
    """
    index = Index.open(path)
    if not len(index):
        raise RagvecError(f"the index in {path} is empty: fill it with `ragvec index CORPUS -o {path}`")
    return Retriever(index, None if mode == "lexical" else load_encoder(index.settings, encoder, **options))


def fuse(rankings: Sequence[Ranking]) -> Ranking:
    """Reciprocal rank fusion: each ranking gives a passage 1 / (60 + rank). Equal sums keep the first ranking's order.

    Source: Cormack, Clarke, Büttcher, SIGIR 2009.
    """
    sums: dict[int, float] = {}
    for ranking in rankings:
        for rank, (passage, _) in enumerate(ranking, 1):
            sums[passage] = sums.get(passage, 0.0) + 1 / (FUSION_CONSTANT + rank)
    return sorted(sums.items(), key=lambda item: -item[1])


def _dense(view: View, vectors: np.ndarray, k: int, allowed: np.ndarray | None) -> list[Ranking]:
    found = view.search(vectors, k, allowed=allowed)
    return [
        [(passage, score) for passage, score in zip(ids, scores, strict=True) if passage >= 0]
        for ids, scores in zip(found.ids.tolist(), found.scores.tolist(), strict=True)
    ]


def _hits(view: View, ranking: Ranking) -> list[Hit]:
    passages = view.passages([passage for passage, _ in ranking])
    return [
        Hit(rank, score, p.doc_id, p.passage_id, p.title, p.text, p.metadata)
        for rank, (p, (_, score)) in enumerate(zip(passages, ranking, strict=True), 1)
    ]
