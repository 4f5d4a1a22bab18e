"""A collection in Milvus, or in a file of milvus-lite: an alias, which a load that is whole is put under at once."""

import logging
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
from pymilvus import MilvusClient, MilvusException

from ragvec.errors import RagvecError, Unavailable, WrongInput, first_line
from ragvec.records import Passage
from ragvec.stores.milvus_filters import any_text
from ragvec.stores.milvus_indices import DEFAULT, index_of, known, make_index, wait_for_index
from ragvec.stores.milvus_reader import MilvusReader
from ragvec.stores.milvus_rows import batched, row_of, rows_of, schema_of, whole_documents
from ragvec.stores.store import Collection

PROPERTY = "ragvec"  # of a collection of ours: which encoder made its vectors
CONNECT_S = 10
_TOGETHER = 8 << 20  # bytes that are sent together; Milvus takes 64 MB
_MISSING = 100  # Milvus's code for a collection that is not there
_BESIDE = re.compile(r"_[0-9a-f]{16}")  # what a collection's name has more than its alias


class Address(NamedTuple):
    """Where a collection is. uri: a server's, or a file's path; name: in messages; kind: of the index to make, if named."""

    uri: str
    token: str
    database: str
    collection: str
    name: str
    kind: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether milvus-lite keeps it in a file."""
        return "://" not in self.uri


def read_address(address: str) -> Address:
    """milvus://user:password@host:19530/collection, or …/database/collection; milvus:///folder/file.db/collection is a file's.

    milvus+https:// is a server's behind TLS; ?index=DISKANN (see KINDS) at the end is for a load.
    Raises WrongInput, which repeats nothing of the address: it may hold a password.
    """
    try:
        parts = urlsplit(address)
        place, _, collection = parts.path.rpartition("/")
        option, _, kind = parts.query.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,200}", collection) or option not in ("", "index") or parts.fragment:
            raise ValueError
        if parts.netloc in ("", "."):
            if parts.scheme != "milvus" or not place.endswith(".db"):
                raise ValueError
            path = unquote(f"{parts.netloc}{place}")
            name = f"milvus://{path}/{collection}"
            return Address(uri=path, token="", database="", collection=collection, name=name, kind=kind or None)
        host = f"{parts.hostname}:{parts.port or 19530}"
        database = place.strip("/")
        if "/" in database or not parts.hostname:
            raise ValueError
        token = ":".join(unquote(part) for part in (parts.username, parts.password) if part)
    except ValueError:
        raise WrongInput(
            "this is no address of a collection in Milvus: write it like milvus://host:19530/collection, "
            "or milvus:///folder/file.db/collection for milvus-lite; a collection's name is of letters, digits and _"
        ) from None
    scheme = "https" if parts.scheme == "milvus+https" else "http"
    name = f"milvus://{host}{place}/{collection}"
    uri = f"{scheme}://{host}"
    return Address(uri=uri, token=token, database=database, collection=collection, name=name, kind=kind or None)


class MilvusStore:
    """A `Store` in Milvus."""

    def __init__(self, address: str) -> None:
        """Nothing is asked of Milvus yet. Raises WrongInput for an address that is none."""
        self._address = read_address(address)
        self.name = self._address.name
        self._index = known(self._address.kind or DEFAULT)
        self._opened: MilvusClient | None = None
        self._indices: dict[str, str] = {}  # of collections that were read, by name
        self._lock = threading.Lock()

    def collection(self) -> Collection | None:
        """What the collection's properties say; None = there is none. Raises WrongInput for one that is not ragvec's."""
        with self._told():
            found = self._found(self._address.collection)
        return None if found is None else Collection.read(found["properties"][PROPERTY], self.name)

    def load(self, collection: Collection, blocks: Iterable[tuple[list[Passage], np.ndarray]], *, keep: bool) -> int:
        """Load into a collection of its own, which the alias then leads to; with `keep`, document by document into the old."""
        with self._told():
            before = self._found(self._address.collection)
            if before is not None and keep:
                there = before["collection_name"]
                if self._address.kind and (held := index_of(self._client(), there)) != self._index:
                    raise WrongInput(
                        f"{self.name} has an index {held}: leave `keep` out, which makes {self._index}, or the index"
                    )
                return sum(self._bring_in(there, passages, vectors) for passages, vectors in whole_documents(blocks))
            name = f"{self._address.collection}_{time.time_ns():016x}"
            self._sweep(before)
            try:
                loaded = self._fill(name, collection, blocks)
                if before is None:
                    self._client().create_alias(name, self._address.collection)
                else:
                    self._client().alter_alias(name, self._address.collection)
            except BaseException:
                with suppress(MilvusException):  # the next load sweeps it
                    self._client().drop_collection(name)
                raise
            if before is not None:
                self._client().drop_collection(before["collection_name"])
            return loaded

    def upsert(self, passages: Sequence[Passage], vectors: np.ndarray) -> int:
        """Bring documents in, in place of those of their ids; for a moment both are there."""
        with self._told():
            return self._bring_in(self._there(), list(passages), vectors)

    def delete(self, doc_ids: Sequence[str]) -> int:
        """Remove documents; returns how many passages went."""
        with self._told():
            name = self._there()
            documents = [any_text("doc_id", some) for some in batched(doc_ids)]
            ids = [row["id"] for some in documents for row in rows_of(self._client(), name, some, ["id"])]
            self._remove(name, ids)
        return len(ids)

    def describe_anew(self, collection: Collection) -> None:
        """Keep this in the collection's properties."""
        with self._told():
            self._client().alter_collection_properties(self._there(), {PROPERTY: collection.written()})

    @contextmanager
    def reading(self) -> Iterator["MilvusReader"]:
        """The collection that the alias leads to now."""
        with self._told():
            client, name = self._client(), self._there()
            if name not in self._indices:
                self._indices = {name: index_of(client, name)}
            yield MilvusReader(client, name, self.name, index=self._indices[name])

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _client(self) -> MilvusClient:
        with self._lock:
            if self._opened is None:
                address = self._address
                if address.is_file and find_spec("milvus_lite") is None:
                    raise RagvecError("a file of Milvus needs milvus-lite: pip install 'ragvec[milvus]'")
                logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs what it raises, expressions included
                self._opened = MilvusClient(
                    uri=address.uri, token=address.token, db_name=address.database, timeout=CONNECT_S
                )  # fmt: skip
            return self._opened

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Milvus's errors in one line."""
        try:
            yield
        except UnicodeError as error:
            raise WrongInput(f"{self.name}: {first_line(error)}") from None
        except (MilvusException, OSError) as error:
            said = first_line(error)
            for secret in filter(None, self._address.token.split(":")[1:]):
                said = said.replace(secret, "…")
            raise Unavailable(f"{self.name} can't be reached or used: {said}") from None

    def _found(self, name: str) -> dict[str, Any] | None:
        if self._address.is_file and not Path(self._address.uri).exists():
            return None
        try:
            found: dict[str, Any] = self._client().describe_collection(name)
        except MilvusException as error:
            if error.code == _MISSING:
                return None
            raise
        if PROPERTY not in found["properties"]:
            raise WrongInput(f"the collection {self.name} is not one that ragvec has made: name another")
        return found

    def _there(self) -> str:
        found = self._found(self._address.collection)
        if found is None:
            raise WrongInput(f"there is no {self.name}")
        return str(found["collection_name"])

    def _sweep(self, current: dict[str, Any] | None) -> None:
        """Drop what a load that was killed has left beside the collection."""
        client, alias = self._client(), self._address.collection
        for name in client.list_collections():
            is_ours = name.startswith(alias) and _BESIDE.fullmatch(name[len(alias) :])
            if not is_ours or (current is not None and name == current["collection_name"]):
                continue
            with suppress(WrongInput):  # of somebody else's
                if self._found(name):
                    client.drop_collection(name)

    def _fill(self, name: str, collection: Collection, blocks: Iterable[tuple[list[Passage], np.ndarray]]) -> int:
        client = self._client()
        client.create_collection(
            name,
            schema=schema_of(collection.dimension),
            properties={PROPERTY: collection.written()},
            consistency_level="Session",
        )
        if not self._address.is_file:  # a server says at once that it knows no such index
            make_index(client, name, self._index)
        loaded = sum(self._insert(name, passages, vectors) for passages, vectors in whole_documents(blocks))
        client.flush(name)
        if self._address.is_file:
            make_index(client, name, self._index)  # it can be made but once, and a kind that is unknown is told as it is built
        else:
            wait_for_index(client, name)
        client.load_collection(name)
        return loaded

    def _bring_in(self, name: str, passages: list[Passage], vectors: np.ndarray) -> int:
        old: list[int] = []
        for some in batched(passages):
            documents = any_text("doc_id", dict.fromkeys(passage.doc_id for passage in some))
            same = any_text("passage_id", (passage.passage_id for passage in some))
            if twice := self._client().query(name, filter=f"{same} and not ({documents})", output_fields=["passage_id"]):
                shown = twice[0]["passage_id"]
                raise WrongInput(f"{self.name}: another document has passage {shown!r:.80}: ids must be unique")
            old += [row["id"] for row in rows_of(self._client(), name, documents, ["id"])]
        loaded = self._insert(name, passages, vectors)
        self._remove(name, old)
        return loaded

    def _insert(self, name: str, passages: list[Passage], vectors: np.ndarray) -> int:
        rows: list[dict[str, Any]] = []
        size = place = 0
        for number, passage in enumerate(passages):
            place = place + 1 if number and passages[number - 1].doc_id == passage.doc_id else 0
            rows.append(row_of(passage, vectors[number], place))
            size += 4 * vectors.shape[1] + 4 * len(passage.text) + 1024
            if size > _TOGETHER or number == len(passages) - 1:
                self._client().insert(name, rows)
                rows, size = [], 0
        return len(passages)

    def _remove(self, name: str, ids: list[int]) -> None:
        """Take rows out. When this returns, no process sees them: a session's guarantee would hold for itself alone."""
        for some in batched(ids):
            self._client().delete(name, ids=some)
        self._client().query(name, filter="id >= 0", limit=1, output_fields=["id"], consistency_level="Strong")
