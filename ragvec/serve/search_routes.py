"""Search and documents over HTTP."""

import time
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from ragvec.index import Index
from ragvec.records import Document, Hit
from ragvec.retrieve import Retriever, load_reranker
from ragvec.retrieve.context import build_context
from ragvec.retrieve.highlight import marks, snippet
from ragvec.retrieve.lookup import read_document
from ragvec.serve.advert import INDEX_HEADER, index_identity
from ragvec.serve.json_route import JsonRoute, json_response
from ragvec.serve.schemas import AddRequest, SearchRequest
from ragvec.serve.service import Patience, Service

SNIPPET_CHARACTERS = 320
# what a Retriever is asked as it stands in the request
_PASSED_ON = ("where", "offset", "min_score", "group_by", "diversity", "fusion", "dense_weight", "rerank_depth", "snippets")
_FOR_QUERIES = ("group_by", "diversity", "rerank", "snippets", "context")


def search_routes(service: Service) -> APIRouter:
    """The routes that read the index."""
    router = APIRouter(route_class=JsonRoute, tags=["search"])

    @router.post("/search", summary="The passages that answer a query")
    async def search(body: SearchRequest) -> Response:
        started = time.perf_counter()
        _check(body, service)
        vectors, encoded_at = await _query_vectors(body, service)
        patience = None if body.rerank is None else Patience(service.limits.rerank_seconds)
        found = await service.read(lambda index: _answer(index, body, service, vectors, patience), patience)
        ended = time.perf_counter()
        seconds = {"encode": encoded_at - started, "search": ended - encoded_at, "all": ended - started}
        return json_response({**found.content, "mode": _mode(body), "seconds": seconds}, {INDEX_HEADER: found.index})

    @router.get("/documents/{doc_id:path}", summary="One document with all its passages")
    async def document(doc_id: str, query: str = "") -> Response:
        """query: mark its words in the passages."""
        passages = await service.read(lambda index: read_document(index, doc_id))
        if not passages:
            raise HTTPException(404, f"there is no document {doc_id!r}")
        first = passages[0]
        return json_response(
            {
                "doc_id": doc_id,
                "title": first.title,
                "metadata": first.metadata,
                "passages": [
                    {
                        "passage_id": passage.passage_id,
                        "text": passage.text,
                        **({"marks": marks(passage.text, query[: service.limits.query_characters])} if query else {}),
                    }
                    for passage in passages
                ],
            }
        )

    return router


def writing_routes(service: Service) -> APIRouter:
    """The routes that change the index; only a server started with --writable has them."""
    router = APIRouter(route_class=JsonRoute, tags=["documents"])

    @router.post("/documents", summary="Add documents, or replace those of the same doc_id, in one commit")
    async def add(body: AddRequest) -> Response:
        if len(body.documents) > service.limits.texts:
            raise HTTPException(422, f"{len(body.documents):,} documents at once: send at most {service.limits.texts:,}")
        async with service.writing:
            report = await service.write(lambda index: index.add([Document(**one.model_dump()) for one in body.documents]))
        return json_response({name: getattr(report, name) for name in ("added", "replaced", "unchanged")})

    @router.delete("/documents/{doc_id:path}", summary="Delete a document")
    async def delete(doc_id: str) -> Response:
        async with service.writing:
            deleted = await service.write(lambda index: index.delete([doc_id]))
        if not deleted:
            raise HTTPException(404, f"there is no document {doc_id!r}")
        return json_response({"deleted": deleted})

    return router


