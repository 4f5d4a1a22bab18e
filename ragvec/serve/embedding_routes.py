"""Embeddings over HTTP: OpenAI's and text-embeddings-inference's requests, and reranking in Cohere's, Jina's and vLLM's."""

import base64
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from ragvec.encoder.encoder import Encoded
from ragvec.encoder.settings import EncoderSettings
from ragvec.serve.json_route import JsonRoute, json_response, json_rows
from ragvec.serve.places import folder_name
from ragvec.serve.schemas import EitherRerankRequest, EmbeddingsRequest, EmbedRequest, Rerank, RerankRequest
from ragvec.serve.service import Service


def embedding_routes(service: Service) -> APIRouter:
    """The routes that need the encoder alone."""
    router = APIRouter(route_class=JsonRoute, tags=["embeddings"])
    name = folder_name(service.encoder.source)

    @router.post("/v1/embeddings", summary="Embeddings, as OpenAI's API gives them")
    async def embeddings(body: EmbeddingsRequest) -> Response:
        texts = _checked(body.texts, service)
        instruction = _instruction(service.encoder.settings, body)
        encoded = await service.encode(texts, instruction=instruction, width=body.dimensions)
        packed = body.encoding_format == "base64"
        written = list(map(_base64, encoded.vectors)) if packed else await json_rows(encoded.vectors)
        data = [{"object": "embedding", "index": row, "embedding": vector} for row, vector in enumerate(written)]
        tokens = int(encoded.token_counts.sum())
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        truncated = _count_truncated(service, encoded)
        return json_response({"object": "list", "model": name, "data": data, "usage": usage, "truncated": truncated})

    @router.post("/embed", summary="Embeddings, as text-embeddings-inference gives them")
    async def embed(body: EmbedRequest) -> Response:
        texts = _checked(lambda: [body.inputs] if isinstance(body.inputs, str) else body.inputs, service)
        instruction = own_instruction(service.encoder.settings, body.prompt_name)
        encoded = await service.encode(texts, instruction=instruction, normalize=body.normalize, width=body.dimensions)
        truncated = _count_truncated(service, encoded)
        _refuse_cut(truncated, body.truncate, service)
        return json_response(await json_rows(encoded.vectors), {"x-ragvec-truncated": str(truncated)})

    @router.post("/v1/rerank", summary="Documents in the order of their similarity to a query, as Cohere and Jina give them")
    @router.post("/v2/rerank", summary="Documents in the order of their similarity to a query, for Cohere's second API")
    async def rerank(body: RerankRequest) -> Response:
        return _as_cohere(await _rank(body, _checked(body.texts, service), service), body, name)

    @router.post(
        "/rerank",
        summary="Documents in the order of their similarity to a query, as vLLM and text-embeddings-inference give them",
    )
    async def rerank_either(body: EitherRerankRequest) -> Response:
        ranked = await _rank(body, _checked(body.all_texts, service), service)
        _refuse_cut(ranked.truncated, body.truncate, service)
        if body.texts is None:
            return _as_cohere(ranked, body, name)
        results = [
            {"index": row, "score": score} | ({"text": ranked.texts[row]} if body.return_text else {})
            for row, score in ranked.best
        ]
        return json_response(results, {"x-ragvec-truncated": str(ranked.truncated)})

    @router.get("/v1/models", summary="The one encoder that answers")
    async def models() -> Response:
        return json_response({"object": "list", "data": [_model(service)]})

    @router.get("/v1/models/{model:path}", summary="The encoder by its name")
    async def model(model: str) -> Response:
        if model != name:
            raise HTTPException(404, f"there is no model {model!r}: this server has {name} alone")
        return json_response(_model(service))

    return router


def own_instruction(settings: EncoderSettings, kind: str | None) -> str:
    """The encoder's own for a query, a document or another prompt's name; a text of which nothing is said is a document."""
    return settings.prompt(kind or "document")


def _instruction(settings: EncoderSettings, body: EmbeddingsRequest) -> str:
    if body.instruction is None:
        return own_instruction(settings, body.prompt_name or body.input_type)
    if body.prompt_name is not None:
        raise HTTPException(422, "instruction and prompt_name say the same: send one of them")
    return body.instruction


class _Ranked(NamedTuple):
    """Rows and their scores, best first, of texts that hold so many tokens and of which so many were cut."""

    best: list[tuple[int, float]]
    texts: list[str]
    tokens: int
    truncated: int


async def _rank(body: Rerank, texts: list[str], service: Service) -> _Ranked:
    """Texts by the similarity of their vectors to the query's."""
    _check_query(body.query, service)
    query = (await service.encode_queries([body.query], body.instruction))[0]
    encoded = await service.encode(texts, instruction=own_instruction(service.encoder.settings, "document"))
    scores = encoded.vectors @ query
    best = np.argsort(-scores, kind="stable")[: body.top_n].tolist()
    return _Ranked(
        best=[(row, float(scores[row])) for row in best],
        texts=texts,
        tokens=int(encoded.token_counts.sum()),
        truncated=_count_truncated(service, encoded),
    )


def _as_cohere(ranked: _Ranked, body: Rerank, model: str) -> Response:
    results = [
        {"index": row, "relevance_score": score} | ({"document": {"text": ranked.texts[row]}} if body.return_documents else {})
        for row, score in ranked.best
    ]
    content = {"id": str(uuid.uuid4()), "model": model, "results": results, "usage": {"total_tokens": ranked.tokens}}
    return json_response({**content, "truncated": ranked.truncated})


def _model(service: Service) -> dict[str, Any]:
    encoder = service.encoder
    return {
        "id": folder_name(service.encoder.source),
        "object": "model",
        "created": 0,
        "owned_by": "ragvec",
        "dimension": encoder.dimension,
        "max_length": encoder.settings.max_length,
        "fingerprint": encoder.fingerprint,
    }


def _checked(read: Callable[[], list[str]], service: Service) -> list[str]:
    try:
        texts = read()
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    if len(texts) > service.limits.texts:
        raise HTTPException(422, f"{len(texts):,} texts at once: send at most {service.limits.texts:,}")
    return texts


def _check_query(query: str, service: Service) -> None:
    if len(query) > service.limits.query_characters:
        raise HTTPException(422, f"the query has {len(query):,} characters: send at most {service.limits.query_characters:,}")


def _refuse_cut(truncated: int, allowed: bool, service: Service) -> None:
    if truncated and not allowed:
        longest = service.encoder.settings.doc_max_length
        raise HTTPException(413, f"{truncated} of the inputs are longer than {longest} tokens: send truncate = true")


def _count_truncated(service: Service, encoded: Encoded) -> int:
    count = int(encoded.truncated.sum())
    service.metrics.truncated.inc(count)
    return count


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
