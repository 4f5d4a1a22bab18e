"""What a server serves: which index, and the encoder that goes with it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ragvec.artefacts import DATABASE_NAME
from ragvec.errors import NotFound
from ragvec.index import Index
from ragvec.index.encoder import load_encoder

if TYPE_CHECKING:
    from ragvec.encoder import Encoder

DEFAULT_INDEX = Path("ragvec-index")


def choose_index(path: Path | None, *, writable: bool = False) -> Path | None:
    """The index to serve: the one named, else the one in the default folder, else none.

    Raises RagvecError if the one named is not there, or if there is none to write to.
    """
    if path is None and not (DEFAULT_INDEX / DATABASE_NAME).is_file():
        if writable:
            raise NotFound(f"writable needs an index, and there is none in {DEFAULT_INDEX}: name one")
        return None
    chosen = path or DEFAULT_INDEX
    Index.open(chosen).close()
    return chosen


def loader(
    path: Path | None,
    source: str | None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    offline: bool = False,
    batch_tokens: int | None = None,
) -> "Callable[[], Encoder]":
    """A function that loads the encoder of an index, or of `source` where there is none; the others as for `Encoder.load`."""

    def load() -> "Encoder":
        if path is not None:
            with Index.open(path) as index:
                return load_encoder(
                    index.settings, source, device=device, dtype=dtype, offline=offline, batch_tokens=batch_tokens
                )
        from ragvec.encoder import Encoder

        return Encoder.load(source, device=device, dtype=dtype, offline=offline, batch_tokens=batch_tokens)

    return load
