"""What a server serves: which index, or which together, and the encoder that goes with it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ragvec.artefacts import DATABASE_NAME
from ragvec.errors import NotFound, WrongInput
from ragvec.index.encoder import load_encoder
from ragvec.retrieve.searched import Place, named_places, open_searched, parted
from ragvec.serve.live import Live, LiveIndex, LiveJoint
from ragvec.stores import is_store

if TYPE_CHECKING:
    from ragvec.encoder import Encoder
    from ragvec.encoder.protocol import TextEncoder

DEFAULT_INDEX = Path("ragvec-index")


def choose_index(named: Sequence[Place], *, writable: bool = False) -> Place | Sequence[Place] | None:
    """What to serve: what is named, else the index in the default folder, else none.

    Raises RagvecError if what is named is not there, or if there is nothing to write to.
    """
    if not named and not (DEFAULT_INDEX / DATABASE_NAME).is_file():
        if writable:
            raise NotFound(f"writable needs an index, and there is none in {DEFAULT_INDEX}: name one")
        return None
    if writable and any(map(is_store, named)):
        raise WrongInput("a store is read and not written to by a server: load documents with `ragvec export`")
    if writable and parted(named)[0]:
        raise WrongInput("what other servers serve is read and not written to: make the one that changes writable itself")
    if writable and len(named) > 1:
        raise WrongInput("several indices are read as one and not written to: serve the one that changes by itself")
    chosen = named if len(named) > 1 else (*named, DEFAULT_INDEX)[0]
    open_searched(chosen).close()
    return chosen


def open_live(places: Place | Sequence[Place], encoder: "TextEncoder | None") -> Live:
    """What a server searches; encoder: what made the vectors. Raises RagvecError where `open_searched` does."""
    named = named_places(places)
    if len(named) == 1 and is_store(named[0]):
        from ragvec.serve.live_store import LiveStore

        return LiveStore(str(named[0]), encoder)
    servers, folders = parted(named)
    local = None if not folders else LiveIndex(folders[0], encoder) if len(folders) == 1 else LiveJoint(folders, encoder)
    if local is not None and not servers:
        return local
    from ragvec.serve.live_servers import LiveServers

    return LiveServers(servers, local, encoder)


def loader(
    places: Place | Sequence[Place] | None,
    source: str | None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    offline: bool = False,
    batch_tokens: int | None = None,
) -> "Callable[[], Encoder]":
    """A function that loads the encoder of an index, or of `source` where there is none; the others as for `Encoder.load`."""

    def load() -> "Encoder":
        options = {"device": device, "dtype": dtype, "offline": offline, "batch_tokens": batch_tokens}
        if places is not None:
            searched = open_searched(places)
            try:
                return load_encoder(searched.settings, source, **options)
            finally:
                searched.close()
        from ragvec.encoder import Encoder

        return Encoder.load(source, device=device, dtype=dtype, offline=offline, batch_tokens=batch_tokens)

    return load
