"""The retriever: from queries to hits, step by step."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ragvec.arguments import wrong_type
from ragvec.errors import Changed, WrongInput, WrongUsage
from ragvec.index.encoder import check_encoder, load_encoder
from ragvec.records import FilterValues, Hit, Hits, Passage
from ragvec.retrieve.asked import held, meaning
from ragvec.retrieve.fusion import FUSION_DEPTH, Candidate
from ragvec.retrieve.request import DEFAULT_MODE, DEFAULTS, Mode, Options, Request, check_queries, check_query
from ragvec.retrieve.rerank import MAXSIM, Reranker, load_reranker
from ragvec.retrieve.searched import Place, Searched, check_has_words, named_places, open_searched, shown_place
from ragvec.retrieve.snippets import best_sentences
from ragvec.retrieve.stages import FirstStage, first_depth, second_stage

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ragvec.encoder.protocol import TextEncoder

TRIES = 5  # of a search that commits elsewhere come between


class Retriever:
    """Finds passages for queries in an index. May be used from several threads."""

    def __init__(
        self,
        index: Searched,
        encoder: "TextEncoder | None" = None,
        *,
        reranker: Reranker | None = None,
        rerank: str | None = None,
    ) -> None:
        """encoder   what makes query vectors; None is enough for lexical retrieval and for requests that bring theirs
        reranker  scores the best hits of every request again; see `load_reranker`
        rerank    the name by which requests may ask for it too; "maxsim" alone needs an encoder and no reranker

        Raises RagvecError if the index was built with another encoder, or is only the path of one.
        """
        if not hasattr(index, "reading"):
            remedy = "open it, Retriever(Index.open(path), encoder), or call ragvec.retrieve.open_retriever(path)"
            raise wrong_type("index", index, remedy)
        if encoder is not None:
            check_encoder(index.settings, encoder)
        self.index = index
        self.encoder = encoder
        self.reranker = reranker
        self.rerank = rerank

    def __repr__(self) -> str:
        rerank = f", rerank={self.rerank!r}" if self.rerank else ""
        return f"<Retriever over {self.index!r} with {self.encoder!r}{rerank}>"

    def retrieve(self, query: str, k: int = DEFAULTS["k"], **options: "Unpack[Options]") -> list[Hit]:
        """The k best passages for a query, best first; fewer only if fewer match.

        options  further fields of `Request`, which explains them: mode, where, group_by …
        Raises RagvecError for an empty query, for options out of their range, for a wrong filter, and for a mode that needs
        an encoder where there is none.
        """
        check_query(query)
        return self.answer(Request(query=query, k=k, **options))

    def answer(self, request: Request) -> list[Hit]:
        """The best passages for a request, best first; one with a vector is answered without encoding its query.

        Raises as `retrieve`, and RagvecError for a request without a query or a vector.
        """
        if not isinstance(request, Request):
            raise wrong_type("request", request, "give a Request, or call retrieve with a query")
        if request.query is None and request.vector is None:
            raise WrongUsage("the request is empty: give it a query or a vector")
        vectors = None if request.vector is None else request.vector[None]
        return self.answer_many(request, [request.query or ""], vectors)[0]

    def retrieve_many(self, queries: Sequence[str], k: int = DEFAULTS["k"], **options: "Unpack[Options]") -> list[list[Hit]]:
        """The k best passages for each of many queries, which are encoded together and see one commit of the index.

        options  further fields of `Request`, for all of the queries
        Raises as `retrieve`.
        """
        request = Request(k=k, **options)
        return self.answer_many(request, check_queries(queries))

    def answer_many(self, request: Request, queries: Sequence[str], vectors: np.ndarray | None = None) -> list[list[Hit]]:
        """The best passages for each of many queries, searched together, which takes less than one after another.

        request  what they share; its own query and vector are not looked at
        vectors  (n, d) of the queries, where "" stands for a vector alone; None = they are encoded if the mode needs it
        Raises as `retrieve`.
        """
        check_has_words(self.index, request.chosen_mode)
        reranker = self._reranker(request)
        if request.chosen_mode == "lexical":
            vectors = None
        elif vectors is None:
            vectors = self._encode([meaning(query, syntax=request.syntax) for query in queries], request)
        for _ in range(TRIES):
            with suppress(Changed):
                return self._found(request, queries, vectors, reranker)
        return self._found(request, queries, vectors, reranker)

    def _found(
        self, request: Request, queries: Sequence[str], vectors: np.ndarray | None, reranker: Reranker | None
    ) -> list[list[Hit]]:
        """Raises Changed where a part that lies elsewhere has had a commit since it was asked first."""
        hits: list[list[Hit]] = [Hits() for _ in queries]
        with self.index.reading() as view:
            filtered = None if request.where is None else view.matching(request.where, request.where_values)
            for rows, allowed in held(view, queries, filtered, syntax=request.syntax and vectors is not None):
                first = FirstStage(view, request, allowed)
                asked = None if vectors is None else vectors[rows]
                rankings = first.rank([queries[row] for row in rows], asked, first_depth(request, reranker))
                shown: list[list[Candidate]] = []
                for row, ranking in zip(rows, rankings, strict=True):
                    query, vector = queries[row], None if vectors is None else vectors[row]
                    ranking = second_stage(first, ranking, query=query, vector=vector, reranker=reranker)
                    shown.append(ranking[request.offset : request.last])
                passages = iter(view.passages([one.passage for ranking in shown for one in ranking]))
                for row, ranking in zip(rows, shown, strict=True):
                    theirs = list(islice(passages, len(ranking)))
                    hits[row] = Hits(
                        self._hits(first, ranking, theirs, query=queries[row], vector=None if vectors is None else vectors[row])
                    )
        return hits

    def _encode(self, queries: Sequence[str], request: Request) -> np.ndarray:
        if self.encoder is None:
            mode = request.chosen_mode
            raise WrongUsage(f"{mode} retrieval needs an encoder: pass one to Retriever, or use mode='lexical'")
        return self.encoder.encode_queries(queries, instruction=request.instruction)

    def _reranker(self, request: Request) -> Reranker | None:
        """What scores a request's hits again: what it names, else what the retriever was made with."""
        name = self.rerank if request.rerank is None else request.rerank
        if name == MAXSIM:
            return load_reranker(MAXSIM, self.encoder, instruction=request.instruction)
        if name != self.rerank:
            raise WrongUsage(f"the retriever has no reranker {name}: open it with rerank={name!r}")
        return self.reranker

    def _hits(
        self, first: FirstStage, ranking: list[Candidate], passages: list[Passage], *, query: str, vector: np.ndarray | None
    ) -> list[Hit]:
        snippets: Sequence[str | None] = [None] * len(passages)
        if first.request.snippets:
            said = meaning(query, syntax=first.request.syntax)
            snippets = best_sentences(said, [passage.text for passage in passages], vector, self.encoder)
        indices = first.view.index_names([one.passage for one in ranking])
        rows = zip(passages, ranking, snippets, indices, strict=True)
        return [
            Hit(
                rank=rank,
                score=one.score,
                doc_id=passage.doc_id,
                passage_id=passage.passage_id,
                title=passage.title,
                text=passage.text,
                metadata=dict(passage.metadata),  # the same passage may be another query's hit
                snippet=snippet,
                weak=first.is_weak(one, query),
                similarity=one.similarity,
                bm25=one.bm25,
                dense_rank=_told(one.dense_rank),
                lexical_rank=_told(one.lexical_rank),
                index=index,
            )
            for rank, (passage, one, snippet, index) in enumerate(rows, first.request.offset + 1)
        ]


