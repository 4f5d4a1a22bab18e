"""An object as a file: read by byte ranges, a few megabytes at a time, so that no object is ever held in memory whole."""

import io
from typing import TYPE_CHECKING

from ragvec.errors import Damaged
from ragvec.objects.bucket import described, patient, store_of
from ragvec.objects.errors import told
from ragvec.objects.urls import ObjectPath

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_SEQUENTIAL = 4 << 20  # bytes of a request that goes on where the one before ended
_RANDOM = 64 << 10  # of one elsewhere, such as a Parquet file's footer


class ObjectFile(io.RawIOBase):
    """A readable, seekable file of an object. Raises NotFound and the like, Damaged if it is replaced while it is read."""

    def __init__(self, path: ObjectPath) -> None:
        import obstore

        self._path, self._store = path, store_of(path.root_url)
        if path.found and not path.found.size:  # which may mark a folder, and is then no object of that name
            self.about = path.found
        else:
            with told(str(path)):
                self.about = described(patient(lambda: obstore.head(self._store, path.key)))
        self._position = self._start = 0
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.about.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill the buffer, up to the end of the object: Arrow takes less for a damaged file."""
        room, done = memoryview(buffer).cast("B"), 0
        while done < len(room) and self._position < self.about.size:
            place = self._position - self._start
            if not 0 <= place < len(self._held):
                self._fetch(len(room) - done)
                place = 0
            piece = self._held[place : place + len(room) - done]
            room[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done

    def _fetch(self, wanted: int) -> None:
        import obstore

        least = _SEQUENTIAL if self._position == self._start + len(self._held) else _RANDOM
        end = min(self._position + max(wanted, least), self.about.size)

        def fetched() -> tuple[memoryview, str]:
            result = obstore.get(self._store, self._path.key, options={"range": (self._position, end)})
            return memoryview(bytes(result.bytes())), result.meta["e_tag"] or ""

        with told(str(self._path)):
            held, etag = patient(fetched)
        if etag != self.about.etag or len(held) != end - self._position:
            raise Damaged(f"{self._path} was replaced while it was read: run the same command again")
        self._start, self._held = self._position, held
