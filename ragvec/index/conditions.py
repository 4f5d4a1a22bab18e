"""What a filter is made of: conditions on a field's values, how they are joined, and the SQL that asks passages for them.

A field's values are asked in two ways, which must agree: in the passage's JSON, by a condition on a value v of JSON type t;
and, for fields that the index keeps a table of, by conditions on the table's values, which are sorted into kinds.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from ragvec.errors import WrongUsage

COLUMNS = ("doc_id", "passage_id", "title", "text")
LONGEST_GLOB = 50_000  # SQLite's own limit, in bytes
DEEPEST_PATH = 8  # each name after the first is a join
MOST_FILTER_FIELDS = 32
UNFIT = re.compile(r'["\\\x00-\x1f]')  # a field's name can't hold these
# The kinds of values in a table: other texts; texts that are dates, and their instants; numbers, and those that texts spell;
# true and false; and for a passage whose field holds none of these, such as an empty list, that it has the field.
TEXT, DATED, INSTANT, NUMBER, NUMERIC, TRUTH, OTHER = range(7)

Sql = tuple[str, list[Any]]  # a condition, with question marks, and what they stand for
Value: TypeAlias = str | int | float | bool  # a Date is a str

_TEXT = "t = 'text' AND v"
_AS_TEXT = "t IN ('text', 'integer', 'real') AND CAST(v AS TEXT)"
# what a text must look like to be compared with a number, since CSV files and people write numbers as texts
_NUMERIC = "v GLOB '[0-9.+-]*' AND v NOT GLOB '*[^0-9.eE+-]*'"
_IS_DATE = "(v GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]*' AND julianday(v) IS NOT NULL)"
# what SQLite's julianday reads: a time of day without a zone is UTC's, a date alone its first moment
_DATE = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    r"(?:[T ](?:[01]\d|2[0-4]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)? ?(?:[Zz]|[+-](?:0\d|1[0-4]):[0-5]\d)?)?"
)
_NUMBER_TEXT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


class Date(str):
    """A date or a time that a filter names without quotes: only dates are compared with it, as instants."""


class Condition(NamedTuple):
    """What a value must be: in JSON (v of type t), and in a table of values, for each kind that may meet it."""

    in_rows: Sql
    in_table: list[tuple[int, Sql]]


class Comparison(NamedTuple):
    """What a condition says, for other databases: a sign (= < <= > >=), "in", "like" or "starts with", and what it names.

    value  of "in" a list; a pattern of "like" as it stands in the filter, with \\% and \\_
    """

    sign: str
    value: Any


class FieldCondition(NamedTuple):
    """A field, by its names from the outside in, of which a value meets a condition; None = that there is one."""

    field: tuple[str, ...]
    condition: Condition | None
    comparison: Comparison | None = None


class Not(NamedTuple):
    """The opposite of a filter."""

    node: "Filter"


class Joined(NamedTuple):
    """Filters of which all ("and") or some ("or") must hold."""

    word: str
    nodes: tuple["Filter", ...]


Filter: TypeAlias = FieldCondition | Not | Joined


def check_filter_fields(names: Sequence[str]) -> None:
    """Raises WrongInput for names that no field can be filtered by, and for one that comes twice."""
    for name in names:
        if not name or name in COLUMNS or UNFIT.search(name):
            raise WrongUsage(f"{name!r:.60} can't be one of `filter_fields`: name fields of metadata, such as year")
    if len(set(names)) < len(names) or len(names) > MOST_FILTER_FIELDS:
        raise WrongUsage(f"{len(names)} `filter_fields` are named: name each once, and {MOST_FILTER_FIELDS} at most")


def is_date(text: str) -> bool:
    """Whether a text is a date, or a date and time, as ISO 8601 writes it."""
    return _DATE.fullmatch(text) is not None


def compared(sign: str, value: Value, *, dates: bool = True) -> Condition:
    """That a value is equal to another, less or more. dates: texts that are dates are compared as such with one another."""
    if isinstance(value, bool):
        return Condition((f"t IN ('true', 'false') AND v {sign} ?", [int(value)]), [(TRUTH, (f"v {sign} ?", [int(value)]))])
    if isinstance(value, Date):
        instant: Sql = (f"julianday(v) {sign} julianday(?)", [str(value)])
        return Condition((f"t = 'text' AND {_IS_DATE} AND {instant[0]}", instant[1]), [_instants(sign, value)])
    if isinstance(value, str):
        return _compared_text(sign, value, dates=dates and is_date(value))
    plain: Sql = (f"v {sign} ?", [value])
    rows = f"(t IN ('integer', 'real') OR t = 'text' AND {_NUMERIC}) AND CAST(v AS NUMERIC) {sign} ?"
    dated: Sql = (f"{_NUMERIC} AND CAST(v AS NUMERIC) {sign} ?", [value])
    return Condition((rows, [value]), [(NUMBER, plain), (NUMERIC, plain), (DATED, dated)])


def _compared_text(sign: str, value: str, *, dates: bool) -> Condition:
    plain: Sql = (f"v {sign} ?", [value])
    table = [(TEXT, plain), (NUMBER, (f"CAST(v AS TEXT) {sign} ?", [value]))]
    if sign == "=":
        spelled = "v = CAST(? AS NUMERIC) AND CAST(v AS TEXT) = ?"
        table[1:] = [(NUMBER, (spelled, [value, value]))] if _is_number(value) else []
    if not dates:
        return Condition((f"{_AS_TEXT} {sign} ?", [value]), [*table, (DATED, plain)])
    texts = "t IN ('text', 'integer', 'real')"
    if sign == "=":  # the same instant, or what is no date though it looks like one
        rows = f"{texts} AND (CAST(v AS TEXT) = ? OR t = 'text' AND {_IS_DATE} AND julianday(v) = julianday(?))"
        return Condition((rows, [value, value]), [*table, _instants(sign, value)])
    instants, others = f"julianday(v) {sign} julianday(?)", f"CAST(v AS TEXT) {sign} ?"
    rows = f"{texts} AND CASE WHEN t = 'text' AND {_IS_DATE} THEN {instants} ELSE {others} END"
    return Condition((rows, [value, value]), [*table, _instants(sign, value)])


def _instants(sign: str, value: str) -> tuple[int, Sql]:
    return INSTANT, (f"v {sign} julianday(?)", [str(value)])


def _is_number(text: str) -> bool:
    return _NUMBER_TEXT.fullmatch(text) is not None


def like_parts(pattern: str) -> Iterator[tuple[str, bool]]:
    """The characters of a pattern of `like`, and whether each is a sign (% or _) or stands for itself."""
    for escaped, plain in re.findall(r"\\(.)|(.)", pattern, flags=re.DOTALL):
        yield escaped or plain, plain in ("%", "_")


def is_like(pattern: str) -> Condition:
    """That a text fits a pattern, by GLOB: SQLite's LIKE takes A for a."""
    glob = "".join(_glob_part(*part) for part in like_parts(pattern))
    if len(glob.encode("utf-8", "surrogatepass")) > LONGEST_GLOB:
        raise WrongUsage(f"the pattern of like is too long: {LONGEST_GLOB:,} bytes are allowed")
    return _of_texts("{0} GLOB ?", [glob])


