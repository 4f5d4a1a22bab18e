"""Search and documents over HTTP."""

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from ragvec.answers.sources import place_of
from ragvec.errors import WrongInput
from ragvec.index import Index
from ragvec.records import Document, Hit
from ragvec.retrieve import DEFAULTS, Request, Retriever
from ragvec.retrieve.asked import meaning
from ragvec.retrieve.context import build_context
from ragvec.retrieve.highlight import marks, snippet
from ragvec.retrieve.lookup import read_document
from ragvec.retrieve.overview import facets_of, overview
from ragvec.retrieve.searched import Searched
from ragvec.retrieve.similar import similar_documents
from ragvec.serve.advert import INDEX_HEADER, index_identity
from ragvec.serve.batched import Patience
from ragvec.serve.gathered import Gathered
from ragvec.serve.json_route import JsonRoute, json_response
from ragvec.serve.limits import Limits
from ragvec.serve.schemas import AddRequest, SearchRequest, SimilarRequest
from ragvec.serve.service import Service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragvec.encoder.protocol import TextEncoder

SNIPPET_CHARACTERS = 320
FACET_HITS = 100  # the best ones, whose metadata are counted


def search_routes(service: Service) -> APIRouter:
    """The routes that read the index."""
    router = APIRouter(route_class=JsonRoute, tags=["search"])
    overviews = _Overviews()
    searches = _Searches(service)

    @router.post("/search", summary="The passages that answer a query")
    async def search(body: SearchRequest) -> Response:
        started = time.perf_counter()
        request = await with_vector(checked(body, service.limits), service)
        encoded_at = time.perf_counter()
        answer = await searches.answer(request, body)
        ended = time.perf_counter()
        seconds = {"encode": encoded_at - started, "search": ended - encoded_at, "all": ended - started}
        content = {**answer.content, "mode": request.chosen_mode, "seconds": seconds}
        return json_response(content, {INDEX_HEADER: answer.identity} if answer.identity else {})

    @router.post("/similar", summary="The documents most like one of the index")
    async def similar(body: SimilarRequest) -> Response:
        """Each by its best passage. Nothing is encoded: its vector is in the index."""
        started = time.perf_counter()
        if body.k > service.limits.k:
            raise HTTPException(422, f"k is {body.k}: ask for at most {service.limits.k:,} hits")
        asked = body.model_dump(exclude={"highlight"})
        hits = await service.read_one(lambda index: similar_documents(index, **asked))
        content = [_record(hit, "" if body.highlight else None) for hit in hits]
        return json_response({"hits": content, "seconds": {"all": time.perf_counter() - started}})

    @router.get("/overview", summary="What the index holds: how much, frequent values of fields, queries to try")
    async def look() -> Response:
        return json_response(await service.read(overviews.of))

    @router.get("/documents/{doc_id:path}", summary="One document with all its passages")
    async def document(doc_id: str, query: str = "", syntax: bool = False) -> Response:
        """query: mark its words in the passages; syntax: it is in the query language."""
        passages = await service.read(lambda index: read_document(index, doc_id))
        if not passages:
            raise HTTPException(404, f"there is no document {doc_id!r}")
        first = passages[0]
        marked = meaning(query[: service.limits.query_characters], syntax=syntax)
        return json_response(
            {
                "doc_id": doc_id,
                "title": first.title,
                "metadata": first.metadata,
                **place_of(first.metadata).record(),
                "passages": [
                    {
                        "passage_id": passage.passage_id,
                        "text": passage.text,
                        **({"marks": marks(passage.text, marked)} if query else {}),
                    }
                    for passage in passages
                ],
            }
        )

    return router


def writing_routes(service: Service) -> APIRouter:
    """The routes that change the index; only a writable server has them."""
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


def checked(body: SearchRequest, limits: Limits) -> Request:
    """What is asked of the Retriever. Raises HTTPException for what no request may ask, or none of this server."""
    if (body.query is None) == (body.vector is None):
        raise HTTPException(422, "send either a query or a vector")
    for name, asked in (("k", body.k), ("offset + k", body.offset + body.k)):
        if asked > limits.k:
            raise HTTPException(422, f"{name} is {asked}: ask for at most {limits.k:,} hits")
    if body.rerank_depth > limits.rerank_depth:
        raise HTTPException(422, f"{body.rerank_depth} hits would be scored again: ask for at most {limits.rerank_depth:,}")
    if body.query is not None and len(body.query) > limits.query_characters:
        raise HTTPException(422, f"the query has {len(body.query):,} characters: send at most {limits.query_characters:,}")
    if body.vector is not None and body.context is not None:
        raise HTTPException(422, "context needs a query, not a vector")
    given = {name: getattr(body, name) for name in DEFAULTS if name != "vector"}
    try:
        return Request(**given, vector=None if body.vector is None else _float32(body.vector))
    except WrongInput as error:
        raise HTTPException(422, str(error)) from error


