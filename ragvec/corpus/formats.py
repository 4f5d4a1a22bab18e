"""The rows of a corpus file: a place for error messages, and the fields found there."""

import csv
import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from ragvec.corpus.files import byte_lines, decode, read_bytes, text_lines
from ragvec.errors import RagvecError


class BadRow(NamedTuple):
    """A row that can't be read while those after it can: why (place included), and what stands there."""

    error: str
    record: Any


Row = tuple[str, dict[str, Any] | BadRow]  # ("corpus.jsonl, line 17", {"_id": …, "text": …})

_CHUNK = 1 << 20
_LONGEST_FIELD = 2**31 - 1  # csv's own limit of 131,072 characters is less than a long document
_PARQUET_ROWS = 1024
_ARRAY_END = re.compile(r"\]?\s*")
_BETWEEN = re.compile(r"[\s,]*")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.*?\r?\n)?---[ \t]*(\r?\n|$)", re.DOTALL)
_FRONT_MATTER_LINE = re.compile(r"([A-Za-z_][\w-]*):[ \t]+(\S.*)")
_HEADING = re.compile(r"\s*#[ \t]+(\S.*?)[ \t#]*(\r?\n|$)")


def jsonl_rows(file: BinaryIO, path: str | Path) -> Iterator[Row]:
    """One JSON object a line; empty lines are passed over."""
    for number, line in byte_lines(file, path):
        if line.isspace():
            continue
        place = f"{path}, line {number}"
        try:
            row = _object(orjson.loads(line), place)
        except orjson.JSONDecodeError as error:
            row = BadRow(_why_no_json(line, place, error), line.decode("utf-8", "replace").strip())
        yield place, row


def json_rows(file: BinaryIO, path: str | Path) -> Iterator[Row]:
    """The objects of a JSON array, or objects one after another, without holding the file in memory."""
    text = _Text(file, path)
    array = text.skip(_BETWEEN) == "["
    if array:
        text.start += 1
    while (character := text.skip(_BETWEEN)) and character != "]":
        place = f"{path}, line {text.line}"
        yield place, _object(text.value(), place)
    if array and not character:
        raise RagvecError(f"{path}, line {text.line}: the array has no end: the file is cut off")
    if character == "]" and (not array or text.skip(_ARRAY_END)):
        raise RagvecError(f"{path}, line {text.line}: bad JSON: something follows the array's end")


def csv_rows(file: BinaryIO, path: str | Path, delimiter: str, *, quoted: bool = True) -> Iterator[Row]:
    """The rows under a header of field names; every value is a string, a nameless column is left out.

    quoted: a field may stand in double quotes; otherwise these are characters like any other
    """
    csv.field_size_limit(_LONGEST_FIELD)
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(text_lines(file, path), delimiter=delimiter, strict=True, quoting=quoting)
    header: list[str] | None = None
    while True:
        place = f"{path}, line {reader.line_num + 1}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise RagvecError(f"{place}: bad {'CSV' if delimiter == ',' else 'TSV'}: {error}") from error
        if row is None:
            return
        if not row:
            continue
        if header is None:
            header = _header(row, place)
        elif len(row) != len(header):
            error = f"{place}: {len(row)} fields where the header has {len(header)}: quote fields that hold {delimiter!r}"
            yield place, BadRow(error, row)
        else:
            yield place, {name: value for name, value in zip(header, row, strict=True) if name}


def typed(value: Any) -> Any:
    """A number for a string that spells one; everything else as it is ("007" and "1e5" stay strings)."""
    if not isinstance(value, str):
        return value
    if _INTEGER.fullmatch(value):
        return int(value)
    return float(value) if _DECIMAL.fullmatch(value) else value


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file; nulls are left out, dates become ISO strings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
            binary = [field.name for field in file.schema_arrow if any(kind(field.type) for kind in kinds)]
            if binary:
                raise RagvecError(f"{path}: column {binary[0]!r} holds bytes, which JSON metadata cannot carry: leave it out")
            number = 0
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield (
                        f"{path}, row {number}",
                        {name: _json_value(value) for name, value in row.items() if value is not None},
                    )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise RagvecError(f"{path} is not a readable Parquet file: {error}") from error


def text_rows(file: BinaryIO, path: str | Path, name: str, *, lines: bool) -> Iterator[Row]:
    """A plain text file as one document named after the file, or each of its non-empty lines as one."""
    if lines:
        for number, line in enumerate(text_lines(file, path), 1):
            if line.strip():
                yield f"{path}, line {number}", {"text": line.strip()}
        return
    text = decode(read_bytes(file, path), str(path)).strip()
    if text:
        yield str(path), {"_id": name, "text": text}


