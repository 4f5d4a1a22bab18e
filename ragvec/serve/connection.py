"""uvicorn's connections, bounded: in the bytes and the time that a client takes to ask and to read, and in their number."""

import asyncio
import time
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ragvec.serve.errors import error_body

MOST_HEAD_BYTES = 64 << 10  # of a head; of what follows a body, too
HEAD_S = 30.0  # from the first byte of a request, or from connecting, to the end of its head
MOST_CONNECTIONS = 1000
MOST_PIPELINED = 16  # requests that wait for the answer to one before them on the same connection
READ_S = 10.0  # in which a client must read READ_BYTES of an answer that waits for it
READ_BYTES = 64 << 10
MOST_UNREAD_BYTES = 64 << 20  # of answers to all clients that read too slowly: beyond it the slowest are hung up on


class Connection(HttpToolsProtocol):
    """One client's connection."""

    _in_head = True
    _head_bytes = 0
    _idle_bytes = 0  # since a body brought anything: line ends of chunks, trailers
    _deadline: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None
    waits_since: float | None = None  # for its client to ask; None while the server has to do
    unread_since: float | None = None  # an answer that its client does not read fast enough

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(cast("asyncio.Transport", transport))  # both ways, as TCP is
        self.waits_since = time.monotonic()
        self._wait_for_head()
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Read on; hang up on a head that grows and grows."""
        self._idle_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self.send_400_response(f"The request's head is over {MOST_HEAD_BYTES:,} bytes.")
            elif self._deadline is None:
                self._wait_for_head()
        elif self._idle_bytes > MOST_HEAD_BYTES:
            self.send_400_response(f"The request's body has over {MOST_HEAD_BYTES:,} bytes beside its content.")

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._head_bytes = True, 0
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError("too many requests before the answer to the first")  # which the parser makes a 400
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; those after a body, which nobody reads, are not kept."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._in_head, self._idle_bytes = False, 0
        self._forget_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body; of one whose turn has not come little is kept."""
        self._idle_bytes = 0
        super().on_body(body)
        if self.pipeline and len(self.cycle.body) > MOST_HEAD_BYTES:
            raise ValueError("a large body before the answer to an earlier request")

    def on_message_complete(self) -> None:
        """The request is whole: now it's the server's turn."""
        self.waits_since = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered: now it's the client's turn again."""
        self.waits_since = None if self.pipeline else time.monotonic()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        """It has not asked again in time."""
        self._hang_up()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self.unread_since = time.monotonic()
        self._watch_reading()
        self._bound_unread()

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._forget_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._forget_deadline()
        self._forget_reading()
        super().connection_lost(exc)

    def _make_room(self) -> None:
        """Hang up on whoever has let the server wait longest; on the newest, if all others wait for the server."""
        waiting = {one: one.waits_since for one in self._all() if one.waits_since is not None}
        longest = min(waiting, key=waiting.__getitem__)
        if longest is self:
            body = error_body(429, "the server is busy: too many connections")
            head = f"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(head.encode() + b"retry-after: 1\r\nconnection: close\r\n\r\n" + body)
            self.transport.close()
        else:
            longest.transport.abort()
        self.connections.discard(longest)  # whose end is told later

    def _all(self) -> list["Connection"]:
        """Every client's: uvicorn is set up to make none but these."""
        return [one for one in self.connections if isinstance(one, Connection)]

    def _watch_reading(self) -> None:
        left = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() > left - READ_BYTES:
                self.transport.abort()
            else:
                self._watch_reading()

        self._reader = self.loop.call_later(READ_S, look)

    def _bound_unread(self) -> None:
        """Of answers that nobody reads no more is kept than there is room for."""
        unread_since = {one: one.unread_since for one in self._all() if one.unread_since is not None}
        slow = sorted(unread_since, key=unread_since.__getitem__)
        unread = sum(one.transport.get_write_buffer_size() for one in slow)
        for one in slow[:-1]:  # the last is the one that is being answered just now
            if unread <= MOST_UNREAD_BYTES:
                break
            unread -= one.transport.get_write_buffer_size()
            one.transport.abort()

    def _forget_reading(self) -> None:
        self.unread_since = None
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def _wait_for_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_S, self._hang_up)

    def _hang_up(self) -> None:
        """Close, and end what its client has not read by then."""
        self.transport.close()
        self.loop.call_later(READ_S, self.transport.abort)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