def _float32(numbers: list[int | float]) -> np.ndarray:
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, and is refused as such
        return np.array(numbers, dtype=np.float64).astype(np.float32)


async def with_vector(request: Request, service: Service) -> Request:
    """The request with its query's vector, if the mode needs one: encoded in the batches that all requests share."""
    if request.query is None or request.chosen_mode == "lexical":
        return request
    [vector] = await service.encode_queries([request.meaning], request.instruction)
    return replace(request, vector=vector)


class _Overviews:
    """The overview of the newest commit, made once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[object, dict[str, Any]] | None = None

    def of(self, index: Searched) -> dict[str, Any]:
        """An index's; of several, and of stores, nothing is told."""
        if not isinstance(index, Index):
            return {"documents": None, "passages": None, "fields": [], "examples": []}
        with index.reading() as view:
            commit = index_identity(index.path), view.generation
        with self._lock:
            if self._made is None or self._made[0] != commit:
                self._made = commit, overview(index)
            return self._made[1]


class _Found(NamedTuple):
    """What a search found, and the identity of the index it was found in; "" for several."""

    content: dict[str, Any]
    identity: str


def is_plain(request: Request, body: SearchRequest) -> bool:
    """Whether a request is a search and nothing more, which encodes nothing again and takes no longer than others."""
    return request.rerank is None and not request.snippets and not body.facets and body.context is None


class _Asked(NamedTuple):
    """A search, and whether words are marked in its hits."""

    request: Request
    highlight: bool


class _Searches:
    """Searches in a service's threads, those that may be done together gathered."""

    def __init__(self, service: Service) -> None:
        self._service = service
        encoder = service.text_encoder()
        self._plain: Gathered[_Asked, _Found] = service.gathered(lambda index, asked: _answers(index, asked, encoder))

    async def answer(self, request: Request, body: SearchRequest) -> _Found:
        """What is found, when a thread has had time for it."""
        service = self._service
        if is_plain(request, body):
            return await service.timed(self._plain.answer(repr(request.options), _Asked(request, body.highlight)))
        patience = None if request.rerank is None else Patience(service.limits.rerank_seconds)
        encoder = service.text_encoder(patience)
        return await service.read(lambda index: _answer(index, request, body, encoder), patience)


def _answers(index: Searched, asked: "Sequence[_Asked]", encoder: "TextEncoder") -> list[_Found]:
    """What is found for requests that differ in query and vector alone."""
    first = asked[0].request
    shared = replace(first, query=None, vector=None, mode=first.chosen_mode)
    vectors = None if shared.mode == "lexical" else np.stack([cast("np.ndarray", one.request.vector) for one in asked])
    found = Retriever(index, encoder).answer_many(shared, [one.request.query or "" for one in asked], vectors)
    identity = _identity(index)
    return [_Found({"hits": _shown(one, hits)}, identity) for one, hits in zip(asked, found, strict=True)]


def _answer(index: Searched, request: Request, body: SearchRequest, encoder: "TextEncoder") -> _Found:
    retriever = Retriever(index, encoder)
    hits = retriever.answer(request)
    content: dict[str, Any] = {"hits": _shown(_Asked(request, body.highlight), hits)}
    if body.facets:
        best = retriever.answer(replace(request, offset=0, k=FACET_HITS, snippets=False))
        content["facets"] = [facet.record() for facet in facets_of(hit for hit in best if not hit.weak)]
    if body.context is not None and request.query is not None:
        content["context"] = build_context(request.meaning, hits, body.context, encoder.count_tokens).record()
    return _Found(content, _identity(index))


def _identity(index: Searched) -> str:
    return index_identity(index.path) if isinstance(index, Index) else ""


def _shown(asked: _Asked, hits: "Sequence[Hit]") -> list[dict[str, Any]]:
    return [_record(hit, asked.request.meaning if asked.highlight else None) for hit in hits]


def _record(hit: Hit, highlighted: str | None) -> dict[str, Any]:
    """highlighted: the words to mark, which may be none; None = nothing is shown but the hit."""
    record = hit.record()
    if highlighted is not None:
        shown = snippet(hit.text, highlighted, SNIPPET_CHARACTERS)
        record["highlight"] = {"text": shown, "marks": marks(shown, highlighted), **place_of(hit.metadata).record()}
    return record
