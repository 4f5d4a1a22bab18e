"""Reads one collection of Milvus."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pymilvus import MilvusClient

from ragvec.errors import WrongInput
from ragvec.index.ann.exact import SearchResult
from ragvec.index.conditions import Filter
from ragvec.records import Passage
from ragvec.stores.milvus_filters import any_id, any_text, where_expression
from ragvec.stores.milvus_indices import search_params
from ragvec.stores.milvus_rows import TEXTS, batched, passage_of, rows_of
from ragvec.stores.store import Row

MOST_FOUND = 16384  # rows that Milvus returns at once
MOST_LOOKED_UP = 100_000  # passages whose values are read for one condition of a filter


class MilvusReader:
    """Reads one collection, whatever the alias leads to meanwhile."""

    def __init__(self, client: MilvusClient, collection: str, name: str, *, index: str) -> None:
        """index: that the collection has."""
        self._client, self._collection, self._name, self._index = client, collection, name, index

    def search(self, vector: np.ndarray, k: int, where: Filter | None) -> SearchResult:
        """The k nearest by Milvus's index, and exactly where it gives fewer than there are."""
        if k > MOST_FOUND:
            raise WrongInput(f"{self._name} gives at most {MOST_FOUND:,} passages at once: ask for fewer")
        condition = "" if where is None else where_expression(where, self._look)
        found = self._nearest(vector, k, condition)
        if any(hit["entity"]["is_empty"] for hit in found):
            condition = f"is_empty == false and ({condition})" if condition else "is_empty == false"
            found = self._nearest(vector, k, condition)
        if len(found) < k and self._count(condition) > len(found):
            return self._exactly(vector, k, f"is_empty == false and ({condition})" if condition else "is_empty == false")
        ids = np.array([hit["id"] for hit in found], dtype=np.int64)
        return SearchResult(np.array([[hit["distance"] for hit in found]], dtype=np.float32), ids[None])

    def fetch(self, ids: Sequence[int]) -> dict[int, Row]:
        """Rows by id."""
        columns = ["id", *TEXTS, "embedding"]
        rows = [row for some in batched(ids) for row in self._query(any_id(some), columns)]
        return {row["id"]: Row(passage_of(row), np.asarray(row["embedding"], dtype=np.float32)) for row in rows}

    def document(self, doc_id: str) -> list[Passage]:
        """A document's passages in their order."""
        rows = rows_of(self._client, self._collection, any_text("doc_id", [doc_id]), ["id", "place", *TEXTS])
        return [passage_of(row) for row in sorted(rows, key=lambda row: (row["place"], row["id"]))]

    def ids(self) -> np.ndarray:
        """The ids of all passages that have a vector."""
        rows = rows_of(self._client, self._collection, "is_empty == false", ["id"])
        return np.sort(np.fromiter((row["id"] for row in rows), dtype=np.int64))

    def count(self) -> dict[str, Any]:
        """How many documents and passages there are; Milvus says nothing of bytes."""
        return {"documents": self._count("place == 0"), "passages": self._count(""), "bytes": None}

    def _count(self, condition: str) -> int:
        """Rows that meet a condition, after every deletion: a session's own is not yet in a count of Milvus 2.3."""
        counted = self._client.query(self._collection, filter=condition, output_fields=["count(*)"], consistency_level="Strong")
        return int(counted[0]["count(*)"])

    def _query(self, condition: str, columns: list[str]) -> list[dict[str, Any]]:
        return list(self._client.query(self._collection, filter=condition, output_fields=columns))

    def _nearest(self, vector: np.ndarray, k: int, condition: str) -> list[Any]:
        [found] = self._client.search(
            self._collection,
            data=[np.asarray(vector, np.float32).tolist()],
            limit=k,
            filter=condition,
            search_params=search_params(self._index, k),
            output_fields=["is_empty"],
        )
        return list(found)

    def _exactly(self, vector: np.ndarray, k: int, condition: str) -> SearchResult:
        ids, scores = np.empty(0, np.int64), np.empty(0, np.float32)
        for rows in batched(rows_of(self._client, self._collection, condition, ["id", "embedding"])):
            held = np.array([row["embedding"] for row in rows], dtype=np.float32)
            ids = np.concatenate([ids, [row["id"] for row in rows]]).astype(np.int64)
            scores = np.concatenate([scores, held @ np.asarray(vector, np.float32)])
            best = np.lexsort((ids, -scores))[:k]
            ids, scores = ids[best], scores[best]
        return SearchResult(scores[None], ids[None])

    def _look(self, condition: str, meets: Callable[[Passage], bool]) -> list[int]:
        """The ids of rows that meet a condition, and a test that Milvus can't make."""
        if (many := self._count(condition)) > MOST_LOOKED_UP:
            raise WrongInput(
                f"{self._name} can answer this filter only by reading {many:,} passages, over {MOST_LOOKED_UP:,}: "
                "let a pattern begin with more letters before its first % or _"
            )
        return [
            row["id"] for row in rows_of(self._client, self._collection, condition, ["id", *TEXTS]) if meets(passage_of(row))
        ]
