"""What another ragvec asks that searches this server's index together with others: see `ragvec.remote`.

What is found here is neither fused nor shown: the one that asks merges the candidates of all, and weighs words by what all
know of them.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from ragvec.checked import Mismatch
from ragvec.errors import Changed, NotFound
from ragvec.index import Index
from ragvec.joint import Joint
from ragvec.remote.part import STEP, Allowed, Found, LocalPart
from ragvec.remote.wire import MOST_IDS, MOST_VECTORS, counts_record, numbers, packed, read_counts, unpacked
from ragvec.serve.advert import index_identity
from ragvec.serve.json_route import JsonRoute, json_response
from ragvec.serve.places import without_places
from ragvec.serve.schemas import AllowedPassages, ShardLexical, ShardNear, ShardPassages, ShardWords
from ragvec.serve.service import Service


def shard_routes(service: Service) -> APIRouter:
    """The routes for those that search this index together with others."""
    router = APIRouter(route_class=JsonRoute, tags=["shard"])

    async def answered(state: str | None, work: Callable[[LocalPart], Any]) -> Response:
        return json_response(await service.read(lambda index: _of_state(index, state, work)))

    @router.get("/shard", summary="What is served, for those that search it together with others")
    async def about() -> Response:
        return json_response(await service.read(_about))

    @router.post("/shard/words", summary="How frequent a query's words are here, and how long passages")
    async def words(body: ShardWords) -> Response:
        _check_query(body.query, service)
        return await answered(body.state, lambda part: counts_record(part.counts(body.query, syntax=body.syntax)))

    @router.post("/shard/lexical", summary="The best passages by a query's words, weighed as they are told to weigh")
    async def lexical(body: ShardLexical) -> Response:
        _check_query(body.query, service)
        _check_candidates(body.k, body.allowed, service)
        return await answered(body.state, lambda part: _lexical(part, body))

    @router.post("/shard/near", summary="The nearest passages to vectors, or how near some are")
    async def near(body: ShardNear) -> Response:
        _check_candidates(body.k or 1, body.allowed, service)
        return await answered(body.state, lambda part: _near(part, body, service.encoder.dimension))

    @router.post("/shard/passages", summary="Passages, their documents' ids or their vectors")
    async def passages(body: ShardPassages) -> Response:
        return await answered(body.state, lambda part: _passages(part, body))

    return router


def _of_state(index: Any, state: str | None, work: Callable[[LocalPart], Any]) -> Any:
    """What `work` returns for an index in this state, None = in any. Raises Changed where it is in another."""
    local = _folders(index)
    with local.reading() as view:
        if state is not None and state != _state(local, view.generations):
            raise Changed("its index has had a commit since")
        try:
            return work(LocalPart(view))
        except Mismatch as error:
            raise HTTPException(422, str(error)) from None


def _about(index: Any) -> dict[str, Any]:
    local = _folders(index)
    with local.reading() as view:
        told = LocalPart(view).about(local.describe(), local.settings, _state(local, view.generations))
    return {**asdict(told), "encoder_source": without_places(told.encoder_source)}


def _lexical(part: LocalPart, body: ShardLexical) -> dict[str, Any]:
    counts, allowed = read_counts(body.counts), _allowed(body.allowed)
    found = part.lexical(body.query, body.k, counts, syntax=body.syntax, allowed=allowed)
    return {"ids": [[number for number, _ in found]], "scores": [[score for _, score in found]]}


def _near(part: LocalPart, body: ShardNear, dimension: int) -> dict[str, Any]:
    queries = unpacked(body.vectors, dimension)
    if not 1 <= len(queries) <= MOST_VECTORS:
        raise Mismatch(f"there are {len(queries)} vectors: send 1 to {MOST_VECTORS}")
    if body.ids is not None:
        return {"scores": part.similarities(queries[0], numbers("ids", body.ids, most=MOST_IDS, below=STEP))}
    found = part.near(queries, body.k or 1, allowed=_allowed(body.allowed))
    rows = [(ids[ids >= 0], scores[ids >= 0]) for ids, scores in zip(found.ids, found.scores, strict=True)]
    return {"ids": [ids for ids, _ in rows], "scores": [scores for _, scores in rows]}


def _passages(part: LocalPart, body: ShardPassages) -> dict[str, Any]:
    if body.doc_id is not None:
        return {"passages": [_record(Found(passage, None)) for passage in part.document(body.doc_id)]}
    if body.places is not None:
        places = numbers("places", body.places, most=MOST_IDS, below=part.vector_count())
        return {"vectors": packed(part.sample(np.unique(places)))}
    ids = numbers("ids", body.ids, most=MOST_IDS, below=STEP).tolist()
    try:
        match body.only:
            case "doc_ids":
                return {"doc_ids": part.doc_ids(ids)}
            case "vectors":
                return {"vectors": packed(part.vectors(ids))}
        return {"passages": [_record(found) for found in part.passages(ids)]}
    except LookupError:
        raise NotFound("there is no passage of one of these ids") from None


def _folders(index: Any) -> Index | Joint:
    """What lies here. Raises NotFound where the server has it from elsewhere."""
    if not isinstance(index, (Index, Joint)):
        raise NotFound("this server has no index of its own: name the servers that it asks")
    return index


def _state(local: Index | Joint, generations: tuple[int, ...]) -> str:
    """What changes with every commit, and with every index that comes to lie in another's place."""
    indices = local.indices if isinstance(local, Joint) else [local]
    told = [f"{index_identity(index.path)}/{number}" for index, number in zip(indices, generations, strict=True)]
    return hashlib.blake2b("\n".join(told).encode(), digest_size=16).hexdigest()


def _allowed(body: AllowedPassages | None) -> Allowed | None:
    return None if body is None else Allowed(body.where, body.values, tuple(body.fields), body.within)


def _record(found: Found) -> dict[str, Any]:
    passage, index = found
    names = ("passage_id", "doc_id", "title", "text", "metadata")
    return {**{name: getattr(passage, name) for name in names}, "index": index}


def _check_query(query: str, service: Service) -> None:
    if len(query) > service.limits.query_characters:
        raise HTTPException(422, f"the query has {len(query):,} characters: send at most {service.limits.query_characters:,}")


def _check_candidates(k: int, allowed: AllowedPassages | None, service: Service) -> None:
    if k > service.limits.candidates:
        raise HTTPException(422, f"k is {k}: ask for at most {service.limits.candidates:,} candidates")
    if allowed is not None and allowed.within is not None:
        _check_query(allowed.within, service)