def _glob_part(char: str, is_sign: bool) -> str:
    if is_sign:
        return "*" if char == "%" else "?"
    return f"[{char}]" if char in "*?[" else char


def starts_with(prefix: str) -> Condition:
    """That a text begins so, as a range of texts, in which SQLite can look doc_id and passage_id up."""
    stem = prefix.rstrip(chr(sys.maxunicode))
    if not stem:
        return _of_texts("{0} >= ?", [prefix])
    after = ord(stem[-1]) + 1
    end = stem[:-1] + chr(
        0xE000 if after == 0xD800 else after
    )  # texts are compared as UTF-8, which surrogates have no place in
    return _of_texts("{0} >= ? AND {0} < ?", [prefix, end])


def _of_texts(form: str, values: list[Any]) -> Condition:
    one: Sql = (form.format("v"), values)
    return Condition((form.format(_TEXT), values), [(TEXT, one), (DATED, one)])


def is_in(values: Sequence[Value], *, dates: bool = True) -> Condition:
    """That a value is one of a list, which may be of several kinds, very long, or empty: then none is."""
    parts = [compared("=", truth) for truth in dict.fromkeys(value for value in values if isinstance(value, bool))]
    texts = [value for value in values if isinstance(value, str) and not isinstance(value, Date)]
    if texts:
        parts.append(_in_texts(texts))
    if instants := [
        value for value in values if isinstance(value, Date) or (dates and isinstance(value, str) and is_date(value))
    ]:
        rows = f"t = 'text' AND {_IS_DATE} AND julianday(v) IN (SELECT julianday(value) FROM json_each(?))"
        given = [json.dumps(instants)]
        parts.append(Condition((rows, given), [(INSTANT, ("v IN (SELECT julianday(value) FROM json_each(?))", given))]))
    if numbers := [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]:
        parts.append(_in_numbers(numbers))
    if len(parts) == 1:
        return parts[0]
    sql = " OR ".join(f"({part.in_rows[0]})" for part in parts) or "0"
    return Condition((sql, _chained(part.in_rows[1] for part in parts)), _chained(part.in_table for part in parts))


