"""The tables of segments, and of rows in them whose passages are deleted."""

import json
import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ragvec.index.store.settings import read_count
from ragvec.index.validity import checked_segment


class SegmentRecord(NamedTuple):
    """One row of the table of segments; files maps a file's name to its bytes and sha256."""

    number: int
    rows: int
    faiss_key: str
    search_parameters: str
    recall: float | None
    files: dict[str, dict[str, Any]]
    created: str


def read_segments(connection: sqlite3.Connection) -> list[SegmentRecord]:
    """Every committed segment, oldest first; the ids in them ascend from the first to the last."""
    query = "SELECT number, rows, faiss_key, search_parameters, recall, files, created FROM segments ORDER BY number"
    dimension = read_count(connection, "dimension")
    return [checked_segment(row, SegmentRecord, dimension) for row in connection.execute(query)]


def insert_segment(connection: sqlite3.Connection, record: SegmentRecord) -> None:
    """Make a segment, whose files are on disk, part of the index."""
    values = {**record._asdict(), "files": json.dumps(record.files)}
    connection.execute(
        "INSERT INTO segments VALUES (:number, :rows, :faiss_key, :search_parameters, :recall, :files, :created)", values
    )


def drop_segments(connection: sqlite3.Connection, since: int = 0, first_id: int = 0) -> None:
    """Forget all segments, or those from number `since` on, whose ids begin at `first_id`, and the deleted rows in them.

    The passages stay.
    """
    connection.execute("DELETE FROM segments WHERE number >= ?", (since,))
    connection.execute("DELETE FROM tombstones WHERE id >= ?", (first_id,))


def read_tombstones(connection: sqlite3.Connection) -> np.ndarray:
    """The ids whose vectors are still in a segment though the passage is deleted; (n,) int64, ascending."""
    return id_array(connection.execute("SELECT id FROM tombstones ORDER BY id"))


def id_array(rows: Iterable[tuple[int]]) -> np.ndarray:
    """One-column rows of SQLite as (n,) int64."""
    return np.fromiter((row[0] for row in rows), dtype=np.int64)