def markdown_rows(file: BinaryIO, path: str | Path, name: str) -> Iterator[Row]:
    """A Markdown file as one document named after the file.

    Front matter between --- lines gives title and metadata (its `key: value` lines; nested values are left out); else the
    title is a level-one heading at the very top, which the text then no longer repeats.
    """
    text = decode(read_bytes(file, path), str(path))
    fields: dict[str, Any] = {}
    if matter := _FRONT_MATTER.match(text):
        text = text[matter.end() :]
        for line in (matter.group(1) or "").splitlines():
            if found := _FRONT_MATTER_LINE.fullmatch(line.rstrip()):
                fields[found.group(1)] = typed(found.group(2).strip("\"'"))
    heading, rest = split_heading(text)
    if heading and fields.setdefault("title", heading) == heading:
        text = rest
    for taken in ("_id", "text"):
        fields.pop(taken, None)
    if text.strip() or "title" in fields:
        yield str(path), {**fields, "title": str(fields.get("title", "")), "_id": name, "text": text.strip()}


def split_heading(text: str) -> tuple[str, str]:
    """The level-one heading at the very top of a Markdown text, "" if there is none, and what follows it."""
    found = _HEADING.match(text)
    return (found.group(1), text[found.end() :]) if found else ("", text)


class _Text:
    """A window that slides over a long JSON text: value() parses one value and asks for more text only when it must."""

    def __init__(self, file: BinaryIO, path: str | Path) -> None:
        self._file, self._path = file, path
        self._decoder = getincrementaldecoder("utf-8-sig")()
        self._parse = json.JSONDecoder().raw_decode
        self.window, self.start, self.line = "", 0, 1

    def skip(self, pattern: re.Pattern) -> str:
        """Step over what the pattern matches, and return the character after it; "" at the end of the file."""
        while True:
            end = pattern.match(self.window, self.start).end()
            self._step(end)
            if end < len(self.window):
                return self.window[end]
            if not self._more(_CHUNK):
                return ""

    def value(self) -> Any:
        """Parse the value that begins here. Raises RagvecError with its line."""
        while True:
            try:
                value, end = self._parse(self.window, self.start)
                self._step(end)
                return value
            except json.JSONDecodeError as error:
                cut_off = error.msg.startswith("Unterminated string") or error.pos >= len(self.window) - 16
                if not (cut_off and self._more(max(_CHUNK, len(self.window) - self.start))):
                    line = self.line + self.window.count("\n", self.start, error.pos)
                    raise RagvecError(f"{self._path}, line {line}: bad JSON: {error.msg}") from error
            except RecursionError as error:
                raise RagvecError(f"{self._path}, line {self.line}: bad JSON: nested too deeply") from error

    def _step(self, end: int) -> None:
        self.line += self.window.count("\n", self.start, end)
        self.start = end

    def _more(self, size: int) -> bool:
        chunk = read_bytes(self._file, self._path, size)
        try:
            text = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line = self.line + self.window.count("\n", self.start) + chunk.count(b"\n", 0, error.start)
            raise RagvecError(f"{self._path}, line {line}: not UTF-8: convert the file, e.g. with iconv") from error
        self.window, self.start = self.window[self.start :] + text, 0
        return bool(chunk)


def _object(value: Any, place: str) -> dict[str, Any] | BadRow:
    if isinstance(value, dict):
        return value
    kind = {list: "an array", str: "a string", type(None): "null"}.get(type(value), "a number or boolean")
    return BadRow(f"{place}: expected an object with id and text, found {kind}", value)


def _why_no_json(line: bytes, place: str, error: orjson.JSONDecodeError) -> str:
    try:
        decode(line, place)
    except RagvecError as undecodable:
        return str(undecodable)
    return f"{place}: bad JSON: {error.msg} at column {error.colno}"


def _header(row: list[str], place: str) -> list[str]:
    names = [name.strip() for name in row]
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise RagvecError(f"{place}: the header names {twice[0]!r} twice: rename one")
    return names


def _json_value(value: Any) -> Any:
    """An Arrow value as JSON has it."""
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {str(name): _json_value(inner) for name, inner in value.items()}
    return [_json_value(inner) for inner in value] if isinstance(value, list) else value