def _in_texts(texts: list[str]) -> Condition:
    given = [json.dumps(texts)]
    among = "IN (SELECT value FROM json_each(?))"
    table = [(TEXT, (f"v {among}", given)), (DATED, (f"v {among}", given))]
    if numbers := [text for text in texts if _is_number(text)]:
        spelled = f"v IN (SELECT CAST(value AS NUMERIC) FROM json_each(?)) AND CAST(v AS TEXT) {among}"
        table.append((NUMBER, (spelled, [json.dumps(numbers)] * 2)))
    return Condition((f"{_AS_TEXT} {among}", given), table)


def _in_numbers(numbers: list[int | float]) -> Condition:
    given = [json.dumps(numbers)]
    plain: Sql = ("v IN (SELECT value FROM json_each(?))", given)
    cast = "CAST(v AS NUMERIC) IN (SELECT value FROM json_each(?))"
    rows = f"(t IN ('integer', 'real') OR t = 'text' AND {_NUMERIC}) AND {cast}"
    return Condition((rows, given), [(NUMBER, plain), (NUMERIC, plain), (DATED, (f"{_NUMERIC} AND {cast}", given))])


def _chained(lists: Iterable[list[Any]]) -> list[Any]:
    return [one for some in lists for one in some]


def is_column(field: tuple[str, ...]) -> bool:
    """Whether this is no metadata but a column of the table of passages."""
    return len(field) == 1 and field[0] in COLUMNS


def row_sql(filter: Filter) -> Sql:
    """A filter as a condition on a row of the table of passages, true or false and never unknown."""
    if isinstance(filter, Not):
        sql, values = row_sql(filter.node)
        return f"NOT {sql}", values
    if isinstance(filter, Joined):
        parts = [row_sql(node) for node in filter.nodes]
        return f"({f' {filter.word.upper()} '.join(sql for sql, _ in parts)})", _chained(values for _, values in parts)
    if filter.condition is None:
        return present(filter.field)
    return _holds(filter.field, *filter.condition.in_rows)


