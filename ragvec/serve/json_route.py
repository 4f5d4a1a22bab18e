"""Reading and writing JSON strictly and fast: no NaN, no lone surrogates, no depth without end."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_type_hints

import numpy as np
import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute, APIRouter
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from ragvec.serve.errors import response_to
from ragvec.serve.limits import SMALL_BODY

JSON = "application/json"
MOST_FIELDS = 256  # of a body's own; the longest request has 18
MOST_VALUES = 100_000  # numbers, texts, names, lists in a body: those of `[[],[],…` take 24 times its length in memory
_SLICE = 16 << 10  # bytes whose values are counted at a stretch
MOST_INLINE = 1 << 16  # numbers that are written at once
# one large piece of JSON after another, for orjson lets no other thread run meanwhile: between two others have their turn
_LARGE = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ragvec-json")


class JsonRoute(APIRoute):
    """A route whose endpoint takes one argument `body`, a model: JSON that calls itself so.

    A browser lets any site post forms and plain text here, but not JSON. FastAPI describes such a route; its body is read here.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """As FastAPI makes its routes."""
        self.model: type[BaseModel] | None = get_type_hints(endpoint).get("body")
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's way to put one's own reading in."""
        if self.model is None:
            return super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await self.answer(request.headers.get("content-type", ""), await request.body())

        return handle

    async def answer(self, content_type: str, body: bytes) -> Response:
        """What the endpoint answers to a body. Raises HTTPException for one that is not JSON, or not as the model says."""
        if content_type.partition(";")[0].strip().lower() != JSON:
            raise HTTPException(415, f"the body must be JSON, with the header `Content-Type: {JSON}`")
        large = len(body) > SMALL_BODY
        held, body = [body], b""  # whoever reads it lets go of it
        if large:
            read = await asyncio.get_running_loop().run_in_executor(_LARGE, self._read_large, held)
        else:
            read = self._read(held)
        response: Response = await self.endpoint(read)
        return response

    def _read_large(self, held: list[bytes]) -> BaseModel:
        if count_values(held[0], MOST_VALUES) > MOST_VALUES:
            raise HTTPException(413, f"the body holds over {MOST_VALUES:,} values: send less at once")
        return self._read(held)

    def _read(self, held: list[bytes]) -> BaseModel:
        try:
            read = orjson.loads(held.pop())
        except orjson.JSONDecodeError as error:
            wrong = "not UTF-8: send it so, and uncompressed" if "valid UTF-8" in error.msg else f"not valid JSON ({error})"
            raise HTTPException(422, f"the body is {wrong}") from None  # which keeps the body
        if not isinstance(read, dict):
            raise HTTPException(422, "the body is no JSON object: send its fields in {}")
        if len(read) > MOST_FIELDS:
            raise HTTPException(422, f"the body has {len(read):,} fields: send those that the description names")
        assert self.model is not None  # else FastAPI answers
        try:
            return self.model.model_validate(read)
        except ValidationError as error:
            raise HTTPException(422, _first_problem(error)) from None


class JsonRoutesFirst:
    """An ASGI application before FastAPI's: what is for a JsonRoute goes there straight.

    The routing and the middleware of FastAPI would take longer than reading, batching and answering a query together.
    """

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter]) -> None:
        """Knows the JsonRoutes of the routers that the application has too."""
        self._app = app
        routes = [route for router in routers for route in router.routes]
        self._routes = {route.path: route for route in routes if isinstance(route, JsonRoute) and route.model is not None}

    def takes_body(self, scope: Scope) -> bool:
        """Whether a request has a use for its body."""
        return scope["method"] == "POST" and scope["path"] in self._routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; its body comes in one piece, as Guard hands it on."""
        route = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        content_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        try:
            response = await route.answer(content_type.decode("latin-1"), (await receive()).pop("body"))
        except Exception as error:
            response = response_to(error)
            await response(scope, receive, send)
            if response.status_code == 500:
                raise  # for the log
            return
        await response(scope, receive, send)


def json_response(value: Any, headers: dict[str, str] | None = None) -> Response:
    """A value, numpy arrays included, as a JSON response."""
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), 200, headers, JSON)


async def json_rows(vectors: np.ndarray) -> list[Any]:
    """The rows of vectors, (n, d), for a JSON response; many are written row by row in a thread."""
    if vectors.size <= MOST_INLINE:
        return list(vectors)
    return await asyncio.get_running_loop().run_in_executor(_LARGE, lambda: [_written(row) for row in vectors])


def _written(row: np.ndarray) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY))


def count_values(body: bytes, most: int) -> int:
    """How many values a JSON text holds, more or less: its commas, colons and opening brackets outside strings.

    Stops once there are more than `most`. Of what is not JSON, the part that would be read is counted right.
    """
    count, in_string, rest = 0, False, b""
    for start in range(0, len(body), _SLICE):
        text = (rest + body[start : start + _SLICE]).replace(rb"\\", b"")
        rest = b"\\" if text.endswith(b"\\") else b""  # escapes what comes next
        parts = text.removesuffix(b"\\").replace(rb"\"", b"").split(b'"')
        outside = b"".join(parts[in_string::2])
        in_string ^= len(parts) % 2 == 0
        count += sum(outside.count(mark) for mark in b",:[{")
        if count > most:
            break
    return count


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"]))
    what = str(problem["msg"]).removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
