"""The tables of index.sqlite, and those that an older ragvec made."""

import sqlite3
from pathlib import Path

from ragvec.artefacts import DATABASE_NAME

FORMAT = 5
OLDEST = 3  # that the first writer's commit brings to FORMAT; until then it can't be searched

TABLES = """
CREATE TABLE sources (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, id_prefix TEXT NOT NULL, made_prefix TEXT NOT NULL);
CREATE TABLE source_files (source INTEGER NOT NULL, path TEXT NOT NULL, PRIMARY KEY (source, path)) WITHOUT ROWID;
"""

VALUES = """
CREATE TABLE filter_values (
    field INTEGER NOT NULL, kind INTEGER NOT NULL, v NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (field, kind, v, id)
) WITHOUT ROWID;
"""

_BEFORE = f"""
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE segments (
    number INTEGER PRIMARY KEY, rows INTEGER NOT NULL, faiss_key TEXT NOT NULL, search_parameters TEXT NOT NULL, recall REAL,
    files TEXT NOT NULL, created TEXT NOT NULL
);
CREATE TABLE passages (
    id INTEGER PRIMARY KEY, passage_id TEXT NOT NULL UNIQUE, doc_id TEXT NOT NULL, metadata TEXT NOT NULL,
    content_hash BLOB NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL
, source INTEGER);
CREATE TABLE fields (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE INDEX passages_doc_id ON passages (doc_id, source);
CREATE TABLE tombstones (id INTEGER PRIMARY KEY);
{TABLES}"""
SCHEMA = _BEFORE + VALUES
_OLD_WORDS = """
CREATE VIRTUAL TABLE lexical USING fts5 (
    terms, content='', tokenize="porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
);
"""
SCHEMAS = {
    3: _BEFORE.removesuffix(TABLES).replace(", source INTEGER", "").replace(", source)", ")") + _OLD_WORDS,  # kept no sources
    4: _BEFORE + _OLD_WORDS,  # kept its words in SQLite
    FORMAT: SCHEMA,
}


def database_identity(folder: Path) -> tuple[int, int] | None:
    """What tells an index from one that has come to lie in its place; None where there is none."""
    try:
        status = (folder / DATABASE_NAME).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def has_sources(connection: sqlite3.Connection) -> bool:
    """Whether the index is of a format that keeps sources."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sources'").fetchone() is not None


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables of an older format to today's, within a transaction: without words, and sources if it kept none."""
    if not has_sources(connection):
        connection.execute("ALTER TABLE passages ADD COLUMN source INTEGER")
        connection.execute("DROP INDEX passages_doc_id")
        connection.execute("CREATE INDEX passages_doc_id ON passages (doc_id, source)")
        for statement in TABLES.strip().split("\n"):
            connection.execute(statement)
    connection.execute(VALUES)
    connection.execute("DROP TABLE lexical")
    connection.execute("DELETE FROM settings WHERE key = 'words_left'")
    connection.execute("INSERT INTO settings VALUES ('words', '{}')")
    connection.execute("UPDATE settings SET value = ? WHERE key = 'format'", (str(FORMAT),))


def quick_check(connection: sqlite3.Connection) -> str:
    """What SQLite says of the file's structure: "ok", or the first thing that is wrong."""
    (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return str(said)


def give_back_space(connection: sqlite3.Connection) -> None:
    """Write the file anew without the pages that nothing uses; outside of a transaction."""
    connection.execute("VACUUM")
