"""A folder of object storage: objects are read, put, created once, listed and removed by their names in it."""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ragvec.errors import Damaged, NotFound, RagvecError, Unavailable, WrongInput
from ragvec.files import MOST_DESCRIBED
from ragvec.objects.errors import told
from ragvec.objects.urls import ObjectPath, as_path

_T = TypeVar("_T")
_PATIENCE_S = 60
_RETRIES = {"max_retries": 8, "retry_timeout": timedelta(seconds=_PATIENCE_S)}
_REMOVED_TOGETHER = 1000


class Found(NamedTuple):
    """An object in a listing: its whole name in the bucket, bytes, and when it was written; etag: "" where there is none."""

    name: str
    size: int
    modified: datetime
    etag: str


class Bucket:
    """What lies below a URL. Names are relative to it; errors are ours, and name the URL."""

    def __init__(self, place: str | Path, *, single_writer: bool = False) -> None:
        """single_writer: nobody else writes there, so `create` need not be refereed by the store.

        Raises WrongInput for what is no URL of object storage, and RagvecError where obstore is missing.
        """
        path = as_path(place)
        assert isinstance(path, ObjectPath), place
        self.path, self.single_writer = path, single_writer
        self._store = store_of(path.root_url)
        self._prefix = f"{path.key}/" if path.key else ""

    def __str__(self) -> str:
        return str(self.path)

    def read(self, name: str, *, most: int = MOST_DESCRIBED) -> bytes:
        """A whole object that describes others. Raises NotFound, and WrongInput for one of more bytes."""
        import obstore

        with told(f"{self}/{name}"):
            result = patient(lambda: obstore.get(self._store, self._prefix + name))
            if result.meta["size"] > most:
                raise WrongInput(f"{self}/{name} has {result.meta['size']:,} bytes, over {most:,}: restore it")
            return bytes(result.bytes())

    def put(self, name: str, data: bytes) -> None:
        """Write an object, whole, over what bears the name."""
        import obstore

        with told(f"{self}/{name}"):
            patient(lambda: obstore.put(self._store, self._prefix + name, data, use_multipart=False))

    def create(self, name: str, data: bytes) -> bool:
        """Write an object if there is none of this name; returns whether there was none."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        if self.single_writer:
            if self.size(name) is not None:
                return False
            self.put(name, data)
            return True
        try:
            with told(f"{self}/{name}"):
                patient(lambda: obstore.put(self._store, self._prefix + name, data, mode="create", use_multipart=False))
        except AlreadyExistsError:
            return False
        return True

    def size(self, name: str) -> int | None:
        """An object's bytes; None if there is none."""
        found = self.find(name)
        return None if found is None else found.size

    def find(self, name: str) -> Found | None:
        """What the store says of an object; None if there is none."""
        import obstore

        with suppress(NotFound), told(f"{self}/{name}"):
            return described(patient(lambda: obstore.head(self._store, self._prefix + name)))
        return None

    def listed(self, folder: str = "") -> Iterator[Found]:
        """All objects below a folder of it, by whole name, in no order that counts. Raises Damaged for one that is not."""
        import obstore

        place, prefix = f"{self}/{folder}".rstrip("/"), self._prefix + folder
        with told(place):
            first, others = patient(lambda: _begun(obstore.list(self._store, prefix)))
            for chunk in chain([first], others):
                for found in map(described, chunk):
                    if not found.name.startswith(prefix):
                        raise Damaged(f"the store lists {found.name!r:.200} below {place}, where it is not: ask its maker")
                    yield found

    def names(self, folder: str) -> dict[str, int]:
        """The names, relative to the URL, of all objects below a folder, and their bytes."""
        return {found.name[len(self._prefix) :]: found.size for found in self.listed(folder)}

    def folders(self) -> list[str]:
        """The names of the folders right below it."""
        import obstore

        with told(str(self)):
            found = patient(lambda: obstore.list_with_delimiter(self._store, self._prefix or None))
        return [str(folder).rstrip("/").rpartition("/")[2] for folder in found["common_prefixes"]]

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there count as removed."""
        import obstore

        left = iter(names)
        while some := tuple(self._prefix + name for name in islice(left, _REMOVED_TOGETHER)):
            with suppress(NotFound), told(str(self)):
                patient(partial(obstore.delete, self._store, some))

    def check_usable(self) -> None:
        """Try whether the store creates an object once only, unless one writer is alone there, and gives pieces of it.

        Raises WrongInput where it lets a second writer win, whose manifest would stand over parts of another's, and Unavailable
        where it gives no pieces: what is written there could not be read.
        """
        import obstore

        name = f"probe-{secrets.token_hex(8)}"
        try:
            if not (self.create(name, b"12") and (self.single_writer or not self.create(name, b"34"))):
                raise WrongInput(
                    f"the store of {self} lets two writers create the same object (it does not heed If-None-Match): "
                    "if this run is the only one that writes there, say `single_writer`; else choose another store"
                )
            try:
                with told(f"{self}/{name}"):
                    obstore.get(self._store, self._prefix + name, options={"range": (0, 1)})
            except Unavailable as error:
                raise Unavailable(
                    f"the store of {self} does not answer byte ranges as S3 does (status 206), and what is written there could "
                    "not be read: choose another store"
                ) from error
        finally:
            with suppress(RagvecError):
                self.remove([name])


def patient(ask: Callable[[], _T]) -> _T:
    """What a call of obstore's returns, which is made once more where its time had run out.

    It counts time while this process stood still, on a laptop that slept or a machine that was paused, as the store's silence.
    """
    from obstore import exceptions

    begun = time.monotonic()
    try:
        return ask()
    except exceptions.GenericError:
        if time.monotonic() - begun < _PATIENCE_S:
            raise
    return ask()


def _begun(chunks: Iterator[Any]) -> tuple[Any, Iterator[Any]]:
    """The first piece of a listing, empty if there is none, and the others: where one of them fails, it can't go on."""
    return next(chunks, []), chunks


def described(meta: Any) -> Found:
    """What obstore says of an object."""
    return Found(meta["path"], int(meta["size"]), meta["last_modified"], meta["e_tag"] or "")


@lru_cache(maxsize=32)
def store_of(root: str) -> Any:
    """obstore's store of a bucket, by its URL; one for all who ask. Raises RagvecError where obstore is missing."""
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise RagvecError(f"object storage needs obstore ({error}): pip install 'ragvec[s3]'") from error
    # one request an object: not every store that speaks S3 removes many at once
    config = {"disable_bulk_delete": True} if root.startswith("s3:") else {}
    with told(root):
        return from_url(root, config=config, retry_config=_RETRIES)
