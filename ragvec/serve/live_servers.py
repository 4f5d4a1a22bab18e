"""Other servers under a server, with what lies here beside them."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ragvec.index import Index
from ragvec.index.encoder import check_encoder
from ragvec.joint import Joint
from ragvec.remote import Server, Together
from ragvec.serve.live import LiveIndex, LiveJoint

if TYPE_CHECKING:
    from ragvec.encoder.protocol import TextEncoder

Answer = TypeVar("Answer")


class LiveServers:
    """What other servers serve, searched as one with the folders here, which may be replaced under this server."""

    def __init__(self, servers: Sequence[Server], local: LiveIndex | LiveJoint | None, encoder: "TextEncoder | None") -> None:
        """Raises RagvecError if a server does not answer, or they don't agree, or encoder did not make their vectors."""
        self._servers, self._local = servers, local
        self._lock = threading.Lock()
        self._together: Together | None = None
        if encoder is not None:
            self.call(lambda together: check_encoder(together.settings, encoder))

    @property
    def name(self) -> str:
        """How many there are, and what lies here: clients need not know where the others are."""
        count = f"{len(self._servers)} server{'s' if len(self._servers) > 1 else ''}"
        return count if self._local is None else f"{self._local.name}, {count}"

    def call(self, work: Callable[[Together], Answer]) -> Answer:
        """What `work` returns when given all of them as one; raises as `LiveIndex.call`."""
        if self._local is None:
            return work(self._current(None))
        return self._local.call(lambda index: work(self._current(index)))

    def close(self) -> None:
        """Close what lies here, and the connections."""
        if self._local is not None:
            self._local.close()
        if self._together is not None:
            self._together.close()

    def _current(self, local: Index | Joint | None) -> Together:
        with self._lock:
            if self._together is None or self._together.local is not local:
                self._together = Together(self._servers, local)
            return self._together
