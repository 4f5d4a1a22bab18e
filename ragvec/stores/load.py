"""Shards into a store."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ragvec.errors import RagvecError, WrongInput
from ragvec.index.nearness import FEWEST, near_between, sample_places
from ragvec.records import Passage
from ragvec.shards import Shards
from ragvec.stores.address import HANDED, open_store
from ragvec.stores.store import Collection, Store

BLOCK_ROWS = 1024  # passages that are handed to a store together


class LoadReport(NamedTuple):
    """What was loaded, and into what; failed: passages of the shards that have no vector."""

    name: str
    passages: int
    failed: int


def load_shards(folder: str | Path, store: Store, *, keep: bool = False) -> LoadReport:
    """Load a folder of shards into a store's collection, made if it is not there; documents of the same id are replaced.

    keep  documents that the shards don't hold stay; otherwise they are removed
    Raises RagvecError for shards that are not finished, and for a collection of
    another encoder or instruction.
    """
    shards = Shards.open(folder)
    collection, before = Collection.of(shards.manifest), store.collection()
    if before is not None:
        collection = before.grown(collection, store.name)
    fields: set[str] = set(collection.fields if keep else ())

    def blocks() -> Iterator[tuple[list[Passage], np.ndarray]]:
        for passages, vectors in shards.blocks(BLOCK_ROWS):
            fields.update(name for passage in passages for name in passage.metadata)
            _check_storable(passages)
            yield passages, np.asarray(vectors, dtype=np.float16)

    loaded = store.load(collection, blocks(), keep=keep)
    described = Collection(
        collection.encoder_source,
        collection.fingerprint,
        collection.dimension,
        document_instruction=collection.document_instruction,
        normalized=collection.normalized,
        fields=tuple(sorted(fields)),
        near=measured_near(store, collection.dimension),
    )
    store.describe_anew(described)
    return LoadReport(store.name, loaded, len(shards.manifest.failed))


def export_shards(folder: str | Path, to: str, address: str, *, keep: bool = False) -> LoadReport:
    """Bring shards into a database: pgvector and milvus, see `load_shards`; lancedb and qdrant, see `ragvec.stores.handed`.

    Raises WrongInput for an address that is none, or `keep` where it can't be; RagvecError where the client is missing.
    """
    if to not in HANDED:
        return load_shards(folder, open_store(address, to), keep=keep)
    if keep:
        raise WrongInput(f"a table of {to} is written as a whole: leave `keep` out")
    from ragvec.stores import handed

    shards = Shards.open(folder)
    try:
        name, passages = (handed.write_lancedb if to == "lancedb" else handed.write_qdrant)(shards, address)
    except ImportError as error:
        raise RagvecError(f"{to} needs {error.name}: pip install 'ragvec[{to}]'") from error
    return LoadReport(name, passages, len(shards.manifest.failed))


def measured_near(store: Store, dimension: int) -> float | None:
    """From which similarity on a passage of the store is near a query: measured as in an index, by the store's own search."""
    with store.reading() as reader:
        ids = reader.ids()
        if len(ids) < FEWEST:
            return None
        chosen = ids[sample_places(len(ids), dimension)].tolist()
        rows = reader.fetch(chosen)
        sample = np.stack([rows[number].vector for number in chosen])
        second = [np.partition(reader.search(vector, 2, None).scores[0], -2)[-2] for vector in sample]
    return near_between(sample, np.array(second, dtype=np.float32))


def _check_storable(passages: list[Passage]) -> None:
    """Raises WrongInput for a NUL character, which databases' texts can't hold, before anything of the block is stored."""
    for passage in passages:
        texts = (passage.passage_id, passage.doc_id, passage.title, passage.text)
        if any("\x00" in text for text in texts) or "\\u0000" in passage.metadata_json:
            raise WrongInput(f"passage {passage.passage_id!r:.80} holds a NUL character, which stores can't: clean the text")
