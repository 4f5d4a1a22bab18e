"""A corpus as a stream of documents: JSONL, JSON, Parquet, CSV/TSV, text, Markdown, folders of them, BEIR, standard input."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ragvec.corpus.files import STDIN, InputFile, byte_lines, corpus_files, describe_file, format_of, open_input
from ragvec.corpus.formats import (
    Row,
    csv_rows,
    json_rows,
    jsonl_rows,
    markdown_rows,
    parquet_rows,
    text_rows,
    typed,
)
from ragvec.errors import RagvecError
from ragvec.records import Document, Passage

ID_FIELDS = ("_id", "id", "docid", "doc_id")
TEXT_FIELDS = ("text", "contents", "content", "body")
TITLE_FIELDS = ("title",)
_RECENT_IDS = 1 << 16


def read_documents(
    source: str | Path, *, text_lines: bool = False, on_file: Callable[[InputFile], None] | None = None
) -> Iterator[Document]:
    """Read a corpus, one document at a time.

    source      a file (.jsonl .json .csv .tsv .txt .md, also with .gz or .zst; .parquet), a folder of them, or "-": JSONL from
                standard input
    text_lines  each non-empty line of a .txt file is a document; otherwise the file is one
    on_file     called with each file's size and SHA-256 once it has been read to its end
    A document without an id gets one made from its title and text; fields that are not id, title or text become metadata.
    Raises RagvecError with file and line for what cannot be read: bad JSON or UTF-8, no text field, duplicate ids, NULs, no
    document at all.
    """
    ids = _Ids()
    empty = True
    for place, fields, from_csv in _rows(source, text_lines, on_file):
        empty = False
        yield _document(fields, place, ids, from_csv)
    if empty:
        raise RagvecError(f"{'standard input' if str(source) == STDIN else source} holds no documents")


def to_passages(documents: Iterable[Document]) -> Iterator[Passage]:
    """One passage for each document, with the document's id."""
    for document in documents:
        yield Passage(document.doc_id, document.doc_id, document.text, document.title, document.metadata)


def count_documents(source: str | Path, *, text_lines: bool = False) -> int | None:
    """About how many documents a corpus holds, for a progress bar; None where only parsing would tell."""
    if str(source) == STDIN:
        return None
    total = 0
    for path in corpus_files(source).paths:
        kind = format_of(path)
        if kind in ("csv", "tsv", "json"):
            return None
        if kind == "parquet":
            total += _parquet_length(path)
        elif kind == "jsonl" or (kind == "text" and text_lines):
            with open_input(path) as file:
                total += sum(1 for _, line in byte_lines(file, path) if not line.isspace())
        else:
            total += 1
    return total


