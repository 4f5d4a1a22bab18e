"""A server under a path of another: behind a proxy that passes paths on as they came, or mounted in an application."""

import re
from typing import TYPE_CHECKING

from ragvec.errors import WrongUsage

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


def check_root_path(path: str) -> str:
    """A root path as it is compared, without a slash at its end. Raises WrongInput for what no request's path begins with."""
    bare = path.rstrip("/")
    if bare and not re.fullmatch(r"(/[\w.~-]+)+", bare):
        raise WrongUsage(f"the root path is {path!r}: give it as the proxy sends it, such as /search")
    return bare


class SubPath:
    """An ASGI application that takes the root path off; what comes without it is answered too: some proxies cut it."""

    def __init__(self, app: "ASGIApp", root_path: str = "") -> None:
        """root_path: such as /search; where an application mounts this one, ASGI says it in the scope."""
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer one request."""
        root = scope.get("root_path") or self._root_path
        if root and scope["type"] == "http":
            path = scope["path"]
            if path == root and scope["method"] in ("GET", "HEAD"):  # addresses in the page are relative to its folder
                await _redirect(root + "/", scope.get("query_string", b""), send)
                return
            if path.startswith(root + "/"):
                scope = {**scope, "path": path[len(root) :], "root_path": ""}
        await self._app(scope, receive, send)


async def _redirect(path: str, query: bytes, send: "Send") -> None:
    location = path.encode() + (b"?" + query if query else b"")
    headers = [(b"location", location), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 308, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
