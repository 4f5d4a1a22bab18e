"""What filters ask of a passage, spelled out for stores: for each field the values it has, of each kind that is compared.

    {"year": {"t": ["2021"], "o": ["2021"], "s": ["2021"], "n": [2021]}, "author\\u001fname": {…}}

    b   true and false, as 1 and 0            n   numbers, and those that texts spell
    t   texts, and numbers as text            d   instants of texts that are dates, as Julian days
    s   texts alone                           o   texts that are no dates, and numbers as text

SQLite itself says what a number is as text, which number a text spells and which instant a date is: so a store that compares
these values answers every filter as an index does (`ragvec.index.conditions`), and nobody's date functions are trusted.
A key is a path of names with U+001F between them, which no filter can name. Lists count by their elements, lists of objects are
entered; a field that has only other values has no kinds. Columns (doc_id …) are there for their numbers and dates.
"""

import re
import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from ragvec.index.conditions import COLUMNS, DEEPEST_PATH, Comparison, Date, is_column, is_date
from ragvec.records import Passage

SEPARATOR = "\x1f"
COLUMN = "\x1e"  # before a column's name
Kinds = dict[str, list[Any]]
_NUMERIC = re.compile(r"[0-9.+-][0-9.eE+-]*")
_DATE_LIKE = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]")


class Asked(NamedTuple):
    """What is asked of the values of a kind: a sign (= < <= > >=), "in", "like" or "starts with", and what is compared."""

    kind: str
    sign: str
    value: Any


def values_of(passage: Passage) -> dict[str, Kinds]:
    """All values of a passage that filters may ask for."""
    found: dict[str, Kinds] = {}
    for path, elements in _paths(passage.metadata, ()):
        kinds = found.setdefault(SEPARATOR.join(path), {})
        for element in elements:
            for kind, value in _kinds(element):
                kinds.setdefault(kind, []).append(value)
    for name in COLUMNS:
        kinds = {kind: [value] for kind, value in _kinds(getattr(passage, name)) if kind in "nd"}
        if kinds:
            found[COLUMN + name] = kinds
    return found


def key_of(field: tuple[str, ...]) -> str:
    """Under which key a field's values stand."""
    return COLUMN + field[0] if is_column(field) else SEPARATOR.join(field)


def asked_of(field: tuple[str, ...], comparison: Comparison) -> list[Asked]:
    """What a comparison asks of a field's values, of which any may hold; none = it never holds."""
    sign, value = comparison
    dates = not is_column(field)
    if sign == "in":
        return _any_of(value, dates=dates)
    if sign in ("like", "starts with"):
        return [Asked("s", sign, value)]
    if isinstance(value, bool):
        return [Asked("b", sign, int(value))]
    if isinstance(value, (int, float)):
        return [Asked("n", sign, value)]
    if isinstance(value, Date):
        return _instants(sign, [value])
    if not (dates and is_date(value)):
        return [Asked("t", sign, value)]
    return [*_instants(sign, [value]), Asked("t" if sign == "=" else "o", sign, value)]


def _any_of(values: list[Any], *, dates: bool) -> list[Asked]:
    kinds: Kinds = {"b": [], "t": [], "d": [], "n": []}
    for value in values:
        if isinstance(value, bool):
            kinds["b"].append(int(value))
        elif not isinstance(value, str):
            kinds["n"].append(value)
        else:
            if not isinstance(value, Date):
                kinds["t"].append(str(value))
            if isinstance(value, Date) or (dates and is_date(value)):
                kinds["d"] += [asked.value for asked in _instants("=", [value])]
    return [Asked(kind, "in", chosen) for kind, chosen in kinds.items() if chosen]


def _instants(sign: str, dates: list[str]) -> list[Asked]:
    instants = (_sqlite("julianday(?)", str(date)) for date in dates)
    return [Asked("d", sign, instant) for instant in instants if instant is not None]


def _kinds(value: Any) -> Iterator[tuple[str, Any]]:
    """Under which kinds a value stands, and as what."""
    if isinstance(value, bool):
        yield "b", int(value)
    elif isinstance(value, (int, float)):
        number = value if isinstance(value, float) or -(2**63) <= value < 2**63 else float(value)
        text = str(number) if isinstance(number, int) else _sqlite("CAST(? AS TEXT)", number)
        yield from (("n", number), ("t", text), ("o", text))
    elif isinstance(value, str):
        yield from (("t", value), ("s", value))
        if _NUMERIC.fullmatch(value):
            yield "n", _sqlite("CAST(? AS NUMERIC)", value)
        instant = _sqlite("julianday(?)", value) if _DATE_LIKE.match(value) else None
        yield ("o", value) if instant is None else ("d", instant)


def _paths(value: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Every field that has a value, and its elements; of an object in a field, and of those in its list, the fields too."""
    for name, held in value.items():
        path = (*above, name)
        if held is None or SEPARATOR in name:
            continue
        elements = held if isinstance(held, list) else [held]
        yield path, [one for one in elements if not isinstance(one, (dict, list))]
        if len(path) < DEEPEST_PATH:
            for one in elements:
                if isinstance(one, dict):
                    yield from _paths(one, path)


_connection = sqlite3.connect(":memory:", check_same_thread=False)


@lru_cache(maxsize=4096)
def _sqlite(expression: str, value: Any) -> Any:
    return _connection.execute(f"SELECT {expression}", (value,)).fetchone()[0]
