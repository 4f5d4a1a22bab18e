"""HTTP's own methods, for every route at once: HEAD wherever there is GET, and OPTIONS, which says what there is."""

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class StandardMethods:
    """An ASGI application around one that knows GET, POST and DELETE."""

    def __init__(self, app: ASGIApp, routes: list[BaseRoute]) -> None:
        """routes: those of the application."""
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        method = scope["method"] if scope["type"] == "http" else None
        if method == "HEAD":
            await self._head(scope, receive, send)
        elif method == "OPTIONS" and (allowed := self._methods(scope)):
            headers = [(b"allow", ", ".join(sorted(allowed)).encode())]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._app(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        as_get = {**scope, "method": "GET"}
        try:
            await self._app(as_get, receive, without_body)
        finally:
            scope["route"] = as_get.get("route")  # what the metrics count it under

    def _methods(self, scope: Scope) -> set[str]:
        allowed = [getattr(route, "methods", None) or set() for route in self._routes if route.matches(scope)[0] != Match.NONE]
        methods: set[str] = set().union(*allowed)
        return methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()) if methods else methods
