"""Tables as people have them: what stands between their fields, and which of their columns are text."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from ragvec.corpus.rows import BadRow, Row
from ragvec.errors import RagvecError

SAMPLE_ROWS = 100
_SAMPLE_CHARACTERS = 1 << 20
_SNIFFED = 1 << 16  # bytes
_BLOCK = 1 << 20
_DELIMITERS = ",;\t|"  # the first of those that do equally well
_TOLD = re.compile(r"\ufeff?sep=([^\w\s\"]|\t)\r?\n", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]{2}|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
_CODE = re.compile(r"\S*(\d|://|@)\S*|true|false|yes|no|none|null|n/?a", re.IGNORECASE)


def delimiter_of(beginning: bytes, *, usual: str | None = None) -> str:
    """What separates the fields of a table of text.

    What its first line says, as Excel writes it (sep=;), else the usual one. Where there is none: what gives all its first
    rows as many fields, two or more; else a comma.
    """
    text = beginning[:_SNIFFED].decode("utf-8", "replace")
    if told := _TOLD.match(text):
        return told.group(1)
    if usual is not None:
        return usual
    if len(beginning) > _SNIFFED:
        text = text[: text.rfind("\n") + 1]
    fields = {delimiter: _fields(text, delimiter) for delimiter in _DELIMITERS}
    best = max(_DELIMITERS, key=lambda delimiter: fields[delimiter])  # the first of equals
    return best if fields[best] else ","


def _fields(text: str, delimiter: str) -> int:
    """How many fields each row has; 0 where they differ, or have one alone."""
    try:
        rows = list(csv.reader(text.splitlines(keepends=True), delimiter=delimiter))
    except csv.Error:
        return 0
    counts = Counter(len(row) for row in rows[:-1] or rows if row)  # the last may be cut
    return next(iter(counts)) if len(counts) == 1 and 1 not in counts else 0


def table_length(file: BinaryIO, *, quoted: bool) -> int:
    """About how many rows stand under a table's header: its line ends outside of quotes. Empty lines are counted with them.

    quoted: a field may stand in double quotes
    """
    ends, inside, last = 0, False, b"\n"
    while block := file.read(_BLOCK):
        for number, piece in enumerate(block.split(b'"') if quoted else [block]):
            inside ^= number > 0
            ends += 0 if inside else piece.count(b"\n")
        last = block
    return max(0, ends - last.endswith(b"\n"))  # a last line needs no end; the header is no row


def looked_ahead(rows: Iterator[Row]) -> tuple[list[Row], Iterator[Row]]:
    """The first rows of a file, about a hundred, and all of them; what reading them raises comes where it would have come."""
    seen: list[Row] = []
    raised: list[RagvecError] = []
    weight = 0
    try:
        while len(seen) < SAMPLE_ROWS and weight < _SAMPLE_CHARACTERS and (row := next(rows, None)) is not None:
            seen.append(row)
            fields = {} if isinstance(row[1], BadRow) else row[1]
            weight += sum(len(value) for value in fields.values() if isinstance(value, str))
    except RagvecError as error:
        raised.append(error)

    def again() -> Iterator[Row]:
        yield from seen
        if raised:
            raise raised[0]
        yield from rows

    return seen, again()


def text_columns(rows: Sequence[dict[str, Any]], taken: Sequence[str]) -> tuple[str, ...]:
    """The columns whose values are mostly words, in order, but for those that are `taken` (in lower case) otherwise."""
    names = dict.fromkeys(name for row in rows for name in row)
    return tuple(name for name in names if name.lower() not in taken and _is_text([row.get(name) for row in rows]))


def _is_text(values: Sequence[Any]) -> bool:
    given = [value for value in values if value not in (None, "")]
    words = sum(isinstance(value, str) and bool(_WORD.search(value)) and not _CODE.fullmatch(value.strip()) for value in given)
    return 2 * words > len(given)
