"""A language model's answer as it comes: server-sent events in, pieces of text out."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from typing import Any

import orjson

from ragvec.answers.endpoint import Endpoint, Refused, error_line
from ragvec.errors import first_line

MOST_TOKENS = 1024  # of an answer; more would not fit beside the prompt in small models' windows
MOST_CHARACTERS = 100_000  # of an answer, thoughts included, whatever was asked for
MOST_LINE = 1 << 20  # bytes of an event, or of an answer that is not streamed
_BLOCK = 1 << 16
_THINK, _THOUGHT = "<think>", "</think>"


class Stream:
    """The text of one answer, piece by piece. Iterate once, from one thread; `close` may be called from any.

    cut  after the end: whether it ends for want of tokens
    """

    def __init__(self, endpoint: Endpoint, prompt: str) -> None:
        """Nothing is asked before the first piece is."""
        self._endpoint = endpoint
        self._prompt = prompt
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._closed = False
        self.cut = False

    def __iter__(self) -> Iterator[str]:
        """Pieces of the answer, what a model thinks first left out. Raises EndpointFailed; ends early once it is closed."""
        with suppress(_Closed):
            count = 0
            for piece in _without_thoughts(self._pieces()):
                count += len(piece)
                yield piece
            if not count and not self._closed:
                raise self._endpoint.failed(
                    "used up its tokens before it answered: ask a model that thinks less" if self.cut else "answered nothing"
                )

    def close(self) -> None:
        """End the answer: endpoints stop to generate when nobody listens."""
        with self._lock:
            self._closed = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _pieces(self) -> Iterator[str]:
        try:
            with self._response() as response:
                if "text/event-stream" in response.headers.get("content-type", ""):
                    yield from self._streamed(response)
                else:
                    yield self._whole(response)
        except GeneratorExit:
            raise
        except Exception as error:
            if self._closed:
                raise _Closed from None
            match error:
                case TimeoutError():
                    raise self._endpoint.failed(self._endpoint.silent) from error
                case OSError() | HTTPException():
                    raise self._endpoint.failed(f"broke off in the midst of its answer ({first_line(error)})") from error
            raise

    def _response(self) -> HTTPResponse:
        """The response to the prompt; asked again without what some endpoints know under another name, or not at all."""
        body = {
            "model": self._endpoint.model(),
            "messages": [{"role": "user", "content": self._prompt}],
            "stream": True,
            "temperature": 0,
            "max_tokens": MOST_TOKENS,
        }
        while True:
            try:
                return self._endpoint.request("POST", "/chat/completions", body, on_connected=self._connected)
            except Refused as refused:
                if refused.code != 400 or refused.parameter not in ("temperature", "max_tokens"):
                    raise self._endpoint.unknown_model(refused) from None
                if body.pop(refused.parameter, None) is None:
                    raise
                if refused.parameter == "max_tokens":
                    body["max_completion_tokens"] = MOST_TOKENS

    def _connected(self, connected: socket.socket) -> None:
        with self._lock:
            if self._closed:
                raise _Closed
            self._socket = connected

    def _streamed(self, response: HTTPResponse) -> Iterator[str]:
        characters, ended = 0, False
        for line in self._lines(response):
            field, _, data = line.partition(b":")
            if field != b"data":
                continue  # a comment that keeps the line open, or the name of an event
            if data.strip() == b"[DONE]":
                ended = True
                break
            text, reason = self._read(data, "delta")
            characters += len(text)
            if characters > MOST_CHARACTERS:
                self.cut = ended = True
                break
            if text:
                yield text
            if reason is not None:
                ended, self.cut = True, reason == "length"
                break
        if not ended:
            raise self._endpoint.failed("broke off in the midst of its answer")

    def _whole(self, response: HTTPResponse) -> str:
        text, reason = self._read(response.read(MOST_LINE), "message")
        self.cut = reason == "length"
        return text[:MOST_CHARACTERS]

    def _lines(self, response: HTTPResponse) -> Iterator[bytes]:
        """Lines as they come, each whole; what a stream ends in without an end of line is none."""
        rest = b""
        while block := response.read1(_BLOCK):
            *lines, rest = (rest + block).replace(b"\r\n", b"\n").split(b"\n")
            yield from lines
            if len(rest) > MOST_LINE:
                raise self._endpoint.misplaced(f"sends lines of over {MOST_LINE:,} bytes")
        if rest.strip() == b"data: [DONE]":
            yield rest

    def _read(self, data: bytes, name: str) -> tuple[str, str | None]:
        """The text in a chunk or an answer, and why it ends, if it does. Raises EndpointFailed for an error or what is none."""
        try:
            read = orjson.loads(data)
            if read.get("error"):
                raise self._endpoint.failed(f"failed in the midst of its answer: {error_line(read['error'])}")
            choices = read["choices"]
            if not choices:  # a chunk that tells what was used up
                return "", None
            text, reason = (choices[0].get(name) or {}).get("content"), choices[0].get("finish_reason")
            return _text(text), None if reason is None else str(reason)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise self._endpoint.misplaced("sends what is no answer of a chat") from None


class _Closed(Exception):
    """Nobody listens any more."""


def _text(content: Any) -> str:
    if content is None:
        return ""
    if not isinstance(content, str):
        raise TypeError
    return content


def _without_thoughts(pieces: Iterator[str]) -> Iterator[str]:
    """An answer without the <think>…</think> before it, and without white space at its beginning."""
    held, answering = "", False
    for piece in pieces:
        if answering:
            yield piece
            continue
        held = (held + piece).lstrip()
        if held.startswith(_THINK):
            if _THOUGHT not in held:
                continue
            held = held.partition(_THOUGHT)[2].lstrip()
        elif _THINK.startswith(held):
            continue
        if held:
            answering = True
            yield held
    if not answering and held and not held.startswith(_THINK):
        yield held
