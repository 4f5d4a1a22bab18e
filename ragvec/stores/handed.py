"""Shards handed over to databases that a user goes on with by their own clients: LanceDB and Qdrant.

What is written is what each likes: a table, a collection of points, with vectors of float32, and beside them which encoder made
them. Both are brought up to date: what is gone from the shards is removed.
"""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from ragvec.errors import RagvecError, Unavailable, WrongInput, first_line
from ragvec.objects import is_url
from ragvec.records import Passage
from ragvec.shards import Shards
from ragvec.stores.store import Collection

MARK = "ragvec"  # under which a table or a collection says which encoder made its vectors
_COLUMNS = ("passage_id", "doc_id", "title", "text", "metadata")
_POINTS = 256  # that are sent together
_IDS = uuid.UUID("6f1c9f0e-7c55-4e8e-9a0b-0d5b6f0a8a11")  # namespace of the ids of points


def write_lancedb(shards: Shards, address: str) -> tuple[str, int]:
    """Write a table of LanceDB, FOLDER/TABLE or s3://bucket/folder/TABLE, over one of the same name that ragvec has written.

    Columns: passage_id, doc_id, title, text, metadata (JSON) and vector, a fixed-size list of float32. The new version counts
    once it is whole. Returns the table's name, and the passages.
    """
    import lancedb

    folder, name = _split(address)
    with _told(address):
        database = lancedb.connect(folder)
        before = _read_collection(database.open_table(name).schema, address) if name in _tables(database) else None
        schema = _lance_schema(_grown(before, shards, address))
        rows = pa.RecordBatchReader.from_batches(schema, _lance_batches(shards, schema))
        table = database.create_table(name, data=rows, schema=schema, mode="overwrite")
        return address, table.count_rows()


def write_qdrant(shards: Shards, address: str) -> tuple[str, int]:
    """Write a collection of Qdrant, http://host:6333/COLLECTION, or FOLDER/COLLECTION of the client's local mode.

    A point's id is a UUID of its passage_id; its payload holds passage_id, doc_id, title, text and metadata. Similarity is the
    inner product. Points that are gone from the shards are removed at the end. Returns the collection's name, and the passages.
    """
    from qdrant_client import QdrantClient, models

    place, name = _split(address)
    with _told(address):
        client = QdrantClient(url=place) if "://" in place else QdrantClient(path=place)
        try:
            before = None
            if client.collection_exists(name):
                before = _read_marked(client.get_collection(name).config.metadata, address)
            about = {MARK: json.loads(_grown(before, shards, address).written())}
            if before is None:
                size = models.VectorParams(size=shards.manifest.dimension, distance=models.Distance.DOT)
                client.create_collection(name, vectors_config=size, metadata=about)
            stamp, sent = time.time_ns(), 0
            for passages, vectors in shards.blocks(_POINTS):
                rows = zip(passages, np.asarray(vectors, np.float32).tolist(), strict=True)
                points = [models.PointStruct(id=point_id(p), vector=row, payload=_payload(p, stamp)) for p, row in rows]
                client.upsert(name, points, wait=True)
                sent += len(points)
            mine = models.FieldCondition(key=MARK, match=models.MatchValue(value=stamp))
            client.delete(name, models.FilterSelector(filter=models.Filter(must_not=[mine])), wait=True)
            return address, sent
        finally:
            client.close()


def point_id(passage: Passage) -> str:
    """The id of a passage's point in Qdrant, which takes UUIDs and numbers alone."""
    return str(uuid.uuid5(_IDS, passage.passage_id))


def _payload(passage: Passage, stamp: int) -> dict[str, Any]:
    texts = {name: getattr(passage, name) for name in _COLUMNS}
    return {**texts, MARK: stamp}


def _split(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    place, _, name = address.rpartition("/")
    if not name or not place.strip("/:") or parts.query or parts.fragment or (is_url(address) and "@" in parts.netloc):
        raise WrongInput("this names no table: write its database's folder or URL, a slash, and its name")
    return place, name


def _grown(before: Collection | None, shards: Shards, address: str) -> Collection:
    """What the shards' vectors are. Raises WrongInput where others are there."""
    collection = Collection.of(shards.manifest)
    return collection if before is None else replace(before.grown(collection, address), fields=())


def _read_collection(schema: pa.Schema, address: str) -> Collection:
    text = (schema.metadata or {}).get(MARK.encode())
    return _read_marked({MARK: json.loads(text)} if text else None, address)


def _read_marked(about: dict[str, Any] | None, address: str) -> Collection:
    if not about or MARK not in about:
        raise WrongInput(f"{address} is not one that ragvec has written: name another")
    return Collection.read(json.dumps(about[MARK]), address)


def _tables(database: Any) -> list[str]:
    return list(database.table_names(limit=100_000))


def _lance_schema(collection: Collection) -> pa.Schema:
    columns = [pa.field(name, pa.string()) for name in _COLUMNS]
    vector = pa.field("vector", pa.list_(pa.float32(), collection.dimension))
    return pa.schema([*columns, vector], metadata={MARK: collection.written()})


def _lance_batches(shards: Shards, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for passages, vectors in shards.blocks():
        texts = [[getattr(passage, name) for passage in passages] for name in _COLUMNS[:-1]]
        texts.append([passage.metadata_json for passage in passages])
        values = pa.array(np.asarray(vectors, np.float32).reshape(-1))
        rows = pa.FixedSizeListArray.from_arrays(values, shards.manifest.dimension)
        yield pa.record_batch([*(pa.array(one, pa.string()) for one in texts), rows], schema=schema)


@contextmanager
def _told(address: str) -> Iterator[None]:
    """The clients' errors in one line."""
    try:
        yield
    except RagvecError:
        raise
    except Exception as error:
        host = urlsplit(address).netloc.rpartition("@")[2]
        raise Unavailable(f"{host or address} can't be written: {type(error).__name__}: {first_line(error)}") from None
