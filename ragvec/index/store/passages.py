"""The table of passages, and the names of their metadata fields."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ragvec.arguments import text as check_text
from ragvec.corpus.spelling import composed, decomposed
from ragvec.errors import WrongInput
from ragvec.index.store.filter_values import forget_values, note_values
from ragvec.index.store.segments import id_array
from ragvec.index.validity import check_kinds, checked_passage
from ragvec.records import Passage


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
    try:
        connection.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        _note_fields(connection, passages)
        note_values(connection, ids)
    except sqlite3.IntegrityError as error:
        seen = Counter(p.passage_id for p in passages)
        twice = next((p.passage_id for p in passages if seen[p.passage_id] > 1 or _is_stored(connection, p, ids[0])), None)
        if twice is None:
            raise  # the index's own numbers clash: it is damaged, and SQLite says in which table
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


def _is_stored(connection: sqlite3.Connection, passage: Passage, before: int) -> bool:
    query = "SELECT 1 FROM passages WHERE passage_id = ? AND id < ?"
    return connection.execute(query, (passage.passage_id, before)).fetchone() is not None


def delete_passages(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Remove passages by id; their vectors become tombstones until the index is compacted."""
    forget_values(connection, ids)
    rows = [(number,) for number in ids]
    connection.executemany("DELETE FROM passages WHERE id = ?", rows)
    connection.executemany("INSERT INTO tombstones VALUES (?)", rows)


def update_passages(connection: sqlite3.Connection, changes: Sequence[tuple[int, Passage]]) -> None:
    """Take over title, text and metadata of passages whose encoded text, taken together, did not change."""
    ids = [number for number, _ in changes]
    forget_values(connection, ids)
    rows = [(p.title, p.text, p.metadata_json, number) for number, p in changes]
    connection.executemany("UPDATE passages SET title = ?, text = ?, metadata = ? WHERE id = ?", rows)
    _note_fields(connection, [passage for _, passage in changes])
    note_values(connection, ids)


def passages_of(connection: sqlite3.Connection, doc_id: str, source: str = "source") -> dict[str, StoredPassage]:
    """A document's passages in the index, by passage_id; source: "NULL" where the tables don't say."""
    query = f"SELECT passage_id, id, content_hash, title, metadata, {source} FROM passages WHERE doc_id = ?"
    stored = {}
    for row in connection.execute(query, (doc_id,)):
        check_kinds(row[1], row[:5], (str, int, bytes, str, str))
        check_kinds(row[1], row[5:], (int if row[5] is not None else type(None),))
        stored[row[0]] = StoredPassage(*row[1:])
    return stored


def read_passages(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, Passage]:
    """Passages by id. Raises sqlite3.DatabaseError for an id that is not in the index."""
    query = "SELECT id, passage_id, doc_id, text, title, metadata FROM passages WHERE id IN (SELECT value FROM json_each(?))"
    rows = connection.execute(query, (json.dumps([int(number) for number in ids]),))
    passages = {row[0]: checked_passage(*row[1:]) for row in rows}
    if len(passages) < len(set(ids)):
        raise sqlite3.DatabaseError(f"passage {min(set(ids) - passages.keys())} is missing")
    return passages


def ids_below(connection: sqlite3.Connection, limit: int, source: int | None) -> np.ndarray:
    """The ids of all passages of a source below a number; (n,) int64, ascending."""
    # by the index, which holds both: the rows themselves are as long as their texts
    query = "SELECT id FROM passages INDEXED BY passages_doc_id WHERE +id < ? AND source IS ?"
    return np.sort(id_array(connection.execute(query, (limit, source))))


def holds(connection: sqlite3.Connection, ids: Sequence[int]) -> bool:
    """Whether all of these ids are passages'."""
    query = "SELECT count(*) FROM passages WHERE id IN (SELECT value FROM json_each(?))"
    [(count,)] = connection.execute(query, (json.dumps([int(number) for number in ids]),))
    return bool(count == len(set(ids)))


def read_doc_ids(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, str]:
    """The doc_id of each of these passages."""
    query = "SELECT id, doc_id FROM passages WHERE id IN (SELECT value FROM json_each(?))"
    doc_ids = {row[0]: str(row[1]) for row in connection.execute(query, (json.dumps([int(number) for number in ids]),))}
    if len(doc_ids) < len(set(ids)):
        raise sqlite3.DatabaseError(f"passage {min(set(ids) - doc_ids.keys())} is missing")
    return doc_ids


def read_hashes(connection: sqlite3.Connection, ids: np.ndarray) -> np.ndarray:
    """The first 8 bytes of passages' content hashes, (n,) uint64, for ids (n,) int64, ascending; 0 where there is none."""
    query = "SELECT id, content_hash FROM passages WHERE id IN (SELECT value FROM json_each(?))"
    hashes = np.zeros(len(ids), dtype=np.uint64)
    for number, content_hash in connection.execute(query, (json.dumps(ids.tolist()),)):
        check_kinds(number, (content_hash,), (bytes,))
        hashes[np.searchsorted(ids, number)] = int.from_bytes(content_hash[:8], "big")
    return hashes


def ids_of_passages(connection: sqlite3.Connection, passage_ids: Sequence[str]) -> dict[str, int]:
    """The ids of passages by their passage_id; those that are not there are left out."""
    query = "SELECT passage_id, id FROM passages WHERE passage_id IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(query, (json.dumps(list(passage_ids)),)))


def read_titles(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, str]:
    """The title of each of these passages."""
    query = "SELECT id, title FROM passages WHERE id IN (SELECT value FROM json_each(?))"
    return {row[0]: str(row[1]) for row in connection.execute(query, (json.dumps([int(number) for number in ids]),))}


def spelled(connection: sqlite3.Connection, doc_id: str) -> str:
    """A document's id as the index has it, which may be composed or decomposed; itself where there is neither."""
    check_text("doc_id", doc_id)
    forms = dict.fromkeys((doc_id, composed(doc_id), decomposed(doc_id)))
    there = "SELECT 1 FROM passages WHERE doc_id = ? LIMIT 1"
    return next((form for form in forms if len(forms) == 1 or connection.execute(there, (form,)).fetchone()), doc_id)


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


def all_passages(connection: sqlite3.Connection) -> Iterator[tuple[int, Passage]]:
    """Every passage's id, ascending, and its title and text."""
    for number, title, text in connection.execute("SELECT id, title, text FROM passages ORDER BY id"):
        check_kinds(number, (title, text), (str, str))
        yield number, Passage("", "", text, title)
