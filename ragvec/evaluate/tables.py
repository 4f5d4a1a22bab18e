"""Tab-separated files with a header, as BEIR's qrels and STS and classification data come in."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ragvec.corpus.files import open_input, text_lines
from ragvec.errors import RagvecError

Row = tuple[int, dict[str, str]]  # line number, column → value


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """Rows of a TSV file with a header; quotes are characters like any other.

    Raises RagvecError, with the line, for a missing column, a short row, or a file that is no UTF-8 text.
    """
    try:
        with open_input(path) as file:
            return list(_rows(text_lines(file, path), path, columns))
    except csv.Error as error:
        raise RagvecError(f"{path} can't be read as UTF-8 text: {error}") from error


def read_header(path: Path) -> list[str]:
    """The column names in a TSV file's first line; empty for what is no text."""
    try:
        with open_input(path) as file:
            return next(text_lines(file, path), "").rstrip("\r\n").split("\t")
    except RagvecError:
        return []


def to_number(value: str, path: Path, line: int) -> float:
    """The number in a cell. Raises RagvecError, with the line, if it is none, or infinite."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RagvecError(f"{path} line {line}: score {value!r:.80} is no number")
    return number


def _rows(lines: Iterable[str], path: Path, columns: Sequence[str]) -> Iterator[Row]:
    reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    header = next(reader, [])
    if missing := [name for name in columns if name not in header]:
        raise RagvecError(f"{path} has no column {missing[0]!r}: its header is {json.dumps(header, ensure_ascii=False)}")
    for row in reader:
        if len(row) < len(header):
            raise RagvecError(f"{path} line {reader.line_num}: {len(row)} columns where the header has {len(header)}")
        yield reader.line_num, dict(zip(header, row, strict=False))
