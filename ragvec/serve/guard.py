"""What every request passes first: is it allowed, is there room for it, is its body whole; and does its client still wait?"""

import asyncio
import hmac
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ragvec.serve.advert import PROOF_PATH
from ragvec.serve.errors import error_body
from ragvec.serve.inflow import Body, Inflow, Refused
from ragvec.serve.limits import SMALL_BODY, Limits
from ragvec.serve.metrics import Metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = dict[bytes, bytes]
OPEN_PATHS = {"/", "/health", "/ready", "/docs", "/openapi.json", PROOF_PATH}  # hold nothing that needs a key
LINGER_S = 1.0  # in which a client may send the rest of what was refused: most read no answer before
LOOK_AFTER_S = 0.02  # until then it would cost more to ask whether a client has left than to answer it
LOCAL_NAMES = {"localhost", "127.0.0.1", "::1"}


class Guard:
    """ASGI middleware around the application."""

    def __init__(
        self,
        app: "ASGIApp",
        *,
        limits: Limits,
        metrics: Metrics,
        api_key: str | None = None,
        host_names: Collection[str] | None = None,
        origins: Sequence[str] = (),
        open_paths: Collection[str] = OPEN_PATHS,
        takes_body: "Callable[[Scope], bool]" = lambda scope: True,
    ) -> None:
        """api_key: asked for as a bearer token, in all but open_paths; None = open.

        host_names  the only names the server answers to, against DNS rebinding; None = any
        origins     of other sites whose pages may use the server, such as https://example.org
        takes_body  whether a request, by its ASGI scope, has a use for a body; others' bodies are not read
        """
        self.app = app
        self._limits = limits
        self._metrics = metrics
        self._key = api_key.encode() if api_key else None
        self._host_names = None if host_names is None else set(host_names)
        self._origins = set(origins)
        self._open_paths = open_paths
        self._takes_body = takes_body
        self._inflow = Inflow(limits)
        self._in_flight = 0

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))  # of one that comes twice, the first
        answer = _Answer(send, self._cors(headers))
        started = time.perf_counter()
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            await self._serve(scope, headers, receive, answer)
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(path, answer.status).inc()
            self._metrics.request_seconds.labels(path).observe(time.perf_counter() - started)

    async def _serve(self, scope: "Scope", headers: Headers, receive: "Receive", answer: "_Answer") -> None:
        refusal = self._refusal(scope, headers)
        if refusal:
            await answer.refuse(*refusal, receive if self._takes_body(scope) else None)
            return
        if scope["method"] == "OPTIONS" and answer.cors:
            await answer.preflight(headers.get(b"access-control-request-headers", b""))
            return
        if not self._takes_body(scope):
            await self._without_body(scope, headers, receive, answer)
            return
        with self._inflow.body() as body:
            if await self._arrived(body, headers, receive, answer):
                await self._work(scope, body.take(), receive, answer)

    def _refusal(self, scope: "Scope", headers: Headers) -> tuple[int, str] | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self._host_names is not None and _host_name(host) not in self._host_names:
            return (
                403,
                "this server answers to its own names alone: start it with this one, `ragvec serve --host-name NAME`",
            )
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and origin not in self._origins and _place(origin) != host:
            return 403, f"pages of {origin} may not use this server: allow them: `ragvec serve --origin {origin}`"
        if self._key and scope["path"] not in self._open_paths and scope["method"] != "OPTIONS":
            scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(key.strip(), self._key):
                return 401, "the API key is missing or wrong: send it as `Authorization: Bearer KEY`"
        if self._in_flight > self._limits.requests and scope["path"] != "/health":
            return 429, "the server is busy: too many requests at once"
        return None

    async def _without_body(self, scope: "Scope", headers: Headers, receive: "Receive", answer: "_Answer") -> None:
        """Answer a request that needs no body: one that has one is answered unread, and the connection closed after it."""
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > SMALL_BODY:
            await answer.refuse(413, "this path takes no body: send none")
            return
        answer.last = length.strip(b"0") != b"" or b"transfer-encoding" in headers
        await self._work(scope, b"", receive, answer)

    async def _arrived(self, body: Body, headers: Headers, receive: "Receive", answer: "_Answer") -> bool:
        """Read a body to its end; False if the request was refused or its client left."""
        length = headers.get(b"content-length", b"")
        message: Message = {"type": "http.request", "more_body": True}
        try:
            with _Deadline(self._limits.body_seconds):
                body.announce(int(length) if length.isdigit() else 0)
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        self._metrics.disconnects.inc()
                        return False
                    body.add(message.get("body", b""))
                    if not message.get("more_body"):
                        return True
        except Refused as refused:
            body.take()
            await answer.refuse(refused.status, str(refused), receive if message.get("more_body") else None)
        except TimeoutError:
            await answer.refuse(408, f"the body did not arrive within {self._limits.body_seconds:g} s")
        return False

    async def _work(self, scope: "Scope", body: bytes, receive: "Receive", answer: "_Answer") -> None:
        """Run the application, and end it when its client leaves: what it waited for is then not computed."""
        client = _Client(receive, answer)
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        del body  # whoever takes the message may let go of it

        async def replay() -> "Message":
            return messages.pop() if messages else await client.left()

        try:
            await self.app(scope, replay, answer)
        except (Exception, asyncio.CancelledError):
            if not client.gone:
                raise
        finally:
            client.forget()
            if client.gone:
                self._metrics.disconnects.inc()

    def _cors(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        origin = headers.get(b"origin", b"")
        if not origin or origin.decode("latin-1") not in self._origins:
            return []
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"retry-after, x-ragvec-index, x-ragvec-truncated"),
            (b"vary", b"origin"),
        ]


