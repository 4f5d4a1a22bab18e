"""A store as a Retriever searches it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from ragvec.errors import NotFound, WrongInput, WrongUsage
from ragvec.index.ann.exact import SearchResult, keep_best
from ragvec.index.conditions import Filter
from ragvec.index.store import IndexSettings
from ragvec.index.where import parse_where
from ragvec.index.words.query import read_query
from ragvec.records import FilterValues, Passage
from ragvec.stores.address import SCHEMES
from ragvec.stores.store import Collection, Row, Store, StoreReader

BESIDE = 16  # passages looked at beside those asked for: stores round, what is found is scored again from the vectors


class StoreIndex:
    """A store's collection, open for reading by any number of threads; searched by vectors alone, filters included."""

    has_words = False

    def __init__(self, store: Store) -> None:
        """Raises NotFound if there is no such collection, WrongInput if it is none of ragvec's."""
        self.store = store
        self.collection()

    def collection(self) -> Collection:
        """What the collection says of itself now."""
        collection = self.store.collection()
        if collection is None:
            name = self.store.name
            kind = SCHEMES[name.partition("://")[0]]
            raise NotFound(f"there is no {name}: load it with `ragvec export SHARDS ADDRESS --to {kind}`")
        return collection

    def __reduce__(self) -> NoReturn:
        raise WrongUsage("a store and the secret that opens it are not pickled: call open_retriever in each process")

    @property
    def settings(self) -> IndexSettings:
        """Those of an index that holds these vectors."""
        return self.collection().settings

    @contextmanager
    def reading(self) -> Iterator["StoreView"]:
        """One state of it."""
        collection = self.collection()
        with self.store.reading() as reader:
            yield StoreView(reader, collection, self.store.name)

    def describe(self) -> dict[str, Any]:
        """What this collection is, under the names that an index uses; JSON values only."""
        collection = self.collection()
        with self.store.reading() as reader:
            counts = reader.count()
        return {
            "path": self.store.name,
            **counts,
            "dimension": collection.dimension,
            "encoder": collection.encoder_source,
            "fingerprint": collection.fingerprint,
            "document_instruction": collection.document_instruction,
            "normalized": collection.normalized,
        }

    def close(self) -> None:
        """Close the store's connections."""
        self.store.close()

    def __len__(self) -> int:
        """The number of passages."""
        with self.store.reading() as reader:
            return int(reader.count()["passages"])


class StoreView:
    """One state of a store's collection; has what an index's `View` has for a Retriever. What is allowed is a filter here."""

    def __init__(self, reader: StoreReader, collection: Collection, name: str) -> None:
        self._reader = reader
        self._collection = collection
        self._name = name
        self._rows: dict[int, Row] = {}

    @property
    def near(self) -> float | None:
        """From which similarity on a passage is near a query; None = not known."""
        return self._collection.near

    def search(self, vectors: np.ndarray, k: int, *, allowed: Filter | None = None) -> SearchResult:
        """The k passages nearest to each vector, best first, equal scores by id; scores are those of an index.

        Raises WrongInput for k < 1, another dimension, or values that are not finite.
        """
        if k < 1:
            raise WrongInput(f"k is {k}: ask for at least 1 result")
        queries = np.ascontiguousarray(vectors, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self._collection.dimension:
            raise WrongInput(f"{self._name} holds {self._collection.dimension}-d vectors, the queries have {queries.shape}")
        if not np.isfinite(queries).all():
            raise WrongInput("a query vector holds NaN or infinity")
        found = [self._nearest(query, k, allowed) for query in queries]
        width = max((len(ids) for ids, _ in found), default=0)
        result = SearchResult(
            np.full((len(queries), width), -np.inf, dtype=np.float32), np.full((len(queries), width), -1, dtype=np.int64)
        )
        for row, (ids, scores) in enumerate(found):
            result.ids[row, : len(ids)], result.scores[row, : len(ids)] = ids, scores
        return result

    def _nearest(self, query: np.ndarray, k: int, where: Filter | None) -> tuple[np.ndarray, np.ndarray]:
        ids = self._reader.search(query, k + BESIDE, where).ids[0]
        best = keep_best(SearchResult(self.similarities(query, ids)[None], ids[None]), k) if len(ids) else None
        return (ids, np.empty(0, np.float32)) if best is None else (best.ids[0], best.scores[0])

    def similarities(self, vector: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The inner products of a vector with these passages' stored ones; (n,) float32."""
        products: np.ndarray = np.einsum("nd,d->n", self.vectors(ids.tolist()), vector.astype(np.float32))
        return products

    def search_lexical(self, query: str, k: int, *, allowed: Filter | None = None, syntax: bool = False) -> NoReturn:
        """Raises WrongInput: databases weigh words in other ways than BM25 over ragvec's words does."""
        raise _no_words(self._name)

    def words_weight(self, query: str, *, syntax: bool = False) -> NoReturn:
        """Raises WrongInput."""
        raise _no_words(self._name)

    def limited(self, query: str) -> None:
        """None: raises WrongInput for a query that says what must or must not be."""
        if read_query(query, syntax=True).limits:
            raise WrongInput(f"{self._name} holds no words, so none can be asked for by signs: leave signs or `syntax` out")

    def within(self, limited: None, allowed: Filter | None) -> Filter | None:
        """What is allowed: nothing is limited here."""
        return allowed

    def matching(self, where: str, values: FilterValues | None = None) -> Filter:
        """The filter itself, which the store answers with each search."""
        return self.check_where(where, values)

    def check_where(self, where: str, values: FilterValues | None = None) -> Filter:
        """The filter, parsed. Raises WrongInput, with the column, for one that is none."""
        return parse_where(where, self.fields(), values)

    def fields(self) -> list[str]:
        """The names of the metadata fields that a filter may use."""
        return list(self._collection.fields)

    def passages(self, ids: Sequence[int]) -> list[Passage]:
        """The passages of these ids, in their order."""
        return [row.passage for row in self._fetched(ids)]

    def doc_ids(self, ids: Sequence[int]) -> list[str]:
        """The documents that these passages belong to, in their order."""
        return [row.passage.doc_id for row in self._fetched(ids)]

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """The stored vectors of these passages, (n, dimension) float32, in their order."""
        rows = self._fetched(ids)
        return np.stack([row.vector for row in rows]) if rows else np.empty((0, self._collection.dimension), np.float32)

    def index_names(self, ids: Sequence[int]) -> list[str | None]:
        """None for each: nothing else is searched."""
        return [None] * len(ids)

    def document(self, doc_id: str) -> list[Passage]:
        """A document's passages in their order; none if there is no such document."""
        return self._reader.document(doc_id)

    def _fetched(self, ids: Sequence[int]) -> list[Row]:
        missing = [number for number in dict.fromkeys(ids) if number not in self._rows]
        if missing:
            self._rows |= self._reader.fetch(missing)
        return [self._rows[number] for number in ids]


def _no_words(name: str) -> WrongInput:
    return WrongInput(f"{name} is searched by vectors alone: ask for `mode` dense, or make an index for words")
