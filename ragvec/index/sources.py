"""Which source each document came from: the corpora that were indexed, their ids' prefixes, the files that gave documents."""

import os
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

BY_HAND = 0  # the source of documents that were added through Python or HTTP; NULL = from before format 4, so not known
BY_HAND_NAME = "Python or HTTP"
UNKNOWN_NAME = "an earlier ragvec, which kept no sources"
FIRST_FORMAT = 4  # that has sources
_SHOWN = 3

TABLES = """
CREATE TABLE sources (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, id_prefix TEXT NOT NULL, made_prefix TEXT NOT NULL);
CREATE TABLE source_files (source INTEGER NOT NULL, path TEXT NOT NULL, PRIMARY KEY (source, path)) WITHOUT ROWID;
"""


class Source(NamedTuple):
    """A corpus that documents come from.

    name         its path, made absolute, or what it was called instead
    id_prefix    stands before each of its ids
    made_prefix  stands after that, before the ids that ragvec makes of a file's name or of a document's content
    """

    name: str
    id_prefix: str = ""
    made_prefix: str = ""


@dataclass
class Incoming:
    """A source while its documents come by.

    root      the folder that names of its files count from; None = it is no folder of files
    files     those that gave documents
    rejected  rows and files that could not be read
    """

    source: Source
    root: Path | None = None
    files: set[str] = field(default_factory=set)
    rejected: int = 0

    def doubts(self, before: Collection[str]) -> list[str]:
        """Why documents that don't come by may still be in the source; empty if they are gone for certain.

        before  the files that gave documents until now. One that is there but gives none (emptied, half written, not readable
                here), or whose folder is empty (a disk that is not mounted), is not gone.
        """
        if self.rejected:
            what = "1 row or file" if self.rejected == 1 else f"{self.rejected:,} rows or files"
            return [f"{what} of {self.source.name} could not be read"]
        silent: dict[str, None] = {}
        for name in sorted(set(before) - self.files) if self.root else ():
            path = self.root / name
            if os.path.lexists(path):
                silent[f"{path} is there but gave no document"] = None
            elif empty := _empty_folder_above(path, self.root):
                silent[f"{empty} is empty: remove it if its documents are to go"] = None
        shown = list(silent)[:_SHOWN]
        return [*shown, f"{len(silent) - _SHOWN:,} more files or folders gave none"] if len(silent) > _SHOWN else shown


def _empty_folder_above(path: Path, root: Path) -> Path | None:
    """The folder that held a file which is gone, if there is nothing else in it."""
    for folder in path.parents:
        if folder.is_dir():
            return None if any(folder.iterdir()) else folder
        if folder == root:
            return None
    return None


def has_sources(connection: sqlite3.Connection) -> bool:
    """Whether the index is of a format that keeps sources."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sources'").fetchone() is not None


def migrate(connection: sqlite3.Connection) -> None:
    """Bring tables of format 3 to the next, within a transaction: where their documents came from is not known."""
    connection.execute("ALTER TABLE passages ADD COLUMN source INTEGER")
    connection.execute("DROP INDEX passages_doc_id")
    connection.execute("CREATE INDEX passages_doc_id ON passages (doc_id, source)")
    for statement in TABLES.strip().split("\n"):
        connection.execute(statement)
    connection.execute("UPDATE settings SET value = ? WHERE key = 'format'", (str(FIRST_FORMAT),))


def read_sources(connection: sqlite3.Connection) -> dict[int, Source]:
    """The sources there are, by number."""
    if not has_sources(connection):
        return {}
    rows = connection.execute("SELECT id, name, id_prefix, made_prefix FROM sources ORDER BY id")
    return {row[0]: Source(*map(str, row[1:])) for row in rows}


def name_of(connection: sqlite3.Connection, number: int | None) -> str:
    """What a document's source is called."""
    if number is None:
        return UNKNOWN_NAME
    return BY_HAND_NAME if number == BY_HAND else read_sources(connection)[number].name


def record_source(connection: sqlite3.Connection, source: Source) -> int:
    """The number of a source, which is written down if it is new or its prefixes have changed."""
    statement = """
        INSERT INTO sources (name, id_prefix, made_prefix) VALUES (?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET id_prefix = excluded.id_prefix, made_prefix = excluded.made_prefix
        WHERE id_prefix <> excluded.id_prefix OR made_prefix <> excluded.made_prefix
    """
    connection.execute(statement, source)
    return connection.execute("SELECT id FROM sources WHERE name = ?", (source.name,)).fetchone()[0]


def read_files(connection: sqlite3.Connection, number: int) -> set[str]:
    """The files that a source's documents came from, named from its folder."""
    return {row[0] for row in connection.execute("SELECT path FROM source_files WHERE source = ?", (number,))}


def write_files(connection: sqlite3.Connection, number: int, before: Collection[str], now: Collection[str]) -> None:
    """Change which these are."""
    gone, new = set(before) - set(now), set(now) - set(before)
    connection.executemany("DELETE FROM source_files WHERE source = ? AND path = ?", [(number, path) for path in sorted(gone)])
    connection.executemany("INSERT INTO source_files VALUES (?, ?)", [(number, path) for path in sorted(new)])


def adopt(connection: sqlite3.Connection, ids: Iterable[tuple[int, int]]) -> None:
    """Note the source of passages of which it was not known; (number of the source, id) each."""
    connection.executemany("UPDATE passages SET source = ? WHERE id = ?", ids)


def count_documents(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """How many documents came from each source, by name."""
    column = "source" if has_sources(connection) else "NULL"
    query = f"SELECT source, count(*) FROM (SELECT DISTINCT doc_id, {column} AS source FROM passages) GROUP BY source"
    counts = {number: documents for number, documents in connection.execute(query)}
    numbers = [*read_sources(connection), *(number for number in (BY_HAND, None) if number in counts)]
    return [{"source": name_of(connection, number), "documents": counts.get(number, 0)} for number in numbers]