class _Deadline:
    """A `with` block that ends with TimeoutError after so many seconds: asyncio.timeout, for Python 3.10 too."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._passed = False

    def __enter__(self) -> None:
        self._task = _this_task()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._pass)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._passed and kind is asyncio.CancelledError:
            raise TimeoutError

    def _pass(self) -> None:
        self._passed = True
        self._task.cancel()


class _Client:
    """Who waits for an answer. Once it has left, the task that works for it is cancelled."""

    def __init__(self, receive: "Receive", answer: "_Answer") -> None:
        """For the current task; most answers are there before anybody has looked whether their client still waits."""
        self.gone = False
        self._receive, self._answer = receive, answer
        self._worker = _this_task()
        self._watcher: asyncio.Task[Message] | None = None
        self._timer = asyncio.get_running_loop().call_later(LOOK_AFTER_S, self._look)

    async def left(self) -> "Message":
        """Wait until it has left, or has its answer; the message that says so."""
        return await asyncio.shield(self._look())

    def forget(self) -> None:
        """Look no longer."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _look(self) -> "asyncio.Task[Message]":
        if self._watcher is None:
            self._watcher = asyncio.ensure_future(self._watch())
        return self._watcher

    async def _watch(self) -> "Message":
        while (message := await self._receive())["type"] != "http.disconnect":
            pass  # a body that nobody wants
        if not self._answer.ended:
            self.gone = True
            self._worker.cancel()
        return message


class _Answer:
    """Sends the response, keeps its status, adds what every response carries."""

    def __init__(self, send: "Send", cors: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self.cors = cors
        self.status = "none"  # a client that left
        self.last = False  # on its connection
        self.ended = False

    async def __call__(self, message: "Message") -> None:
        if message["type"] == "http.response.start":
            self.status = str(message["status"])
            more = [(b"x-content-type-options", b"nosniff"), *self.cors, *([(b"connection", b"close")] if self.last else [])]
            message = {**message, "headers": [*message["headers"], *more]}
        else:
            self.ended = not message.get("more_body")
        await self._send(message)

    async def refuse(self, status: int, message: str, receive: "Receive | None" = None) -> None:
        """Send an error instead of an answer, and close the connection: the rest of the body is not wanted.

        receive  drops that rest for a moment; closed at once, the connection would be reset before the client reads why. A busy
                 server has no such moment
        """
        body = error_body(status, message)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        headers += {401: [(b"www-authenticate", b"Bearer")], 429: [(b"retry-after", b"1")]}.get(status, [])
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body, "more_body": True})
        with suppress(TimeoutError), _Deadline(LINGER_S):
            while receive and status != 429 and (await receive()).get("more_body"):
                pass
        await self({"type": "http.response.body", "body": b""})

    async def preflight(self, asked_for: bytes) -> None:
        """Answer a browser that asks whether another site's page may use the server.

        A page that may send a key may send any header: clients add their own, such as openai-node's x-stainless-*.
        """
        headers = [
            (b"access-control-allow-methods", b"GET, HEAD, POST, DELETE"),
            (b"access-control-allow-headers", asked_for or b"authorization, content-type"),
            (b"access-control-max-age", b"7200"),
        ]
        await self({"type": "http.response.start", "status": 204, "headers": headers})
        await self({"type": "http.response.body", "body": b""})


def names_answered_to(host: str, api_key: str | None, host_names: Sequence[str] = ()) -> set[str] | None:
    """The names in a request's Host that a server on `host` answers to; None = any.

    A page that is open in a browser can reach a server under a name of its own, which DNS then moves here. So a server that
    listens to this machine alone and has no key answers to its local names, and to those under which a proxy reaches it.
    """
    if host_names:
        return LOCAL_NAMES | {name.lower() for name in host_names}
    return LOCAL_NAMES if host in LOCAL_NAMES and not api_key else None


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # in a coroutine there is one
    return task


def _host_name(host: str) -> str:
    with suppress(ValueError):
        return urlsplit(f"//{host}").hostname or ""
    return ""


def _place(origin: str) -> str:
    with suppress(ValueError):
        return urlsplit(origin).netloc
    return ""
