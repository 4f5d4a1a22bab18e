"""The table of settings: what an index was made with, and the counters that go up with each commit."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ragvec.artefacts import DATABASE_NAME
from ragvec.checked import check_range, check_value
from ragvec.errors import Damaged, WrongInput
from ragvec.files import fsync_folder, settle_file
from ragvec.index.ann.choice import AUTO_KEY, RECALL_TARGET
from ragvec.index.conditions import check_filter_fields
from ragvec.index.store.schema import FORMAT, OLDEST, SCHEMA
from ragvec.index.validity import checked_settings, doubted
from ragvec.index.words.files import WordsRecord, as_json, checked_record

_WORDS = "words"  # the record of the files that hold them
_NEAR = "near"  # what `ragvec.index.nearness` has measured
MOST_COUNT = 2**62
SEARCH_SETTINGS = ("faiss_key", "recall_target", "max_memory")
FILTER_FIELDS = "filter_fields"
_LATER = ("passage_tokens", "overlap", "language", FILTER_FIELDS)  # settings that an index of the same format may lack


class Nearness(NamedTuple):
    """From which similarity on a passage is near a query, None = not known; and with how many passages that was measured."""

    similarity: float | None
    passages: int


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
    language         what words are stemmed by, see ragvec.index.words; None = what the first documents are in
    filter_fields    metadata fields whose values are kept in a table, so that filters on them don't read every passage
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
    language: str | None = None
    filter_fields: tuple[str, ...] = ()


def create_store(folder: Path, settings: IndexSettings) -> None:
    """Write an empty index.sqlite that appears only when it is complete."""
    temporary = folder / f"{DATABASE_NAME}.new"
    with suppress(FileNotFoundError):
        temporary.unlink()
    connection = sqlite3.connect(temporary, isolation_level=None)
    try:
        connection.executescript(SCHEMA)
        values = {"format": FORMAT, "generation": 0, "next_id": 1, "next_segment": 1, **asdict(settings)}
        values[_WORDS] = as_json(WordsRecord())
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


def read_value(connection: sqlite3.Connection, key: str) -> Any:
    """One value of the settings table."""
    row = connection.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise sqlite3.DatabaseError(f"no setting {key}")
    with doubted(f"setting {key}: "):
        return json.loads(check_value(key, row[0], str))


def read_count(connection: sqlite3.Connection, key: str) -> int:
    """A value of the settings table that counts something, such as next_id."""
    with doubted("setting "):
        number: int = check_value(key, read_value(connection, key), int)
        check_range(key, number, 0, MOST_COUNT)
        return number


def read_words(connection: sqlite3.Connection) -> WordsRecord:
    """The record of the files that hold the words."""
    values = read_value(connection, _WORDS)
    with doubted("setting "):
        return checked_record(values)


def write_words(connection: sqlite3.Connection, record: WordsRecord) -> None:
    """Make words, whose files are on disk, those of the index."""
    write_value(connection, _WORDS, as_json(record))


def read_near(connection: sqlite3.Connection) -> Nearness:
    """What was measured of the vectors; similarity None where nothing was."""
    if connection.execute("SELECT 1 FROM settings WHERE key = ?", (_NEAR,)).fetchone() is None:
        return Nearness(None, 0)
    value = read_value(connection, _NEAR)
    with doubted("setting "):
        near: Nearness = check_value(_NEAR, value, Nearness)
        check_range("near.passages", near.passages, 0, MOST_COUNT)
        return near


def write_near(connection: sqlite3.Connection, near: Nearness) -> None:
    """Note what was measured of the vectors."""
    write_value(connection, _NEAR, near._asdict())


def is_current(connection: sqlite3.Connection) -> bool:
    """Whether the index is of today's format."""
    return read_count(connection, "format") == FORMAT


def write_value(connection: sqlite3.Connection, key: str, value: object) -> None:
    """Change one value of the settings table."""
    connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, json.dumps(value)))


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
    for key in SEARCH_SETTINGS:
        write_value(connection, key, getattr(settings, key))


def read_filter_fields(connection: sqlite3.Connection) -> tuple[str, ...]:
    """The metadata fields whose values are kept in a table; none in an index of an older format."""
    if connection.execute("SELECT 1 FROM settings WHERE key = ?", (FILTER_FIELDS,)).fetchone() is None:
        return ()
    with doubted("setting "):
        fields: tuple[str, ...] = check_value(FILTER_FIELDS, read_value(connection, FILTER_FIELDS), tuple[str, ...])
    try:
        check_filter_fields(fields)
    except WrongInput as error:
        raise sqlite3.DatabaseError(f"setting {FILTER_FIELDS}: {error}") from error
    return fields


def write_filter_fields(connection: sqlite3.Connection, fields: Sequence[str]) -> None:
    """Change which fields they are; their values are then to be gathered anew."""
    write_value(connection, FILTER_FIELDS, list(fields))


def write_cutting(connection: sqlite3.Connection, passage_tokens: int | None, overlap: int) -> None:
    """Change how documents are cut from now on."""
    write_value(connection, "passage_tokens", passage_tokens)
    write_value(connection, "overlap", overlap)
