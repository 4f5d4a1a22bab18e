"""Queries as people list them: JSON objects, a table of ids and texts, or texts alone, one a line."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from ragvec.corpus.tables import delimiter_of
from ragvec.errors import WrongInput, first_line

_IDS = ("_id", "id", "query_id", "query-id", "qid")
_TEXTS = ("text", "query")


class _Columns(NamedTuple):
    """Where a table has ids and texts, counted from 0."""

    id: int
    text: int


def parse_queries(lines: Iterable[str], name: str) -> Iterator[tuple[str, str]]:
    """(query_id, text) of each query, see `numbered_queries`. Raises WrongInput for an id that another line has, too."""
    lines_of: dict[str, int] = {}
    for number, query_id, text in numbered_queries(lines, name):
        if (first := lines_of.setdefault(query_id, number)) != number:
            raise WrongInput(f"{name}, line {number}: line {first} has the query id {query_id!r}, too: give each its own")
        yield query_id, text


def numbered_queries(lines: Iterable[str], name: str, *, with_ids: bool = False) -> Iterator[tuple[int, str, str]]:
    """(number, query_id, text) of each line that is not blank: a JSON object, an id and a text with a tab between, or a text,
    whose id is the line's number.

    A table's first line may name its columns, `query_id` and `text` among them: these are then read.
    name      of the file; one that ends in .csv is a table whose first line names its columns, `text` or `query` among them,
              with commas or what else separates that line
    with_ids  a text alone is none: whoever asks knows queries by their ids
    Raises WrongInput, with the line's number, for what has no text.
    """
    if name.lower().removesuffix(".gz").removesuffix(".zst").endswith(".csv"):
        yield from _of_csv(lines, name, with_ids=with_ids)
        return
    columns = None
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if stripped.startswith("{"):
            yield number, *_from_json(stripped, number, name)
        elif "\t" in stripped:
            cells = [cell.strip() for cell in line.rstrip("\r\n").split("\t")]
            if number == 1 and (columns := _columns(cells)):
                continue
            query_id, text = _of_columns(cells, columns) if columns else map(str.strip, stripped.split("\t", 1))
            if not text:
                raise WrongInput(f"{name}, line {number}: no text for the query id {query_id!r}: complete it, or take it out")
            yield number, query_id, text
        elif stripped and with_ids:
            raise WrongInput(f"{name}, line {number}: no tab between the query's id and its text")
        elif stripped:
            yield number, str(number), stripped


def _of_csv(lines: Iterable[str], name: str, *, with_ids: bool) -> Iterator[tuple[int, str, str]]:
    """The same of a CSV file's rows, which may go over several lines."""
    rest = iter(lines)
    header = next(rest, "")
    rows = csv.reader(chain([header], rest), delimiter=delimiter_of(header.encode()))
    named = [cell.strip() for cell in next(rows, [])]
    ids, texts = _places(named)
    if not texts or (with_ids and not ids):
        needed = " or ".join(_IDS if texts else _TEXTS)
        raise WrongInput(f"{name}, line 1: no {needed} among the columns {', '.join(named):.200}: name the queries' column so")
    try:
        for row in rows:
            cells = [*map(str.strip, row), *[""] * len(named)]
            if not any(cells):
                continue
            if not cells[texts[0]]:
                what = f"no text in the column {named[texts[0]]}: complete it, or take it out"
                raise WrongInput(f"{name}, line {rows.line_num}: {what}")
            yield rows.line_num, (ids and cells[ids[0]]) or str(rows.line_num), cells[texts[0]]
    except csv.Error as error:
        raise WrongInput(f"{name}, line {rows.line_num}: not CSV ({first_line(error)})") from error


def _columns(cells: Sequence[str]) -> _Columns | None:
    """Where the columns are that a table's first line names; None if it names none, and so is a query."""
    ids, texts = _places(cells)
    return _Columns(ids[0], texts[0]) if ids and texts else None


def _places(names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Where columns of these names are ids, and where texts, the likeliest first."""
    places = {name.lower(): place for place, name in reversed(list(enumerate(names)))}
    ids, texts = ([places[name] for name in wanted if name in places] for wanted in (_IDS, _TEXTS))
    return ids, texts


def _of_columns(cells: Sequence[str], columns: _Columns) -> tuple[str, str]:
    return cells[columns.id], cells[columns.text] if columns.text < len(cells) else ""


def _from_json(line: str, number: int, name: str) -> tuple[str, str]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WrongInput(f"{name}, line {number}: not JSON ({first_line(error)})") from error
    text = next((record[field] for field in _TEXTS if isinstance(record.get(field), str)), None)
    if text is None:
        raise WrongInput(f"{name}, line {number}: no {' or '.join(_TEXTS)} among the fields {', '.join(record):.200}")
    return str(next((record[field] for field in _IDS if field in record), number)), text
