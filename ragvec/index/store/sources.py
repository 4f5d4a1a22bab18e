"""The tables of sources and of their files, and which source each passage is noted with."""

import sqlite3
from collections.abc import Collection, Iterable
from typing import Any

from ragvec.index.sources import BY_HAND, BY_HAND_NAME, UNKNOWN_NAME, DocumentSource
from ragvec.index.store.schema import has_sources


def read_sources(connection: sqlite3.Connection) -> dict[int, DocumentSource]:
    """The sources there are, by number."""
    if not has_sources(connection):
        return {}
    rows = connection.execute("SELECT id, name, id_prefix, made_prefix FROM sources ORDER BY id")
    return {row[0]: DocumentSource(*map(str, row[1:])) for row in rows}


def source_name(connection: sqlite3.Connection, number: int | None) -> str:
    """What a document's source is called."""
    if number is None:
        return UNKNOWN_NAME
    return BY_HAND_NAME if number == BY_HAND else read_sources(connection)[number].name


def record_source(connection: sqlite3.Connection, source: DocumentSource) -> int:
    """The number of a source, which is written down if it is new or its prefixes have changed."""
    statement = """
        INSERT INTO sources (name, id_prefix, made_prefix) VALUES (?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET id_prefix = excluded.id_prefix, made_prefix = excluded.made_prefix
        WHERE id_prefix <> excluded.id_prefix OR made_prefix <> excluded.made_prefix
    """
    connection.execute(statement, source)
    (number,) = connection.execute("SELECT id FROM sources WHERE name = ?", (source.name,)).fetchone()
    return int(number)


def read_source_files(connection: sqlite3.Connection, number: int) -> set[str]:
    """The files that a source's documents came from, named from its folder."""
    return {row[0] for row in connection.execute("SELECT path FROM source_files WHERE source = ?", (number,))}


def write_source_files(connection: sqlite3.Connection, number: int, before: Collection[str], now: Collection[str]) -> None:
    """Change which files a source's documents came from; before: as they are noted."""
    gone, new = set(before) - set(now), set(now) - set(before)
    connection.executemany("DELETE FROM source_files WHERE source = ? AND path = ?", [(number, path) for path in sorted(gone)])
    connection.executemany("INSERT INTO source_files VALUES (?, ?)", [(number, path) for path in sorted(new)])


def note_sources(connection: sqlite3.Connection, ids: Iterable[tuple[int | None, int]]) -> None:
    """Note the source of passages, of which it was not known; (number of the source, id) each."""
    connection.executemany("UPDATE passages SET source = ? WHERE id = ?", ids)


def count_by_source(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """How many documents came from each source, by name."""
    column = "source" if has_sources(connection) else "NULL"
    query = f"SELECT source, count(*) FROM (SELECT DISTINCT doc_id, {column} AS source FROM passages) GROUP BY source"
    counts = {number: documents for number, documents in connection.execute(query)}
    numbers = [*read_sources(connection), *(number for number in (BY_HAND, None) if number in counts)]
    return [{"source": source_name(connection, number), "documents": counts.get(number, 0)} for number in numbers]


class Claims:
    """Which of several corpora that come in together brought each document: a temporary table, for there may be many."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("DROP TABLE IF EXISTS temp.incoming")
        connection.execute("CREATE TEMP TABLE incoming (doc_id TEXT PRIMARY KEY, place INTEGER NOT NULL) WITHOUT ROWID")

    def add(self, doc_id: str, place: int) -> int:
        """Note that the corpus at this place, counted from 0, brings a document; returns the place of the first that did."""
        there = self.place_of(doc_id)
        if there is not None:
            return there
        self._connection.execute("INSERT INTO temp.incoming VALUES (?, ?)", (doc_id, place))
        return place

    def place_of(self, doc_id: str) -> int | None:
        """The place of the corpus that brought a document."""
        row = self._connection.execute("SELECT place FROM temp.incoming WHERE doc_id = ?", (doc_id,)).fetchone()
        return None if row is None else int(row[0])
