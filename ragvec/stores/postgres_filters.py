"""Filters as PostgreSQL answers them: the text holds nothing of a filter but its shape, every name and value is a parameter."""

import json
from decimal import Decimal
from typing import Any

from ragvec.index.conditions import FieldCondition, Filter, Joined, Not, is_column, like_parts
from ragvec.stores.values import Asked, asked_of, key_of

Sql = tuple[str, list[Any]]
FEW = 64  # values that are looked for one by one, which an index answers
NUMBERS = "bnd"  # kinds whose values are numbers
_COLUMNS = {name: f'"{name}"' for name in ("doc_id", "passage_id", "title", "text")}


def where_sql(filter: Filter) -> Sql:
    """A filter as a condition on a row of a collection's table, true or false and never unknown."""
    if isinstance(filter, Not):
        sql, values = where_sql(filter.node)
        return f"NOT {sql}", values
    if isinstance(filter, Joined):
        return _joined(filter.word.upper(), [where_sql(node) for node in filter.nodes])
    if filter.comparison is None:
        return _present(filter)
    return _joined("OR", [_holds(filter.field, asked) for asked in asked_of(filter.field, filter.comparison)])


def _joined(word: str, parts: list[Sql]) -> Sql:
    if not parts:
        return "false", []
    return f"({f' {word} '.join(sql for sql, _ in parts)})", [value for _, values in parts for value in values]


def _present(filter: FieldCondition) -> Sql:
    if is_column(filter.field):
        return f"({_COLUMNS[filter.field[0]]} <> '')", []
    return "(filter_values ? %s)", [key_of(filter.field)]


def _holds(field: tuple[str, ...], asked: Asked) -> Sql:
    if is_column(field) and asked.kind not in NUMBERS:
        return _text(_COLUMNS[field[0]], asked)
    key = key_of(field)
    if asked.sign == "=":
        return "(filter_values @> %s::jsonb)", [_document(key, asked.kind, asked.value)]
    if asked.sign == "in" and len(asked.value) <= FEW:
        return "(filter_values @> ANY(%s::jsonb[]))", [[_document(key, asked.kind, value) for value in asked.value]]
    condition, values = _number(asked) if asked.kind in NUMBERS else _text("v", asked)
    elements = "jsonb_array_elements_text(filter_values #> %s::text[]) AS e(v)"
    return f"EXISTS (SELECT 1 FROM {elements} WHERE {condition})", [[key, asked.kind], *values]


def _document(key: str, kind: str, value: Any) -> str:
    return json.dumps({key: {kind: [value]}})


def _number(asked: Asked) -> Sql:
    if asked.sign == "in":
        return "v::numeric = ANY(%s::numeric[])", [[_exact(value) for value in asked.value]]
    return f"v::numeric {asked.sign} %s::numeric", [_exact(asked.value)]


def _exact(value: int | float) -> Decimal:
    return Decimal(repr(value))  # as JSON has it


def _text(place: str, asked: Asked) -> Sql:
    if asked.sign == "in":
        return f"({place} = ANY(%s::text[]))", [asked.value]
    if asked.sign == "starts with":
        return f"starts_with({place}, %s)", [asked.value]
    if asked.sign == "like":
        return f"({place} LIKE %s)", ["".join(_like_part(*part) for part in like_parts(asked.value))]
    return f'({place} COLLATE "C" {asked.sign} %s)', [asked.value]


def _like_part(char: str, is_sign: bool) -> str:
    return char if is_sign else f"\\{char}"
