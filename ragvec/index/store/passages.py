"""The table of passages, the names of their metadata fields, and the words for lexical search."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ragvec.errors import WrongInput
from ragvec.index.lexical import indexed_terms
from ragvec.index.store.segments import id_array
from ragvec.index.store.settings import WORDS_LEFT, write_value
from ragvec.index.validity import MOST_ROWS, check_kinds, checked_passage
from ragvec.index.where import Sql
from ragvec.records import Passage

MASKED_IDS = 2**28  # below, which ids are allowed is a byte for each; ids beyond come from very long use, or a damaged index


class StoredPassage(NamedTuple):
    """What a passage in the index is compared by when its document comes again."""

    id: int
    content_hash: bytes
    title: str
    metadata: str
    source: int | None


def count(connection: sqlite3.Connection, what: str = "*") -> int:
    """How many passages there are, or how many different values of a column of theirs."""
    (number,) = connection.execute(f"SELECT count({what}) FROM passages").fetchone()
    return int(number)


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


def matching_ids(connection: sqlite3.Connection, where: Sql) -> np.ndarray:
    """The ids of all passages that meet a filter; (n,) int64, ascending."""
    condition, values = where
    return id_array(connection.execute(f"SELECT id FROM passages WHERE {condition} ORDER BY id", values))


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


def ids_of(connection: sqlite3.Connection, doc_id: str) -> list[int]:
    """The ids of a document's passages, in their order."""
    return [row[0] for row in connection.execute("SELECT id FROM passages WHERE doc_id = ? ORDER BY id", (doc_id,))]


def read_listing(connection: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    """Every passage's id, ascending, and the doc_id it belongs to."""
    yield from connection.execute("SELECT id, doc_id FROM passages ORDER BY id")


def altered_passages(connection: sqlite3.Connection) -> Iterator[str]:
    """The passage_ids whose title and text are not those that were added, by the hash that was stored with them."""
    for passage_id, title, text, digest in connection.execute("SELECT passage_id, title, text, content_hash FROM passages"):
        typed = type(title) is type(text) is str and type(digest) is bytes
        if not typed or Passage("", "", text, title).content_hash != digest.hex():
            yield passage_id


def count_searchable(connection: sqlite3.Connection) -> int:
    """How many passages can be found by their words."""
    (number,) = connection.execute("SELECT count(*) FROM lexical_docsize").fetchone()
    return int(number)


def tidy_words(connection: sqlite3.Connection) -> None:
    """Drop the words of deleted passages, which FTS5 only marks as gone, within a transaction."""
    connection.execute("INSERT INTO lexical (lexical) VALUES ('optimize')")
    write_value(connection, WORDS_LEFT, False)
