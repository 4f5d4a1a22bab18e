"""Bodies on their way in: how long one may be, and how much all of them together."""

from collections.abc import Iterator
from contextlib import contextmanager

from ragvec.serve.limits import SMALL_BODY, Limits


class Refused(Exception):
    """A body that is not taken, and the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Inflow:
    """The bodies of all requests in flight."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0  # bytes of those over SMALL_BODY

    @contextmanager
    def body(self) -> "Iterator[Body]":
        """A body to come, counted until the block ends: what is made of it lives as long."""
        body = Body(self)
        try:
            yield body
        finally:
            self.held -= body.counted


class Body:
    """One request's body, piece by piece."""

    def __init__(self, inflow: Inflow) -> None:
        self.counted = 0  # bytes of it in inflow.held
        self._inflow = inflow
        self._limits = inflow.limits
        self._bytes = bytearray()

    def announce(self, length: int) -> None:
        """Refuse one that will be too long, before any of it is read."""
        if length > self._limits.body_bytes:
            raise Refused(413, f"the body is over {self._limits.body_bytes:,} bytes: send less at once")

    def add(self, piece: bytes) -> None:
        """Take a piece. Raises Refused once a limit is passed."""
        self._bytes += piece
        length = len(self._bytes)
        self.announce(length)
        if length <= SMALL_BODY:
            return
        new = length - self.counted
        if self._inflow.held + new > self._limits.all_body_bytes:
            raise Refused(429, "the server is busy: other large bodies are being read")
        self._inflow.held += new
        self.counted = length

    def take(self) -> bytes:
        """All of it, which is then kept here no longer."""
        whole, self._bytes = bytes(self._bytes), bytearray()
        return whole
