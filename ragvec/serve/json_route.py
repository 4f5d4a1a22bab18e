"""Reading and writing JSON strictly and fast: no NaN, no lone surrogates, no depth without end."""

from collections.abc import Callable
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

JSON = "application/json"


class JsonRequest(Request):
    """A request whose body is read by orjson."""

    async def json(self) -> Any:
        """The body's value. Raises json.JSONDecodeError for what is not JSON to the letter."""
        return orjson.loads(await self.body())


class JsonRoute(APIRoute):
    """A route that reads its body as JSON, and refuses what does not call itself so.

    A browser lets any site post forms and plain text here, but not JSON.
    """

    def get_route_handler(self) -> Callable:
        """FastAPI's way to put one's own request in."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if request.method == "POST" and kind != JSON:
                raise HTTPException(415, f"the body must be JSON, with the header `Content-Type: {JSON}`")
            return await handler(JsonRequest(request.scope, request.receive))

        return handle


def json_response(value: Any, headers: dict[str, str] | None = None) -> Response:
    """A value, numpy arrays included, as a JSON response."""
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), 200, headers, JSON)
