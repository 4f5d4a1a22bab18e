"""The one place that knows which reader a corpus file's format has, for documents and for training data."""

from collections.abc import Callable, Iterator
from pathlib import Path

from ragvec.corpus.arrow import arrow_rows
from ragvec.corpus.conversion import Converter
from ragvec.corpus.converted import converted_rows
from ragvec.corpus.encodings import as_utf8
from ragvec.corpus.files import InputFile, describe_file, open_input
from ragvec.corpus.formats import csv_rows, json_rows, jsonl_rows, markdown_rows, text_rows
from ragvec.corpus.kinds import READ_IN_PLACE, format_of
from ragvec.corpus.parquet import parquet_rows
from ragvec.corpus.remarks import Remarks
from ragvec.corpus.rows import Row
from ragvec.corpus.tables import delimiter_of


def file_rows(
    path: Path,
    shown: str,
    name: str,
    max_value_mb: int | None = None,
    *,
    kind: str | None = None,
    text_lines: bool = False,
    quoted: bool = True,
    within: Path | None = None,
    on_file: Callable[[InputFile], None] | None = None,
    converter: Converter | None = None,
    encoding: str | None = None,
    vector_field: str | None = None,
    remarks: Remarks | None = None,
) -> Iterator[Row]:
    """The rows of a file of any format, by its name.

    shown       the file in places and messages; name: the file in the ids and titles that are made of it
    kind        its format; None = as its name promises
    text_lines  each non-empty line of a text file is a row; otherwise the file is one
    quoted      a field of a CSV or TSV file may stand in double quotes; otherwise these are characters like any other
    within      the folder that links may not lead out of
    on_file     called with the file's size and SHA-256 once it has been read to its end
    converter   for PDF, HTML, DOCX and the like, which must not come without one
    encoding    of text that is not UTF-8 and does not begin with a byte-order mark
    vector_field  a column of Parquet or Arrow whose lists of numbers come as arrays
    remarks     what was told of other files of the corpus, and is not told again
    Raises RagvecError, with the place, for what can't be read.
    """
    kind = kind or format_of(path)
    if kind in READ_IN_PLACE:
        rows = arrow_rows if kind == "arrow" else parquet_rows
        yield from rows(path, max_value_mb, within=within, vector_field=vector_field, remarks=remarks)
        if on_file:
            on_file(describe_file(path))
        return
    with open_input(path, on_file, within=within) as raw:
        if kind == "converted":
            assert converter is not None
            yield from converted_rows(raw, shown, name, converter, max_value_mb=max_value_mb)
            return
        file = as_utf8(raw, shown, encoding)
        if kind == "jsonl":
            yield from jsonl_rows(file, shown, max_value_mb)
        elif kind == "json":
            yield from json_rows(file, shown, max_value_mb)
        elif kind == "markdown":
            yield from markdown_rows(file, shown, name, max_value_mb, remarks=remarks)
        elif kind == "text":
            yield from text_rows(file, shown, name, max_value_mb, lines=text_lines)
        else:
            delimiter = delimiter_of(file.peek(1), usual=None if kind == "csv" else "\t")
            yield from csv_rows(file, shown, delimiter, max_value_mb, quoted=quoted, remarks=remarks)