def _holds(field: tuple[str, ...], condition: str, values: list[Any]) -> Sql:
    """SQL that is true where the field's value, or one of a list's elements, meets the condition, and else false."""
    if is_column(field):
        for text in (_AS_TEXT, _TEXT):
            if condition.startswith(text):  # SQLite can look it up: doc_id and passage_id are indexed
                return f"({condition.replace(text, field[0])})", values
        return f"EXISTS (SELECT 1 FROM (SELECT {field[0]} AS v, 'text' AS t) WHERE {condition})", values
    source, places = elements(field)
    among = f"EXISTS (SELECT 1 FROM (SELECT e.value AS v, e.type AS t FROM {source}) WHERE {condition})"
    if len(field) > 1:
        return among, [*places, *values]
    # most values are no lists, and cheaper to ask without json_each
    path = json_path(field[0])
    plain = f"EXISTS (SELECT 1 FROM (SELECT json_extract(metadata, ?) AS v, json_type(metadata, ?) AS t) WHERE {condition})"
    sql = f"(CASE json_type(metadata, ?) WHEN 'array' THEN {among} WHEN 'object' THEN 0 ELSE {plain} END)"
    return sql, [path, *places, *values, path, path, *values]


def present(field: tuple[str, ...]) -> Sql:
    """SQL that is true where a passage has the field, and it is not null."""
    if is_column(field):
        return f"({field[0]} <> '')", []
    there = "coalesce(json_type({}, ?), 'null') <> 'null'"
    if len(field) == 1:
        return f"({there.format('metadata')})", [json_path(field[0])]
    source, places, last = _objects(field[:-1])
    inner = f"CASE {last}.type WHEN 'object' THEN {there.format(f'{last}.value')} ELSE 0 END"
    return f"EXISTS (SELECT 1 FROM {source} WHERE {inner})", [*places, json_path(field[-1])]


def elements(field: tuple[str, ...]) -> Sql:
    """What to read FROM, beside passages, to get a field's values: a list's elements, each `e.value` and its JSON `e.type`.

    On the way to a nested field lists of objects are entered. An object is no value.
    """
    path = json_path(field[-1])
    if len(field) == 1:
        return "json_each(CASE json_type(metadata, ?) WHEN 'object' THEN NULL ELSE metadata END, ?) AS e", [path, path]
    source, places, last = _objects(field[:-1])
    value = f"CASE json_type({last}.value, ?) WHEN 'object' THEN NULL ELSE {last}.value END"
    return f"{source}, json_each(CASE {last}.type WHEN 'object' THEN {value} END, ?) AS e", [*places, path, path]


def _objects(names: tuple[str, ...]) -> tuple[str, list[Any], str]:
    """What to read FROM to get the object under these names, or the objects of a list; its values; and the name of the last."""
    parts: list[str] = []
    places: list[Any] = []
    for depth, name in enumerate(names):
        held = "metadata" if not depth else f"o{depth}.value"
        one = f"json_extract({held}, ?)"
        inner = f"CASE json_type({held}, ?) WHEN 'array' THEN {one} WHEN 'object' THEN '[' || {one} || ']' END"
        inner = f"CASE o{depth}.type WHEN 'object' THEN {inner} END" if depth else inner
        parts.append(f"json_each({inner}) AS o{depth + 1}")
        places += [json_path(name)] * 3
    return ", ".join(parts), places, f"o{len(names)}"


def json_path(name: str) -> str:
    """Where SQLite finds a field of an object."""
    return f'$."{name}"'


# Of a value v of type t: what a table of values holds of it, as (kind, value), and what further for texts with a meaning.
KIND = (
    f"CASE t WHEN 'text' THEN CASE WHEN {_IS_DATE} THEN {DATED} ELSE {TEXT} END "
    f"WHEN 'true' THEN {TRUTH} WHEN 'false' THEN {TRUTH} ELSE {NUMBER} END"
)
FURTHER_KIND = f"CASE WHEN {_IS_DATE} THEN {INSTANT} ELSE {NUMERIC} END"
FURTHER_VALUE = f"CASE WHEN {_IS_DATE} THEN julianday(v) ELSE CAST(v AS NUMERIC) END"
HAS_FURTHER = f"t = 'text' AND ({_IS_DATE} OR {_NUMERIC})"
IS_VALUE = "t IN ('text', 'integer', 'real', 'true', 'false')"
