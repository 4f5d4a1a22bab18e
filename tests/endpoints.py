"""A small OpenAI-compatible endpoint for tests: real HTTP, answers streamed as they are scripted."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Call:
    """One request to the endpoint, and how to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        self.path, self.headers, self.body = handler.path, dict(handler.headers), body
        self._handler = handler

    @property
    def prompt(self) -> str:
        """What the model is told."""
        return self.body["messages"][0]["content"]

    def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """A whole answer; what is not bytes is JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._handler.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()
        self._handler.wfile.write(data)

    def stream(self, *pieces: str, finish: str | None = "stop", done: bool = True, pause: float = 0) -> None:
        """An answer in pieces, as chunks of server-sent events."""
        self.begin()
        for piece in pieces:
            self.event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
            time.sleep(pause)
        if finish:
            self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if done:
            self.write(b"data: [DONE]\n\n")
            self.write(b"", last=True)

    def begin(self) -> None:
        """The head of a stream."""
        self._handler.send_response(200)
        self._handler.send_header("content-type", "text/event-stream; charset=utf-8")
        self._handler.send_header("transfer-encoding", "chunked")
        self._handler.end_headers()

    def event(self, value: Any) -> None:
        """One event of a stream."""
        self.write(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n")

    def write(self, data: bytes, *, last: bool = False) -> None:
        """One chunk of a stream; the last ends it."""
        self._handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if data or last else b"")
        self._handler.wfile.flush()


class Stub:
    """The endpoint: its address, what was asked of it, and what it answers next."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.calls: list[Call] = []
        self.models: Any = {"object": "list", "data": [{"id": "nomic-embed-text"}, {"id": "small"}]}
        self.chat: Callable[[Call], Any] = lambda call: call.stream("Yes [1].")

    @property
    def chats(self) -> list[Call]:
        """The questions among the calls."""
        return [call for call in self.calls if call.path.endswith("/chat/completions")]


@contextmanager
def stubbing(chat: Callable[[Call], Any] | None = None) -> Iterator[Stub]:
    """A running Stub."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            call = Call(self, {})
            stub.calls.append(call)
            if callable(stub.models):
                stub.models(call)
            else:
                call.reply(200 if stub.models is not None else 404, stub.models or {"error": "not found"})

        def do_POST(self) -> None:
            call = Call(self, json.loads(self.rfile.read(int(self.headers["content-length"]))))
            stub.calls.append(call)
            with suppress(ConnectionError):
                stub.chat(call)
            self.close_connection = True

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        stub = Stub(f"http://127.0.0.1:{server.server_port}/v1")
        if chat is not None:
            stub.chat = chat
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()
