"""An index's encoder that loads when it is first needed."""

import threading
from typing import TYPE_CHECKING

from ragvec.errors import RagvecError, Unavailable
from ragvec.index import IndexSettings
from ragvec.index.encoder import load_encoder

if TYPE_CHECKING:
    from ragvec.encoder import Encoder


class LazyEncoder:
    """Loads once, whichever thread asks first; lexical search never asks."""

    def __init__(
        self,
        settings: IndexSettings,
        source: str | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        offline: bool = False,
    ) -> None:
        """source: in the place of the one that the settings name; the others as for `Encoder.load`."""

        def load() -> "Encoder":
            return load_encoder(settings, source, device=device, dtype=dtype, offline=offline)

        self._load = load
        self._lock = threading.Lock()
        self._encoder: Encoder | None = None

    def get(self) -> "Encoder":
        """The encoder. Raises Unavailable if it can't be loaded or is not the index's: no request asked for one."""
        with self._lock:
            if self._encoder is None:
                try:
                    self._encoder = self._load()
                except RagvecError as error:
                    raise Unavailable(f"the index's encoder can't be loaded: {error}") from error
            return self._encoder
