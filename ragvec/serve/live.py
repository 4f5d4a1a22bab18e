"""An index folder that may be replaced under the server: every call sees one whole index, the one that is there now."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ragvec.arguments import local_folder
from ragvec.errors import Damaged, RagvecError, Unavailable, WrongInput
from ragvec.index import Index
from ragvec.index.ann.threads import load_faiss
from ragvec.index.store import database_identity
from ragvec.joint import Joint, check_paths
from ragvec.serve.batcher import QueueFull
from ragvec.serve.places import Places

if TYPE_CHECKING:
    from ragvec.encoder.protocol import TextEncoder

PATIENCE_S = 5.0  # while a folder is away: between `mv index old` and `mv new index`
SETTLING_S = 0.5  # while what lies there can't be read and does not change: it may be about to
PAUSE_S = 0.02
Answer = TypeVar("Answer")
_log = logging.getLogger(__name__)


class IndexUnavailable(Unavailable):
    """The index can't answer now, through no fault of the request."""


@dataclass(frozen=True)
class _Opened:
    identity: tuple[int, int]
    index: Index


class Live(Protocol):
    """What a server searches, under whatever happens to it meanwhile; `name` is what clients are told it is called."""

    @property
    def name(self) -> str: ...

    def call(self, work: Callable[[Any], Answer]) -> Answer:
        """What `work` returns for it as it is now."""

    def close(self) -> None:
        """Let go of it."""


class LiveIndex:
    """Opens an index folder, and opens it anew when another index lies there under the same name.

    A commit to the same index needs none of this: Index.reading() sees it. Replacing the folder (or the symbolic link it is
    reached by) does: files of two indices must never be read together.
    """

    def __init__(self, path: str | Path, encoder: "TextEncoder | None") -> None:
        """encoder: what made the index's vectors; None = whatever did.

        Raises RagvecError if there is no index, or it is another encoder's.
        """
        self.path = local_folder("path", path)
        self._encoder = encoder
        self._places = Places(self.path, *([] if encoder is None else [encoder.source]))
        self._lock = threading.Lock()
        self._opened = self._open()
        load_faiss()  # once, where many queries follow: small indices are searched faster by it too

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.absolute().name

    def call(self, work: Callable[[Index], Answer]) -> Answer:
        """What `work` returns when given the index; given the new one if the folder was replaced while it worked.

        Raises what `work` raises for reasons of its own, IndexUnavailable if the index is gone or damaged. No error but
        WrongInput, which speaks of the request, says where on this machine anything lies: the log does.
        """
        try:
            return self._call(work)
        except WrongInput:
            raise
        except RagvecError as error:
            text = str(error)
            shown = self._places.without(text)
            if shown != text or error.status >= 500:
                _log.warning("%s", text)
                error.args = (shown,)
            raise

    def _call(self, work: Callable[[Index], Answer]) -> Answer:
        started = still = time.monotonic()  # since when this call waits, and since when the same folder lies there
        seen = None
        while True:
            opened = None
            try:
                opened = self._current()
                answer = work(opened.index)
            except QueueFull:
                raise  # the server is short of time, whatever index it was for
            except (RagvecError, OSError) as error:
                there, now = database_identity(self.path), time.monotonic()
                is_same = opened is not None and there == opened.identity  # or it was away meanwhile, and came back
                if is_same and not isinstance(error, (Damaged, Unavailable, OSError)):
                    raise
                if there != seen:
                    seen, still = there, now
                if now > started + PATIENCE_S or (there is not None and now > still + SETTLING_S):
                    what = str(error) if is_same else f"the index in {self.path.name} was moved away or replaced: {error}"
                    raise IndexUnavailable(what) from error
                time.sleep(PAUSE_S)
                continue
            if database_identity(self.path) in (opened.identity, None):
                return answer

    def close(self) -> None:
        """Close the index."""
        self._opened.index.close()

    def _current(self) -> _Opened:
        if database_identity(self.path) in (self._opened.identity, None):
            return self._opened
        with self._lock:
            if database_identity(self.path) not in (self._opened.identity, None):
                self._opened = self._open()  # the old one closes when its last reader lets go of it
            return self._opened

    def _open(self) -> _Opened:
        for _ in range(10):
            before = database_identity(self.path)
            # by its real name: a link that changes must not mix the files of two indices
            index = Index.open(self.path.resolve(), encoder=self._encoder)
            if before is not None and before == database_identity(self.path):
                return _Opened(before, index)
        raise IndexUnavailable(f"the index in {self.path} changes all the time: wait until it is in its place")


class LiveJoint:
    """Several index folders searched as one, each of which may be replaced under the server as a single one may."""

    def __init__(self, paths: Sequence[str | Path], encoder: "TextEncoder | None") -> None:
        """Raises RagvecError if one of them is not there, is another encoder's, or they don't agree."""
        check_paths(paths)
        self._lives = [LiveIndex(path, encoder) for path in paths]
        self._lock = threading.Lock()
        self._joint: Joint | None = None
        self.call(len)

    @property
    def name(self) -> str:
        """The folders' names."""
        return ", ".join(live.name for live in self._lives)

    def call(self, work: Callable[[Joint], Answer]) -> Answer:
        """What `work` returns when given all of them as one; raises as `LiveIndex.call`."""
        return self._within(self._lives, [], work)

    def close(self) -> None:
        """Close the indices."""
        for live in self._lives:
            live.close()

    def _within(self, lives: Sequence[LiveIndex], indices: list[Index], work: Callable[[Joint], Answer]) -> Answer:
        if not lives:
            return work(self._current(indices))
        return lives[0].call(lambda index: self._within(lives[1:], [*indices, index], work))

    def _current(self, indices: list[Index]) -> Joint:
        """These as one: what was known of them before, as long as none was replaced."""
        with self._lock:
            if self._joint is None or self._joint.indices != indices:
                self._joint = Joint(indices)
            return self._joint