def _check(body: SearchRequest, service: Service) -> None:
    limits = service.limits
    if (body.query is None) == (body.vector is None):
        raise HTTPException(422, "send either a query or a vector")
    for name, asked in (("k", body.k), ("offset + k", body.offset + body.k)):
        if asked > limits.k:
            raise HTTPException(422, f"{name} is {asked}: ask for at most {limits.k:,} hits")
    reranked = max(body.rerank_depth, 0 if body.rerank is None else body.offset + body.k)
    if reranked > limits.rerank_depth:
        raise HTTPException(422, f"{reranked} hits would be scored again: ask for at most {limits.rerank_depth:,}")
    if body.query is not None and len(body.query) > limits.query_characters:
        raise HTTPException(422, f"the query has {len(body.query):,} characters: send at most {limits.query_characters:,}")
    if body.vector is not None and body.mode not in (None, "dense"):
        raise HTTPException(422, f"a vector has no words for {body.mode} search: leave mode out, or send a query")
    if body.vector is not None and (unfit := [name for name in _FOR_QUERIES if getattr(body, name)]):
        raise HTTPException(422, f"{unfit[0]} needs a query, not a vector")


def _mode(body: SearchRequest) -> str:
    return body.mode or ("dense" if body.query is None else "hybrid")


async def _query_vectors(body: SearchRequest, service: Service) -> tuple[np.ndarray | None, float]:
    """The query's vector, (1, d), if the mode needs one, and when it was there."""
    vectors = None
    if body.vector is not None:
        with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, and is refused as such
            vectors = np.array([body.vector], dtype=np.float64).astype(np.float32)
    elif _mode(body) != "lexical":
        vectors = await service.encode_queries([body.query], body.instruction)
    return vectors, time.perf_counter()


class _Found(NamedTuple):
    """What a search found, and the identity of the index it was found in."""

    content: dict[str, Any]
    index: str


def _answer(
    index: Index, body: SearchRequest, service: Service, vectors: np.ndarray | None, patience: Patience | None
) -> _Found:
    hits = _retrieve(index, body, service, vectors, patience)
    content: dict[str, Any] = {"hits": [_record(hit, body) for hit in hits]}
    if body.context is not None:
        content["context"] = build_context(body.query, hits, body.context, service.encoder.count_tokens).record()
    return _Found(content, index_identity(index.path))


def _retrieve(
    index: Index, body: SearchRequest, service: Service, vectors: np.ndarray | None, patience: Patience | None
) -> list[Hit]:
    if body.query is None:
        return _nearest(index, vectors, body)
    encoder = service.queued_encoder(vectors, patience)
    reranker = None if body.rerank is None else load_reranker(body.rerank, encoder, instruction=body.instruction)
    options = {name: getattr(body, name) for name in _PASSED_ON}
    retriever = Retriever(index, encoder, reranker=reranker)
    return retriever.retrieve(body.query, body.k, mode=_mode(body), instruction=body.instruction, **options)


def _nearest(index: Index, vectors: np.ndarray, body: SearchRequest) -> list[Hit]:
    with index.reading() as view:
        allowed = None if body.where is None else view.matching(body.where)
        found = view.search(vectors, body.offset + body.k, allowed=allowed)
        ids, scores = found.ids[0].tolist(), found.scores[0].tolist()
        kept = [
            (number, score)
            for number, score in zip(ids, scores, strict=True)
            if number >= 0 and (body.min_score is None or score >= body.min_score)
        ][body.offset :]
        passages = view.passages([number for number, _ in kept])
    return [
        Hit(rank, score, p.doc_id, p.passage_id, p.title, p.text, p.metadata)
        for rank, (p, (_, score)) in enumerate(zip(passages, kept, strict=True), body.offset + 1)
    ]


def _record(hit: Hit, body: SearchRequest) -> dict[str, Any]:
    record = {
        "rank": hit.rank,
        "score": hit.score,
        "doc_id": hit.doc_id,
        "passage_id": hit.passage_id,
        "title": hit.title,
        "text": hit.text,
        "metadata": hit.metadata,
    }
    if hit.snippet is not None:
        record["snippet"] = hit.snippet
    if body.highlight and body.query:
        shown = snippet(hit.text, body.query, SNIPPET_CHARACTERS)
        record["highlight"] = {"text": shown, "marks": marks(shown, body.query)}
    return record
