"""Reading and writing JSON strictly and fast: no NaN, no lone surrogates, no depth without end."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, get_type_hints

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute, APIRouter
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from ragvec.serve.errors import response_to

JSON = "application/json"
App = Callable[[dict, Callable, Callable], Awaitable[None]]


class JsonRoute(APIRoute):
    """A route whose endpoint takes one argument `body`, a model: JSON that calls itself so.

    A browser lets any site post forms and plain text here, but not JSON. FastAPI describes such a route; its body is read here.
    """

    def __init__(self, path: str, endpoint: Callable, **options: Any) -> None:
        """As FastAPI makes its routes."""
        self.model: type[BaseModel] | None = get_type_hints(endpoint).get("body")
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable:
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
        try:
            read = self.model.model_validate(orjson.loads(body))
        except orjson.JSONDecodeError as error:
            raise HTTPException(422, f"the body is not valid JSON ({error})") from error
        except ValidationError as error:
            raise HTTPException(422, _first_problem(error)) from error
        return await self.endpoint(read)


class JsonRoutesFirst:
    """An ASGI application before FastAPI's: what is for a JsonRoute goes there straight.

    The routing and the middleware of FastAPI would take longer than reading, batching and answering a query together.
    """

    def __init__(self, app: App, routers: Iterable[APIRouter]) -> None:
        """Knows the JsonRoutes of the routers that the application has too."""
        self._app = app
        routes = [route for router in routers for route in router.routes]
        self._routes = {route.path: route for route in routes if isinstance(route, JsonRoute) and route.model is not None}

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """Answer one request; its body comes in one piece, as Guard hands it on."""
        route = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        content_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        try:
            response = await route.answer(content_type.decode("latin-1"), (await receive())["body"])
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


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"]))
    what = str(problem["msg"]).removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
