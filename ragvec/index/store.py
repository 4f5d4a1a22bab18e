"""index.sqlite, the one truth of an index: settings, segments, passages, deleted rows, and the words for lexical search."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ragvec.checked import check_range, check_value
from ragvec.errors import Damaged, WrongInput
from ragvec.files import fsync_folder, settle_file
from ragvec.index.ann.choice import AUTO_KEY, RECALL_TARGET
from ragvec.index.layout import DATABASE_NAME
from ragvec.index.lexical import TOKENIZER, indexed_terms
from ragvec.index.sources import FIRST_FORMAT, TABLES
from ragvec.index.validity import MOST_ROWS, check_kinds, checked_passage, checked_segment, checked_settings, doubted
from ragvec.index.where import Filter
from ragvec.records import Passage

FORMAT = FIRST_FORMAT
OLDEST = 3  # that is read as it is, and brought to FORMAT by the first writer's commit
WORDS_LEFT = "words_left"  # whether FTS5 may still hold words of deleted passages
MOST_COUNT = 2**62
MASKED_IDS = 2**28  # below, which ids are allowed is a byte for each; ids beyond come from very long use, or a damaged index

SCHEMA = f"""
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
CREATE VIRTUAL TABLE lexical USING fts5 (terms, content='', tokenize="{TOKENIZER}");
{TABLES}"""
SCHEMAS = {
    OLDEST: SCHEMA.removesuffix(TABLES).replace(", source INTEGER", "").replace(", source)", ")"),  # kept no sources
    FORMAT: SCHEMA,
}


@dataclass(frozen=True)
class IndexSettings:
    """What an index was made with. Vectors of another encoder, or of documents encoded otherwise, don't belong in it.

    encoder_source   what `Encoder.load` is given to make the encoder again; "bundled" = the one that ships with ragvec
    encoder_options  further arguments of `Encoder.load` (revision, max_length …)
    faiss_key        what new segments are searched with: "auto" = what their size asks for, "exact", or a FAISS factory string
    recall_target    the recall@10 that approximate search is tuned to reach
    max_memory       bytes that the index of a segment may take, for "auto"; None = no limit
    passage_tokens   most tokens of a passage that documents are cut into, title included; None = a document is one passage
    overlap          tokens that a passage repeats from the one before
    """

    encoder_source: str
    fingerprint: str
    dimension: int
    encoder_options: dict[str, Any] = field(default_factory=dict)
    query_instruction: str = ""
    document_instruction: str = ""
    normalized: bool = True
    faiss_key: str = AUTO_KEY
    recall_target: float = RECALL_TARGET
    max_memory: int | None = None
    passage_tokens: int | None = None
    overlap: int = 0


_LATER = ("passage_tokens", "overlap")  # settings that an index of the same format may lack


class SegmentRecord(NamedTuple):
    """One row of the table of segments; files maps a file's name to its bytes and sha256."""

    number: int
    rows: int
    faiss_key: str
    search_parameters: str
    recall: float | None
    files: dict[str, dict]
    created: str


class StoredPassage(NamedTuple):
    """What a passage in the index is compared by when its document comes again."""

    id: int
    content_hash: bytes
    title: str
    metadata: str
    source: int | None


def create_store(folder: Path, settings: IndexSettings) -> None:
    """Write an empty index.sqlite that appears only when it is complete."""
    temporary = folder / f"{DATABASE_NAME}.new"
    with suppress(FileNotFoundError):
        temporary.unlink()
    connection = sqlite3.connect(temporary, isolation_level=None)
    try:
        connection.executescript(SCHEMA)
        values = {"format": FORMAT, "generation": 0, "next_id": 1, "next_segment": 1, WORDS_LEFT: False, **asdict(settings)}
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        connection.executemany("INSERT INTO settings VALUES (?, ?)", rows)
    finally:
        connection.close()
    settle_file(temporary)
    temporary.replace(folder / DATABASE_NAME)
    fsync_folder(folder)


def read_generation(connection: sqlite3.Connection) -> int:
    """How many commits there have been."""
    row = connection.execute("SELECT value FROM settings WHERE key = 'generation'").fetchone()
    try:
        return int(row[0])
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError("setting generation is no number") from error


def read_value(connection: sqlite3.Connection, key: str):
    """One value of the settings table."""
    row = connection.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise sqlite3.DatabaseError(f"no setting {key}")
    with doubted(f"setting {key}: "):
        return json.loads(check_value(key, row[0], str))


def read_count(connection: sqlite3.Connection, key: str) -> int:
    """One that counts, such as next_id."""
    with doubted("setting "):
        number = check_value(key, read_value(connection, key), int)
        check_range(key, number, 0, MOST_COUNT)
        return number


def words_left(connection: sqlite3.Connection) -> bool:
    """Whether the tables of words may hold some of deleted passages; of an index of an older format that is not known."""
    return connection.execute("SELECT 1 FROM settings WHERE key = ? AND value = 'false'", (WORDS_LEFT,)).fetchone() is None


def write_value(connection: sqlite3.Connection, key: str, value) -> None:
    """Change one value of the settings table."""
    connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, json.dumps(value)))


