"""Documents as they are listed: their ids in order, their passages, and the values of a field; never all of them in memory."""

import json
import sqlite3
from collections.abc import Iterator, Sequence

import numpy as np

from ragvec.index.conditions import IS_VALUE, Filter, elements, is_column, row_sql
from ragvec.index.validity import checked_passage
from ragvec.records import FilterValue, Passage

_BLOCK = 4096  # documents whose ids are read together


def doc_ids_after(connection: sqlite3.Connection, last: str | None) -> list[str]:
    """The ids of the next documents, in order of their bytes; None = the first ones, and none where there are no more."""
    query = (
        f"SELECT DISTINCT doc_id FROM passages INDEXED BY passages_doc_id WHERE doc_id {'>=' if last is None else '>'} ? "
        f"ORDER BY doc_id LIMIT {_BLOCK}"
    )
    return [str(doc_id) for (doc_id,) in connection.execute(query, (last or "",))]


def having(connection: sqlite3.Connection, doc_ids: Sequence[str], among: np.ndarray) -> list[str]:
    """Those of documents that follow one another by id of which a passage is `among` (m,) int64, ascending; in their order."""
    query = "SELECT id, doc_id FROM passages INDEXED BY passages_doc_id WHERE doc_id BETWEEN ? AND ? ORDER BY doc_id"
    rows = connection.execute(query, (doc_ids[0], doc_ids[-1])).fetchall()
    there = np.isin(np.array([number for number, _ in rows], dtype=np.int64), among, assume_unique=True)
    return list(dict.fromkeys(str(doc_id) for (_, doc_id), is_there in zip(rows, there.tolist(), strict=True) if is_there))


def read_documents(connection: sqlite3.Connection, doc_ids: Sequence[str]) -> dict[str, list[Passage]]:
    """The passages of documents, in their order, by the document's id; those that are not there are left out."""
    columns = "passage_id, doc_id, text, title, metadata"
    query = f"SELECT {columns} FROM passages WHERE doc_id IN (SELECT value FROM json_each(?)) ORDER BY id"
    documents: dict[str, list[Passage]] = {}
    for row in connection.execute(query, (json.dumps(doc_ids),)):
        passage = checked_passage(*row)
        documents.setdefault(passage.doc_id, []).append(passage)
    return {doc_id: in_order(passages) for doc_id, passages in documents.items()}


def in_order(passages: list[Passage]) -> list[Passage]:
    """A document's passages, by id, in the order of their numbers: of one that changed in part, some came later than others."""
    numbers = [passage.passage_id.removeprefix(f"{passage.doc_id}#") for passage in passages]
    if len(passages) < 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        return passages
    return [passage for _, passage in sorted(zip(map(int, numbers), passages, strict=True), key=lambda pair: pair[0])]


def count_values(
    connection: sqlite3.Connection, field: tuple[str, ...], where: Filter | None, *, limit: int | None, offset: int
) -> Iterator[tuple[FilterValue, int]]:
    """The values of a field and how many documents have each, the most frequent first, then by value.

    Of a list each element counts; limit, offset: how many values, and how many to pass over before.
    """
    condition, given = ("1", []) if where is None else row_sql(where)
    among = f"(SELECT doc_id, {field[0] if is_column(field) else 'metadata'} FROM passages WHERE {condition})"
    if is_column(field):
        values = f"(SELECT doc_id, {field[0]} AS v, 'text' AS t FROM {among} WHERE {field[0]} <> '')"
    else:
        source, places = elements(field)
        values = f"(SELECT doc_id, e.value AS v, e.type AS t FROM {among}, {source})"
        given = [*given, *places]
    query = (
        f"SELECT v, t IN ('true', 'false') AS truth, count(DISTINCT doc_id) AS documents FROM {values} WHERE {IS_VALUE} "
        "GROUP BY v, truth ORDER BY documents DESC, v, truth LIMIT ? OFFSET ?"
    )
    for value, truth, documents in connection.execute(query, [*given, -1 if limit is None else limit, offset]):
        yield bool(value) if truth else value, int(documents)
