"""The page, and how the server is: alive, ready, what it serves, what it measured."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request, Response

from ragvec import __version__
from ragvec.errors import RagvecError
from ragvec.index import Index
from ragvec.retrieve import MODES
from ragvec.retrieve.lookup import metadata_fields
from ragvec.retrieve.searched import Searched
from ragvec.serve.advert import NONCE_HEADER, PROOF_HEADER, PROOF_PATH, proof
from ragvec.serve.errors import error_response
from ragvec.serve.json_route import json_response
from ragvec.serve.map_routes import has_map
from ragvec.serve.metrics import CONTENT_TYPE
from ragvec.serve.places import without_places
from ragvec.serve.service import Service

_APART = re.compile(rb'<(?:link rel="stylesheet" href|script src)="page/([a-z]+\.(?:css|js))">(?:</script>)?')
_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.S)


def status_routes(service: Service, *, writable: bool, asks: bool) -> APIRouter:
    """The routes that take no body. asks: whether a language model answers questions here."""
    router = APIRouter(tags=["status"])

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        return _page("search.html")

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return _page("docs.html")

    @router.get("/health", summary="Whether the process answers at all")
    async def health() -> Response:
        return json_response({"status": "ok"})

    @router.get(PROOF_PATH, include_in_schema=False)
    async def prove(request: Request) -> Response:
        """That this is the server which the index folder's own file names."""
        nonce = request.headers.get(NONCE_HEADER, "")
        return Response(headers={PROOF_HEADER: proof(service.secret, nonce, request.scope["server"][1])})

    @router.get("/ready", summary="Whether it can encode and search (503 if not)")
    async def ready() -> Response:
        if not service.batcher.alive:
            return error_response(503, "the encoder's thread has ended: restart the server")
        if service.index is not None:
            try:
                await service.read(len)
            except RagvecError as error:
                return error_response(503, str(error), {"retry-after": "1"})
        return json_response({"status": "ready"})

    @router.get("/info", summary="The encoder, the index, and what one request may ask for")
    async def info() -> Response:
        index = None
        offers: dict[str, Any] = {"map": False, "similar": False, "modes": []}
        if service.index is not None:
            described, fields, offers = await service.read(
                lambda index: (index.describe(), metadata_fields(index), _offers(index))
            )
            index = {"name": service.index.name, **without_places(described), "fields": fields}
        return json_response(
            {
                "ragvec": __version__,
                "encoder": without_places(service.encoder.describe()),
                "index": index,
                "writable": writable,
                "asks": asks and index is not None,
                **offers,
                "limits": {name: getattr(service.limits, name) for name in service.limits.__slots__},
            }
        )

    @router.get("/metrics", summary="Measurements, for Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    return router


def _offers(index: Searched) -> dict[str, Any]:
    """What the page may show of what is searched; modes: the default first."""
    modes = MODES if index.has_words else ("dense",)
    return {"map": has_map(index), "similar": isinstance(index, Index), "modes": modes}


@cache
def _page(name: str) -> Response:
    """A static page that may run its own script and style, talk to this server, and nothing else.

    What it names of ragvec/serve/page is put into it: the policy names each script by its hash, so no other can run, and
    none has to be asked for with a key.
    """
    room = files("ragvec.serve")

    def inline(match: re.Match[bytes]) -> bytes:
        tag = b"style" if match[1].endswith(b"css") else b"script"
        return b"<%s>\n%s</%s>" % (tag, (room / "page" / match[1].decode()).read_bytes(), tag)

    page = _APART.sub(inline, room.joinpath(name).read_bytes())
    allowed: dict[bytes, list[str]] = {b"script": [], b"style": []}
    for kind, code in _INLINE.findall(page):
        allowed[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(code).digest()).decode()}'")
    policy = (
        f"default-src 'none'; script-src {' '.join(allowed[b'script'])}; style-src {' '.join(allowed[b'style'])}; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"content-security-policy": policy, "referrer-policy": "no-referrer", "cache-control": "no-cache"}
    return Response(page, headers=headers, media_type="text/html; charset=utf-8")
