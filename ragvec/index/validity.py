"""What an index.sqlite may hold: it may come from anyone, so its tables and values are checked before they are believed.

What is wrong is raised as SQLite's own DatabaseError, which `readable_error` makes one line of.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from typing import Any, NamedTuple, TypeVar

import orjson

from ragvec.checked import Mismatch, check_fields, check_range, shown
from ragvec.index.ann.choice import EXACT_KEY
from ragvec.index.ann.tuning import SearchParameters
from ragvec.index.layout import FAISS_NAME, IDS_NAME, VECTORS_NAME
from ragvec.index.words.language import LANGUAGES
from ragvec.records import Passage

MOST_ROWS = 2**31
MOST_DIMENSIONS = 2**20
MOST_TOKENS = 2**31
_SHADOW = "lexical_"  # tables that FTS5 made beside the one it was asked for, in words that depend on its version
Record = TypeVar("Record")


class EncoderOptions(NamedTuple):
    """What an index may pass on to `Encoder.load`."""

    revision: str | None = None
    adapters: tuple[str, ...] = ()
    merge: bool = True
    pooling: str | None = None
    attention: str | None = None
    skip_instruction: bool | None = None
    max_length: int | None = None
    doc_max_length: int | None = None
    truncate_dim: int | None = None
    dtype: str | None = None
    device: str | None = None
    batch_tokens: int | None = None
    torch_compile: bool = False


class FileRecord(NamedTuple):
    """A segment's file as it was written."""

    bytes: int
    sha256: str


@contextmanager
def doubted(what: str) -> Iterator[None]:
    """Turn a value that is not what it must be into an error of the database."""
    try:
        yield
    except (ValueError, RecursionError) as error:  # a Mismatch, or text that is no JSON
        raise sqlite3.DatabaseError(f"{what}{error}") from error


@cache
def _made(schema: str) -> dict[str, tuple[str, str]]:
    """Each table and index that the schema makes: its type and the words that make it."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema)
        return _objects(connection)


def _objects(connection: sqlite3.Connection) -> dict[str, tuple[str, str]]:
    rows = connection.execute("SELECT name, type, sql FROM sqlite_master")
    return {str(name): (str(kind), " ".join(str(sql).split())) for name, kind, sql in rows}


def check_schema(connection: sqlite3.Connection, schemas: dict[int, str]) -> None:
    """Raises sqlite3.DatabaseError if there is anything that ragvec did not make, such as a trigger that runs on our writes.

    schemas  of every format that is read. Tables of another are let pass: reading its settings says what to do with it.
    """
    connection.execute("PRAGMA trusted_schema = OFF")
    made, there = _made(schemas[max(schemas)]), _objects(connection)
    for name, (kind, _) in there.items():
        if kind not in ("table", "index"):
            raise sqlite3.DatabaseError(f"it holds a {kind} {shown(name)}, which ragvec does not make")
    if not there or there.get("settings") != made["settings"]:
        raise sqlite3.DatabaseError("it has no table of settings as ragvec makes it")
    row = connection.execute("SELECT value FROM settings WHERE key = 'format'").fetchone()
    schema = {str(version): text for version, text in schemas.items()}.get(str(row[0]) if row else "")
    if schema is None:
        return
    made = _made(schema)
    for name in sorted(made.keys() | there.keys()):
        if name.startswith(_SHADOW):
            same = name in made and name in there and made[name][0] == there[name][0]
        else:
            same = made.get(name) == there.get(name)
        if not same:
            raise sqlite3.DatabaseError(f"its table or index {shown(name)} is not as ragvec makes it")


def checked_settings(values: dict[str, Any], record: type[Record]) -> Record:
    """The settings that an index has, every one of the right type and within its range."""
    with doubted("setting "):
        return fitting_settings(values, record)


def fitting_settings(values: dict[str, Any], record: type[Record]) -> Record:
    """The settings of an index. Raises Mismatch for one of another type or outside its range."""
    checked = check_fields(values, record)
    check_range("dimension", checked["dimension"], 1, MOST_DIMENSIONS)
    check_range("recall_target", checked["recall_target"], 1e-9, 1)
    for name, least in (("max_memory", 1), ("passage_tokens", 1), ("overlap", 0)):
        if checked.get(name) is not None:
            check_range(name, checked[name], least, MOST_TOKENS if name != "max_memory" else 2**62)
    if (language := checked.get("language")) is not None and language not in LANGUAGES:
        raise Mismatch(f"language is {shown(language)}, which nothing is stemmed by")
    options = checked["encoder_options"]
    if unknown := sorted(set(options) - set(EncoderOptions._fields)):
        raise Mismatch(f"encoder_options has {shown(unknown[0])}, which no encoder takes")
    checked["encoder_options"] = check_fields(options, EncoderOptions)
    return record(**checked)


def checked_segment(row: tuple[Any, ...], record: type[Record], dimension: int) -> Record:
    """A row of the table of segments; its files' names, and sizes that fit its rows and the dimension."""
    names = list(record.__annotations__)
    with doubted(f"segment {shown(row[0])}: "):
        values = dict(zip(names, row, strict=True))
        values["files"] = orjson.loads(values["files"])
        values = check_fields(values, record)
        rows = values["rows"]
        check_range("number", values["number"], 1, 2**53)
        check_range("rows", rows, 1, MOST_ROWS)
        if values["faiss_key"] != EXACT_KEY:
            SearchParameters.parse(values["search_parameters"])
        files = {name: FileRecord(**check_fields(file, FileRecord)) for name, file in values["files"].items()}
        wanted = {VECTORS_NAME, IDS_NAME} | ({FAISS_NAME} if values["faiss_key"] != EXACT_KEY else set())
        if set(files) != wanted:
            raise Mismatch(f"files are {shown(sorted(files))}, not {sorted(wanted)}")
        for name, size in ((VECTORS_NAME, rows * dimension * 2), (IDS_NAME, rows * 8)):
            if files[name].bytes != size:
                raise Mismatch(f"{name} has {files[name].bytes} bytes, not {size} for {rows} rows of {dimension} dimensions")
        values["files"] = {name: file._asdict() for name, file in files.items()}
        return record(**values)


def check_kinds(passage_id: Any, values: tuple[Any, ...], kinds: tuple[type, ...]) -> None:
    """Raises sqlite3.DatabaseError unless the columns of a passage that were read have these types."""
    if tuple(map(type, values)) != kinds:
        raise sqlite3.DatabaseError(f"passage {shown(passage_id)} holds a value of another type")


def checked_passage(passage_id: Any, doc_id: Any, text: Any, title: Any, metadata: Any) -> Passage:
    """A passage as it is stored."""
    if type(passage_id) is type(doc_id) is type(text) is type(title) is str:
        with doubted(f"metadata of passage {shown(passage_id)}: "):
            values = {} if metadata == "{}" else orjson.loads(metadata)
            if type(values) is dict:
                return Passage(passage_id, doc_id, text, title=title, metadata=values)
        raise sqlite3.DatabaseError(f"metadata of passage {shown(passage_id)} is no JSON object")
    raise sqlite3.DatabaseError(f"passage {shown(passage_id)} holds a value that is no text")