def database_identity(folder: Path) -> tuple[int, int] | None:
    """What tells an index from one that has come to lie in its place; None where there is none."""
    try:
        status = (folder / DATABASE_NAME).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def read_settings(connection: sqlite3.Connection) -> IndexSettings:
    """The index's settings. Raises RagvecError if an older or a newer ragvec wrote them."""
    if not OLDEST <= (version := read_count(connection, "format")) <= FORMAT:
        remedy = "upgrade ragvec" if version > FORMAT else "remove the folder and build it again with `ragvec index`"
        folder = Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent
        raise Damaged(f"the index in {folder} has format {version}, this ragvec reads {FORMAT}: {remedy}")
    there = {key for (key,) in connection.execute("SELECT key FROM settings")}
    names = [key for key in IndexSettings.__dataclass_fields__ if key in there or key not in _LATER]
    return checked_settings({key: read_value(connection, key) for key in names}, IndexSettings)


def write_search_settings(connection: sqlite3.Connection, settings: IndexSettings) -> None:
    """Change how new segments are searched."""
    for key in ("faiss_key", "recall_target", "max_memory"):
        write_value(connection, key, getattr(settings, key))


def write_cutting(connection: sqlite3.Connection, passage_tokens: int, overlap: int) -> None:
    """Change how documents are cut from now on."""
    write_value(connection, "passage_tokens", passage_tokens)
    write_value(connection, "overlap", overlap)


def read_segments(connection: sqlite3.Connection) -> list[SegmentRecord]:
    """Every committed segment, oldest first; the ids in them ascend from the first to the last."""
    query = "SELECT number, rows, faiss_key, search_parameters, recall, files, created FROM segments ORDER BY number"
    dimension = read_count(connection, "dimension")
    return [checked_segment(row, SegmentRecord, dimension) for row in connection.execute(query)]


def insert_segment(connection: sqlite3.Connection, record: SegmentRecord) -> None:
    """Make a segment, whose files are on disk, part of the index."""
    values = record._replace(files=json.dumps(record.files))
    connection.execute("INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?)", values)


def drop_segments(connection: sqlite3.Connection, since: int = 0, first_id: int = 0) -> None:
    """Forget all segments, or those from number `since` on, whose ids begin at `first_id`, and the deleted rows in them.

    The passages stay.
    """
    connection.execute("DELETE FROM segments WHERE number >= ?", (since,))
    connection.execute("DELETE FROM tombstones WHERE id >= ?", (first_id,))


def read_tombstones(connection: sqlite3.Connection) -> np.ndarray:
    """The ids whose vectors are still in a segment though the passage is deleted; (n,) int64, ascending."""
    return id_array(connection.execute("SELECT id FROM tombstones ORDER BY id"))


def count(connection: sqlite3.Connection, what: str = "*") -> int:
    """How many passages there are, or how many different values of a column of theirs."""
    return connection.execute(f"SELECT count({what}) FROM passages").fetchone()[0]


def insert_passages(
    connection: sqlite3.Connection, ids: Sequence[int], passages: Sequence[Passage], sources: Sequence[int | None]
) -> None:
    """Add passages under the ids that their vectors have in the segment. Raises RagvecError for text that is no Unicode."""
    rows = [
        (number, p.passage_id, p.doc_id, p.metadata_json, bytes.fromhex(p.content_hash), p.title, p.text, source)
        for number, p, source in zip(ids, passages, sources, strict=True)
    ]
    words = ((number, indexed_terms(p.encoded_text)) for number, p in zip(ids, passages, strict=True))
    try:
        connection.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.executemany("INSERT INTO lexical (rowid, terms) VALUES (?, ?)", words)
        _note_fields(connection, passages)
    except sqlite3.IntegrityError as error:
        seen = Counter(p.passage_id for p in passages)
        twice = next((p.passage_id for p in passages if seen[p.passage_id] > 1 or _is_stored(connection, p, ids[0])), "?")
        raise WrongInput(f"passage id {twice!r} comes twice: ids must be unique in a corpus") from error
    except UnicodeEncodeError as error:
        raise WrongInput(f"a passage is no valid Unicode ({error.reason} at {error.start}): clean the text") from error


def _note_fields(connection: sqlite3.Connection, passages: Iterable[Passage]) -> None:
    names = {name for passage in passages for name in passage.metadata}
    connection.executemany("INSERT OR IGNORE INTO fields VALUES (?)", [(name,) for name in sorted(names)])


def read_fields(connection: sqlite3.Connection) -> list[str]:
    """The names of all metadata fields that passages have, or had since the index was last compacted."""
    return [row[0] for row in connection.execute("SELECT name FROM fields ORDER BY name")]


def recount_fields(connection: sqlite3.Connection) -> None:
    """Forget the metadata fields that no passage has any more."""
    connection.execute("DELETE FROM fields WHERE name NOT IN (SELECT key FROM passages, json_each(metadata))")


def matching_ids(connection: sqlite3.Connection, where: Filter) -> np.ndarray:
    """The ids of all passages that meet a filter; (n,) int64, ascending."""
    return id_array(connection.execute(f"SELECT id FROM passages WHERE {where.sql} ORDER BY id", where.values))


