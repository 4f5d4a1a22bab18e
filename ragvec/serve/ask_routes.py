"""Answers over HTTP, as server-sent events: the sources, the text as it comes, and how it ended."""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import orjson
from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from ragvec.answers import Endpoint, EndpointFailed, Reply, find_grounds
from ragvec.retrieve import Retriever
from ragvec.retrieve.searched import Searched
from ragvec.retrieve.templates import Template
from ragvec.serve.errors import error_body
from ragvec.serve.json_route import JsonRoute
from ragvec.serve.limits import Limits
from ragvec.serve.schemas import AskRequest, SearchRequest
from ragvec.serve.search_routes import checked, with_vector
from ragvec.serve.service import Service

_FAILED = "the server failed; its log says how"
_log = logging.getLogger(__name__)


class Asking:
    """The language model behind a server, and the threads that listen to it. Close it, or use it in a `with` block."""

    def __init__(self, endpoint: Endpoint, *, template: Template | None = None, most: int = Limits().answers) -> None:
        """template: the prompt; None = ragvec's own, in each question's language. most: answers that are made at once."""
        self.endpoint = endpoint
        self.template = template
        self._threads = ThreadPoolExecutor(max_workers=most, thread_name_prefix="ragvec-ask")
        self._free = threading.BoundedSemaphore(most)
        self._running: set[Reply] = set()
        self._closed = False

    def begin(self) -> None:
        """Take a place. Raises HTTPException (429) where all are taken; `end` gives it back, unless `listen` does."""
        if not self._free.acquire(blocking=False):
            raise HTTPException(429, "the language model has enough to answer: ask again later", {"retry-after": "5"})

    def end(self) -> None:
        """Give a place back."""
        self._free.release()

    def listen(self, reply: Reply, tell: Callable[[str, Any], None]) -> None:
        """Tell the events of a reply from a thread, the last of them "done" or "error"; its place is given back then."""

        def work() -> None:
            self._running.add(reply)
            try:
                for piece in reply:
                    tell("token", {"text": piece})
                answer = reply.answer()
                if self._closed:
                    raise EndpointFailed(self.endpoint.address, "is asked no more: the server ends")
                tell("done", {"cited": [source.number for source in answer.cited], "cut": answer.cut})
            except EndpointFailed as error:
                _log.warning("%s", error)  # which says where the endpoint is: clients need not know
                tell("error", orjson.Fragment(error_body(error.status, error.public)))
            except Exception:
                _log.exception("an answer failed")
                tell("error", orjson.Fragment(error_body(500, _FAILED)))
            finally:
                self._running.discard(reply)
                self.end()

        self._threads.submit(work)

    def close(self) -> None:
        """Hang up on the endpoint, and stop."""
        self._closed = True
        for reply in list(self._running):
            reply.close()
        self._threads.shutdown(wait=True)

    def __enter__(self) -> "Asking":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def ask_routes(service: Service, asking: Asking) -> APIRouter:
    """The route that answers questions."""
    router = APIRouter(route_class=JsonRoute, tags=["search"])

    @router.post("/ask", summary="An answer from the index by a language model, as server-sent events")
    async def ask(body: AskRequest) -> Response:
        """Events: `sources` (found, sources), `token` (text) …, then `done` (cited, cut) or `error` (as everywhere).

        Where nothing in the index is near the question the model is not asked: found is false.
        """
        fields = body.model_dump()
        question = fields.pop("question")
        wanted = checked(SearchRequest(query=question, **fields), service.limits)
        asking.begin()
        try:
            request = await with_vector(wanted, service)
            encoder = service.text_encoder()

            def found(index: Searched) -> Reply:
                hits = Retriever(index, encoder).answer(request)
                return Reply(find_grounds(question, hits, encoder.count_tokens, template=asking.template), asking.endpoint)

            reply = await service.read(found)
        except BaseException:
            asking.end()
            raise
        return _Events(reply, asking)

    return router


def no_ask_routes() -> APIRouter:
    """The route that says how a server comes to answer questions, of one that has no language model."""
    router = APIRouter()

    @router.post("/ask", include_in_schema=False)
    async def ask() -> Response:
        raise HTTPException(
            404, "this server has no language model to ask: start it with `ragvec serve --ask`, OPENAI_BASE_URL set"
        )

    return router


class _Events(Response):
    """A reply as a response: sent while it is made, and ended when the client leaves."""

    def __init__(self, reply: Reply, asking: Asking) -> None:
        # no proxy may hold the pieces back, or keep them
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(None, 200, headers, "text/event-stream")
        del self.headers["content-length"]
        self._reply = reply
        self._asking = asking

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. The guard cancels this when its client leaves: the endpoint is hung up on then, and stops."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[tuple[str, Any]]()

        def tell(name: str, value: Any) -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it whoever listens
                loop.call_soon_threadsafe(queue.put_nowait, (name, value))

        self._asking.listen(self._reply, tell)  # which gives the place back, whatever happens here
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            name, value = "sources", self._sources()
            while True:
                data = b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(value))
                await send({"type": "http.response.body", "body": data, "more_body": True})
                if name in ("done", "error"):
                    break
                name, value = await queue.get()
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._reply.close()

    def _sources(self) -> dict[str, Any]:
        return {"found": self._reply.found, "sources": [source.record() for source in self._reply.sources]}
