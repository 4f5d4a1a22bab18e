"""A store under a server: the database holds it, so there is no folder to watch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ragvec.index.encoder import check_encoder
from ragvec.stores import StoreIndex, open_store

if TYPE_CHECKING:
    from ragvec.encoder.protocol import TextEncoder

Answer = TypeVar("Answer")


class LiveStore:
    """A collection in a database, as a server searches it."""

    def __init__(self, address: str, encoder: "TextEncoder | None") -> None:
        """Raises RagvecError if it can't be reached, or its vectors are another encoder's."""
        self._index = StoreIndex(open_store(address))
        if encoder is not None:
            check_encoder(self._index.settings, encoder)

    @property
    def name(self) -> str:
        """The table's name alone: clients need not know where it is."""
        return self._index.store.name.rpartition("/")[2]

    def call(self, work: Callable[[StoreIndex], Answer]) -> Answer:
        """What `work` returns for it."""
        return work(self._index)

    def close(self) -> None:
        """Close its connections."""
        self._index.close()
