"""A passage as a row of a collection in Milvus, and rows by the thousand."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from pymilvus import DataType, MilvusClient

from ragvec.errors import WrongInput
from ragvec.records import Passage
from ragvec.stores.milvus_values import tags_and_bounds

TEXTS = ("passage_id", "doc_id", "title", "text", "metadata")
LONGEST_TEXT = 65535  # bytes, Milvus's own limit
_AT_ONCE = 1000  # rows, or ids, of one call
Item = TypeVar("Item")


def rows_of(client: MilvusClient, name: str, condition: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    """All rows that meet a condition, however many."""
    rows = client.query_iterator(name, batch_size=_AT_ONCE, filter=condition, output_fields=columns)
    try:
        while some := rows.next():
            yield from some
    finally:
        rows.close()


def schema_of(dimension: int) -> Any:
    """The fields of a collection whose vectors have so many dimensions."""
    schema = MilvusClient.create_schema(auto_id=True, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    for name in TEXTS:
        schema.add_field(name, DataType.VARCHAR, max_length=LONGEST_TEXT)
    schema.add_field("place", DataType.INT32)  # of a passage in its document
    schema.add_field("is_empty", DataType.BOOL)  # near no query: its vector is of zeros
    schema.add_field("tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=4096, max_length=32)
    schema.add_field("bounds", DataType.JSON)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=dimension)  # half precision breaks some versions
    return schema


def row_of(passage: Passage, vector: np.ndarray, place: int) -> dict[str, Any]:
    """A passage as a collection holds it; place: in its document. Raises WrongInput for a text that Milvus can't hold."""
    tags, bounds = tags_and_bounds(passage)
    texts = {name: getattr(passage, name) for name in TEXTS if name != "metadata"}
    texts["metadata"] = passage.metadata_json
    for name, text in texts.items():
        if len(text) * 4 > LONGEST_TEXT and (size := len(text.encode())) > LONGEST_TEXT:
            raise WrongInput(
                f"passage {passage.passage_id!r:.80} has {name} of {size:,} bytes, Milvus holds {LONGEST_TEXT:,}: "
                "make smaller passages (`passage_tokens`), or drop fields (`drop_fields`)"
            )
    half = np.asarray(vector, np.float16).astype(np.float32)
    embedding = np.zeros_like(half) if passage.is_empty else half
    return {**texts, "place": place, "is_empty": passage.is_empty, "tags": tags, "bounds": bounds, "embedding": embedding}


def passage_of(row: dict[str, Any]) -> Passage:
    """The passage that a row holds."""
    passage_id, doc_id, title, text, metadata = (row[name] for name in TEXTS)
    return Passage(passage_id, doc_id, text, title=title, metadata=json.loads(metadata))


def whole_documents(blocks: Iterable[tuple[list[Passage], np.ndarray]]) -> Iterator[tuple[list[Passage], np.ndarray]]:
    """The blocks, cut anew so that each document lies in one."""
    held: list[Passage] = []
    rows = np.empty((0, 0), np.float32)
    for passages, vectors in blocks:
        held, rows = held + passages, np.concatenate([rows, vectors]) if held else vectors
        cut = len(held)
        while cut and held[cut - 1].doc_id == held[-1].doc_id:
            cut -= 1
        if cut:
            yield held[:cut], rows[:cut]
            held, rows = held[cut:], rows[cut:]
    if held:
        yield held, rows


def batched(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The items, as many at once as one call carries."""
    left = iter(items)
    while some := list(islice(left, _AT_ONCE)):
        yield some
