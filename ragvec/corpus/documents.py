"""A corpus as a stream of documents: JSONL, JSON, Parquet, CSV/TSV, text, Markdown, folders of them, BEIR, standard input."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ragvec.corpus.fields import FieldNames, to_document
from ragvec.corpus.files import STDIN, InputFile, byte_lines, corpus_files, describe_file, format_of, open_input
from ragvec.corpus.formats import (
    BadRow,
    Row,
    csv_rows,
    json_rows,
    jsonl_rows,
    markdown_rows,
    parquet_rows,
    text_rows,
)
from ragvec.corpus.ids import Ids
from ragvec.errors import RagvecError
from ragvec.records import Document, Passage


class Rejected(NamedTuple):
    """A row, or the rest of a file, that could not be read: where, why, and what stood there (None for a file's rest)."""

    place: str
    error: str
    record: Any


def read_documents(
    source: str | Path,
    *,
    text_fields: Sequence[str] = (),
    id_field: str | None = None,
    text_lines: bool = False,
    on_file: Callable[[InputFile], None] | None = None,
    on_reject: Callable[[Rejected], None] | None = None,
) -> Iterator[Document]:
    """Read a corpus, one document at a time.

    source       a file (.jsonl .json .csv .tsv .txt .md .html .pdf .docx, also with .gz or .zst; .parquet), a folder of them,
                 or "-": JSONL from standard input
    text_fields  the fields that make the text, in order; empty = the usual names. id_field: likewise
    text_lines   each non-empty line of a .txt file is a document; otherwise the file is one
    on_file      called with each file's size and SHA-256 once it has been read to its end
    on_reject    called with each row that can't be read, and with the rest of a file that can't; None = the first one raises
    A document without an id gets one made from its title and text; fields that are not id, title or text become metadata.
    Raises RagvecError with file and line for what cannot be read: bad JSON or UTF-8, no text field, duplicate ids, NULs, no
    document at all.
    """
    ids = Ids()
    names = FieldNames(tuple(text_fields), id_field)
    read = rejected = 0
    for place, row, from_csv in _rows(source, text_lines, on_file, on_reject):
        try:
            if isinstance(row, BadRow):
                raise RagvecError(row.error)
            document = to_document(row, place, ids, names, from_csv=from_csv)
        except RagvecError as error:
            if on_reject is None:
                raise
            rejected += 1
            on_reject(Rejected(place, str(error), row.record if isinstance(row, BadRow) else row))
            continue
        read += 1
        yield document
    if not read:
        reason = f" that can be read: {rejected:,} were rejected" if rejected else ""
        raise RagvecError(f"{'standard input' if str(source) == STDIN else source} holds no documents{reason}")


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
    source: str | Path,
    text_lines: bool,
    on_file: Callable[[InputFile], None] | None,
    on_reject: Callable[[Rejected], None] | None,
) -> Iterator[tuple[str, dict[str, Any] | BadRow, bool]]:
    """Every row of every file, with its place and whether its values are CSV strings."""
    if str(source) == STDIN:
        with open_input(STDIN, on_file) as file:
            for place, row in jsonl_rows(file, "standard input"):
                yield place, row, False
        return
    found = corpus_files(source)
    for path in found.paths:
        kind = format_of(path)
        try:
            for place, row in _file_rows(path, kind, path.relative_to(found.root).as_posix(), text_lines, on_file):
                yield place, row, kind in ("csv", "tsv")
        except RagvecError as error:
            if on_reject is None:
                raise
            on_reject(Rejected(str(path), str(error), None))


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
        elif kind == "converted":
            from ragvec.corpus.converted import converted_rows

            yield from converted_rows(file, path, name)
        elif kind == "text":
            yield from text_rows(file, path, name, lines=text_lines)
        else:
            yield from csv_rows(file, path, "," if kind == "csv" else "\t")


def _parquet_length(path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise RagvecError(f"{path} is not a readable Parquet file: {error}") from error