def _is_stored(connection: sqlite3.Connection, passage: Passage, before: int) -> bool:
    query = "SELECT 1 FROM passages WHERE passage_id = ? AND id < ?"
    return connection.execute(query, (passage.passage_id, before)).fetchone() is not None


def delete_passages(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Remove passages by id; their vectors become tombstones until the index is compacted."""
    for number in ids:
        title, text = connection.execute("SELECT title, text FROM passages WHERE id = ?", (number,)).fetchone()
        check_kinds(number, (title, text), (str, str))
        terms = indexed_terms(Passage("", "", text, title).encoded_text)
        # an FTS5 table without content forgets a row only when shown the very words it was given
        connection.execute("INSERT INTO lexical (lexical, rowid, terms) VALUES ('delete', ?, ?)", (number, terms))
    rows = [(number,) for number in ids]
    connection.executemany("DELETE FROM passages WHERE id = ?", rows)
    connection.executemany("INSERT INTO tombstones VALUES (?)", rows)
    if rows:
        write_value(connection, WORDS_LEFT, True)


def update_passages(connection: sqlite3.Connection, changes: Sequence[tuple[int, Passage]]) -> None:
    """Take over title, text and metadata of passages whose encoded text, taken together, did not change."""
    rows = [(p.title, p.text, p.metadata_json, number) for number, p in changes]
    connection.executemany("UPDATE passages SET title = ?, text = ?, metadata = ? WHERE id = ?", rows)
    _note_fields(connection, [passage for _, passage in changes])


def passages_of(connection: sqlite3.Connection, doc_id: str, source: str = "source") -> dict[str, StoredPassage]:
    """A document's passages in the index, by passage_id; source: "NULL" where the tables don't say."""
    query = f"SELECT passage_id, id, content_hash, title, metadata, {source} FROM passages WHERE doc_id = ?"
    found = {}
    for row in connection.execute(query, (doc_id,)):
        check_kinds(row[1], row[:5], (str, int, bytes, str, str))
        check_kinds(row[1], row[5:], (int if row[5] is not None else type(None),))
        found[row[0]] = StoredPassage(*row[1:])
    return found


def read_passages(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, Passage]:
    """Passages by id. Raises sqlite3.DatabaseError for an id that is not in the index."""
    query = "SELECT id, passage_id, doc_id, text, title, metadata FROM passages WHERE id IN (SELECT value FROM json_each(?))"
    rows = connection.execute(query, (json.dumps([int(number) for number in ids]),))
    found = {row[0]: checked_passage(*row[1:]) for row in rows}
    if len(found) < len(set(ids)):
        raise sqlite3.DatabaseError(f"passage {min(set(ids) - found.keys())} is missing")
    return found


def ids_below(connection: sqlite3.Connection, limit: int, source: int | None) -> np.ndarray:
    """The ids of all passages of a source below a number; (n,) int64, ascending."""
    # by the index, which holds both: the rows themselves are as long as their texts
    query = "SELECT id FROM passages INDEXED BY passages_doc_id WHERE +id < ? AND source IS ?"
    return np.sort(id_array(connection.execute(query, (limit, source))))


def read_doc_ids(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, str]:
    """The doc_id of each of these passages."""
    query = "SELECT id, doc_id FROM passages WHERE id IN (SELECT value FROM json_each(?))"
    found = {row[0]: str(row[1]) for row in connection.execute(query, (json.dumps([int(number) for number in ids]),))}
    if len(found) < len(set(ids)):
        raise sqlite3.DatabaseError(f"passage {min(set(ids) - found.keys())} is missing")
    return found


def allow_rows(connection: sqlite3.Connection, ids: np.ndarray) -> None:
    """Say which passages a limited lexical search of this connection may find; ids (m,) int64, at least one."""
    if ids.min() < 0 or ids.max() >= MASKED_IDS:
        named = frozenset(ids.tolist())
        connection.create_function("is_allowed", 1, named.__contains__, deterministic=True)
        return
    mask = np.zeros(int(ids.max()) + 1, dtype=bool)
    mask[ids] = True
    flags, end = mask.tobytes(), len(mask)
    # asked for each row that matches: a list of ids in the query would be read whole every time
    connection.create_function("is_allowed", 1, lambda row: 0 <= row < end and flags[row], deterministic=True)


def search_lexical(connection: sqlite3.Connection, expression: str, k: int, *, limited: bool) -> list[tuple[int, float]]:
    """The k best (id, BM25 score) of an FTS5 expression, best first; `limited`: of those that `allow_rows` named."""
    limit = "AND is_allowed(rowid)" if limited else ""
    query = f"SELECT rowid, -rank FROM lexical WHERE lexical MATCH ? {limit} ORDER BY rank, rowid LIMIT ?"
    return connection.execute(query, (expression, min(k, MOST_ROWS))).fetchall()


def id_array(rows) -> np.ndarray:
    """One-column rows of SQLite as (n,) int64."""
    return np.fromiter((row[0] for row in rows), dtype=np.int64)