def _rows(
    source: str | Path, text_lines: bool, on_file: Callable[[InputFile], None] | None
) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Every row of every file, with its place and whether its values are CSV strings."""
    if str(source) == STDIN:
        with open_input(STDIN, on_file) as file:
            for place, fields in jsonl_rows(file, "standard input"):
                yield place, fields, False
        return
    found = corpus_files(source)
    for path in found.paths:
        kind = format_of(path)
        for place, fields in _file_rows(path, kind, path.relative_to(found.root).as_posix(), text_lines, on_file):
            yield place, fields, kind in ("csv", "tsv")


def _file_rows(
    path: Path, kind: str | None, name: str, text_lines: bool, on_file: Callable[[InputFile], None] | None
) -> Iterator[Row]:
    if kind == "parquet":
        yield from parquet_rows(path)
        if on_file:
            on_file(describe_file(path))
        return
    with open_input(path, on_file) as file:
        if kind == "jsonl":
            yield from jsonl_rows(file, path)
        elif kind == "json":
            yield from json_rows(file, path)
        elif kind == "markdown":
            yield from markdown_rows(file, path, name)
        elif kind == "text":
            yield from text_rows(file, path, name, lines=text_lines)
        else:
            yield from csv_rows(file, path, "," if kind == "csv" else "\t")


def _document(fields: dict[str, Any], place: str, ids: "_Ids", from_csv: bool) -> Document:
    names = {name.lower(): name for name in reversed(fields)}
    id_name, text_name, title_name = (_present(names, wanted) for wanted in (ID_FIELDS, TEXT_FIELDS, TITLE_FIELDS))
    title = "" if title_name is None or fields[title_name] is None else fields[title_name]
    text = fields[text_name] if text_name else None
    if text is None:
        raise _no_text(fields, text_name, place)
    for name, value in ((text_name, text), (title_name, title)):
        if not isinstance(value, str):
            raise RagvecError(f"{place}: field {name!r} must be a string, not {value!r:.40}")
    doc_id = ids.claim(fields.get(id_name) if id_name else None, title, text, place)
    _check_characters(place, doc_id, title, text)
    metadata = _metadata(fields, {id_name, text_name, title_name}, from_csv)
    _check_metadata(place, metadata)
    return Document(doc_id, text, title, metadata)


def _present(names: dict[str, str], wanted: tuple[str, ...]) -> str | None:
    """The first wanted name that the row has, as the row spells it (Text, TEXT)."""
    return next((names[name] for name in wanted if name in names), None)


def _metadata(fields: dict[str, Any], taken: set[str | None], from_csv: bool) -> dict[str, Any]:
    """What is left over; an object named metadata, as BEIR has it, is opened."""
    rest = {name: value for name, value in fields.items() if name not in taken}
    if isinstance(rest.get("metadata"), dict):
        rest = {**rest.pop("metadata"), **rest}
    return {name: typed(value) for name, value in rest.items() if value} if from_csv else rest


def _check_metadata(place: str, metadata: dict[str, Any]) -> None:
    """Only what is not a plain value can fail to be JSON, or be nested deeper than can be written."""
    for name, value in metadata.items():
        if not (value is None or isinstance(value, (str, int, float))):
            try:
                orjson.dumps(value)
            except TypeError as error:
                raise RagvecError(
                    f"{place}: field {name!r} cannot be stored as JSON metadata ({error}): leave it out"
                ) from error


def _no_text(fields: dict[str, Any], text_name: str | None, place: str) -> RagvecError:
    if text_name:
        return RagvecError(f"{place}: field {text_name!r} is null: give it a string, or remove the row")
    seen = ", ".join(map(str, fields)) or "none"
    return RagvecError(f"{place}: no text field (looked for {', '.join(TEXT_FIELDS)}); fields seen: {seen:.300}")


def _check_characters(place: str, *strings: str) -> None:
    for string in strings:
        if "\0" in string:
            raise RagvecError(f"{place}: a NUL character at position {string.index(chr(0))}: remove it (is this a text file?)")
        if not string.isascii():
            try:
                string.encode("utf-8")
            except UnicodeEncodeError as error:
                raise RagvecError(f"{place}: half a surrogate pair at position {error.start} is not Unicode text") from error


class _Ids:
    """The ids seen so far, as 8-byte hashes: 8 bytes a document and a small set, so 50 million documents fit in 400 MB."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._older = np.empty(0, dtype=np.int64)
        self._repeats: dict[str, int] = {}

    def claim(self, given: Any, title: str, text: str, place: str) -> str:
        """The document's id as a string, made from title and text if none is given. Raises RagvecError for one seen before."""
        if given is None or given == "":
            return self._made(title, text)
        if isinstance(given, bool) or not isinstance(given, (str, int)):
            raise RagvecError(f"{place}: the id must be a string or an integer, not {given!r:.40}")
        doc_id = str(given)
        if not self._add(doc_id):
            raise RagvecError(f"{place}: the id {doc_id!r} was used before: ids must be unique in a corpus")
        return doc_id

    def _made(self, title: str, text: str) -> str:
        content = f"{title}\0{text}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        doc_id = digest
        while not self._add(doc_id):  # the same text again
            self._repeats[digest] = self._repeats.get(digest, 1) + 1
            doc_id = f"{digest}-{self._repeats[digest]}"
        return doc_id

    def _add(self, doc_id: str) -> bool:
        key = hash(doc_id)
        if key in self._recent:
            return False
        place = int(np.searchsorted(self._older, key))
        if place < len(self._older) and self._older[place] == key:
            return False
        self._recent.add(key)
        if len(self._recent) >= _RECENT_IDS:
            recent = np.fromiter(self._recent, np.int64, len(self._recent))
            self._older = np.concatenate([self._older, recent])
            self._older.sort(kind="stable")
            self._recent.clear()
        return True


def _parquet_length(path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise RagvecError(f"{path} is not a readable Parquet file: {error}") from error