def _told(rank: int | None) -> int | None:
    """A rank by one kind of search, where it is the same however many hits are asked for."""
    return None if rank is None or rank > FUSION_DEPTH else rank


def open_retriever(
    path: Place | Sequence[Place],
    *,
    mode: Mode | None = DEFAULT_MODE,
    where: str | None = None,
    where_values: FilterValues | None = None,
    rerank: str | None = None,
    encoder: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    offline: bool = False,
) -> Retriever:
    """A Retriever over an index folder, with the encoder the index was built with; none is loaded where none is needed.

    path     the folder, or a server's address, or a `ragvec.remote.Server` with its key; several = they are searched as if they
             were one index, see `ragvec.joint`
    mode     that will be asked for
    where    a filter that will be asked for, with where_values, checked before the encoder is loaded
    rerank   "maxsim", or a cross-encoder's folder or hub id, by which the best hits of every request are scored again; None =
             hits stay as they are, unless a request asks for maxsim
    encoder  load this folder or hub id instead; it must be the same encoder
    device, dtype, offline  as for `Encoder.load`; they change no vector
    Raises RagvecError if there is no index, it is empty, the encoder is another, or the reranker can't be loaded.
    """
    index = open_searched(path)
    check_has_words(index, mode or DEFAULT_MODE)
    if not len(index):
        shown = shown_place(named_places(path)[0])
        raise WrongInput(f"the index in {shown} is empty: fill it with `ragvec index CORPUS -o {shown}`")
    if where is not None:
        with index.reading() as view:
            view.check_where(where, where_values)
    needed = mode != "lexical" or rerank == MAXSIM
    loaded = load_encoder(index.settings, encoder, device=device, dtype=dtype, offline=offline) if needed else None
    reranker = None if rerank is None else load_reranker(rerank, loaded, device=device, offline=offline)
    return Retriever(index, loaded, reranker=reranker, rerank=rerank)
