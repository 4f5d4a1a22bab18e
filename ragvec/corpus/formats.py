"""The rows of corpus files: JSON and JSONL, CSV and TSV, plain text, Markdown. Parquet has a file of its own."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from ragvec.corpus.files import byte_lines, decode, most_bytes, read_whole, text_lines, too_long
from ragvec.corpus.front_matter import front_matter
from ragvec.corpus.json_values import JsonValues
from ragvec.corpus.kinds import suffix_of
from ragvec.corpus.remarks import Remarks
from ragvec.corpus.rows import BadRow, Row
from ragvec.errors import RagvecError, WrongInput

_TAB = "\t"
_LONGEST_FIELD = 2**31 - 1  # what csv can count to
_ARRAY_END = re.compile(r"\]?\s*")
_CONSTANTS = re.compile(rb"NaN|Infinity")
_BETWEEN = re.compile(r"[\s,]*")
_RST_HEADING = re.compile(r"(?:([^\w\s])\1+\n)?[ \t]*(\S[^\n]*)\n(([^\w\s])\4+)[ \t]*(\n|$)")
_HEADING = re.compile(r"\s*#[ \t]+(\S[^\n]*)(\n|$)")


def jsonl_rows(file: BinaryIO, path: str | Path, max_value_mb: int | None = None) -> Iterator[Row]:
    """One JSON object a line; empty lines are passed over."""
    for number, line in byte_lines(file, path, max_value_mb, keep_place=True):
        if line == b"\n" or (line is not None and line.isspace()):
            continue
        place = f"{path}, line {number}"
        if line is None:
            yield place, BadRow(too_long(place, max_value_mb), None)
            continue
        try:
            row = _object(orjson.loads(line), place)
        except orjson.JSONDecodeError as error:
            row = _with_constants(line, place) or BadRow(
                _why_no_json(line, place, error), line.decode("utf-8", "replace").strip()
            )
        yield place, row


def json_rows(file: BinaryIO, path: str | Path, max_value_mb: int | None = None) -> Iterator[Row]:
    """The objects of a JSON array, or objects one after another, without holding the file in memory."""
    text = JsonValues(file, path, max_value_mb)
    array = text.skip(_BETWEEN) == "["
    if array:
        text.start += 1
    while (character := text.skip(_BETWEEN)) and character != "]":
        place = f"{path}, line {text.line}"
        value, refused = text.value()
        yield place, BadRow(f"{place}: {refused}", value) if refused else _object(value, place)
    if array and not character:
        raise WrongInput(f"{path}, line {text.line}: the array has no end: the file is cut off")
    if character == "]" and (not array or text.skip(_ARRAY_END)):
        raise WrongInput(f"{path}, line {text.line}: bad JSON: something follows the array's end")


def csv_rows(
    file: BinaryIO,
    path: str | Path,
    delimiter: str,
    max_value_mb: int | None = None,
    *,
    quoted: bool = True,
    remarks: Remarks | None = None,
) -> Iterator[Row]:
    """The rows under a header of field names; every value is a string. A nameless column is left out, with a warning.

    Excel's line above the header (sep=;) is passed over, and so are empty fields beyond the header's.
    quoted: a field may stand in double quotes; otherwise these are characters like any other; remarks: what was told before
    """
    remarks = remarks or Remarks()
    csv.field_size_limit(min(most_bytes(max_value_mb), _LONGEST_FIELD))
    reader = csv.reader(
        text_lines(file, path, max_value_mb),
        delimiter=delimiter,
        strict=True,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    header: list[str] | None = None
    while True:
        place = f"{path}, line {reader.line_num + 1}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise WrongInput(f"{place}: bad {'TSV' if delimiter == _TAB else 'CSV'}: {error}") from error
        if row is None:
            return
        if not any(map(str.strip, row)) or (reader.line_num == 1 and delimiter.join(row).lower() == f"sep={delimiter}"):
            continue  # a spreadsheet's empty rows are delimiters alone
        if header is None:
            header = _header(row, place)
            continue
        if not any(row[len(header) :]):
            del row[len(header) :]
        if len(row) != len(header):
            wrong = f"{place}: {len(row)} fields where the header has {len(header)}: quote fields that hold {delimiter!r}"
            yield place, BadRow(wrong, row)
            continue
        if nameless := [place for place, name in enumerate(header, 1) if not name and row[place - 1].strip()]:
            remarks.nameless(str(path), nameless)
        yield place, {name: value for name, value in zip(header, row, strict=True) if name}


def text_rows(file: BinaryIO, path: str | Path, name: str, max_value_mb: int | None = None, *, lines: bool) -> Iterator[Row]:
    """A plain text file as one document named after the file, or each of its non-empty lines as one."""
    if lines:
        yield from _lines_as_rows(file, path, max_value_mb)
        return
    text = decode(read_whole(file, path, max_value_mb), str(path)).strip()
    title = _rst_title(text) if suffix_of(name) == ".rst" else ""
    if text:
        yield str(path), {"_id": name, "title": title, "text": text}


def markdown_rows(
    file: BinaryIO, path: str | Path, name: str, max_value_mb: int | None = None, *, remarks: Remarks | None = None
) -> Iterator[Row]:
    """A Markdown file as one document named after the file.

    Front matter gives title and metadata; else the title is a level-one heading at the very top, which the text then no longer
    repeats.
    """
    text = decode(read_whole(file, path, max_value_mb), str(path))
    fields, text = front_matter(text, str(path), remarks or Remarks())
    title = fields.pop("title", None)
    heading, rest = split_heading(text)
    title = heading if title is None else title if isinstance(title, str) else json.dumps(title, ensure_ascii=False)
    if heading and title == heading:
        text = rest
    for taken in ("_id", "text"):
        fields.pop(taken, None)
    if text.strip() or title:
        yield str(path), {**fields, "title": title, "_id": name, "text": text.strip()}


def split_heading(text: str) -> tuple[str, str]:
    """The level-one heading at the very top of a Markdown text, "" if there is none, and what follows it."""
    heading = _HEADING.match(text)
    if not heading:
        return "", text
    title = heading.group(1)
    return title.rstrip(" \t#\r") or title[0], text[heading.end() :]


def _rst_title(text: str) -> str:
    """The heading at the very top of a reStructuredText: a line with another of one sign below it, as long or longer."""
    match = _RST_HEADING.match(text)
    return match.group(2).strip() if match and len(match.group(3)) >= len(match.group(2).strip()) else ""


def _lines_as_rows(file: BinaryIO, path: str | Path, max_value_mb: int | None) -> Iterator[Row]:
    for number, line in byte_lines(file, path, max_value_mb, keep_place=True):
        place = f"{path}, line {number}"
        if line is None:
            yield place, BadRow(too_long(place, max_value_mb), None)
            continue
        try:
            text = decode(line, place).strip()
        except RagvecError as error:
            yield place, BadRow(str(error), line.decode("utf-8", "replace").strip())
            continue
        if text:
            yield place, {"text": text}


def _object(value: Any, place: str) -> dict[str, Any] | BadRow:
    if isinstance(value, dict):
        return value
    kind = {list: "an array", str: "a string", type(None): "null"}.get(type(value), "a number or boolean")
    return BadRow(f"{place}: expected an object with id and text, found {kind}", value)


def _with_constants(line: bytes, place: str) -> dict[str, Any] | BadRow | None:
    """The object of a line that is JSON but for a NaN, as many leave it, or an infinity, which is refused; else None."""
    if not _CONSTANTS.search(line):
        return None
    values = JsonValues(io.BytesIO(line), place)
    try:
        values.skip(_BETWEEN)
        value, refused = values.value()
    except WrongInput:
        return None
    if values.skip(_BETWEEN):
        return None
    return BadRow(f"{place}: {refused}", line.decode("utf-8", "replace").strip()) if refused else _object(value, place)


def _why_no_json(line: bytes, place: str, error: orjson.JSONDecodeError) -> str:
    try:
        decode(line, place)
    except RagvecError as undecodable:
        return str(undecodable)
    return f"{place}: bad JSON: {error.msg} at column {error.colno}"


def _header(row: list[str], place: str) -> list[str]:
    names = [name.strip() for name in row]
    twice = [name for name, count in Counter(names).items() if name and count > 1]  # of many names, in one go
    if twice:
        raise WrongInput(f"{place}: the header names {twice[0]!r} twice: rename one")
    return names
