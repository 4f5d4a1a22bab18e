"""The table of the values that filters ask for most: of the metadata fields that one names when an index is made or compacted.

A passage has a row for each value of such a field; so a filter reads those that meet it instead of every passage.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ragvec.index.conditions import (
    DEEPEST_PATH,
    FURTHER_KIND,
    FURTHER_VALUE,
    HAS_FURTHER,
    IS_VALUE,
    KIND,
    OTHER,
    FieldCondition,
    Filter,
    Joined,
    Not,
    Sql,
    elements,
    is_column,
    present,
    row_sql,
)
from ragvec.index.store.segments import id_array
from ragvec.index.store.settings import read_filter_fields

_BLOCK = 4096  # passages whose values are gathered at a time, or looked at
_NARROW = 50_000  # so many passages are looked at one by one; of more, all
_LOOKED_UP = ("doc_id", "passage_id")

Path = tuple[str, ...]


def paths_of(names: Sequence[str]) -> dict[Path, int]:
    """The number of each path that a field of these names may have: `a.b` is b in a, or a field that is named so."""
    paths: dict[Path, int] = {}
    for name in names:
        for path in ((name,), tuple(name.split("."))):
            if all(path) and len(path) <= DEEPEST_PATH:
                paths.setdefault(path, len(paths))
    return paths


def note_values(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Add the values of passages that have just been added or changed."""
    for sql, values in _gathered(connection, ids):
        connection.execute(f"INSERT OR IGNORE INTO filter_values {sql}", values)


def forget_values(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Remove the values of passages, before they are deleted or changed."""
    statement = "DELETE FROM filter_values WHERE field = ? AND kind = ? AND v = ? AND id = ?"
    for sql, values in _gathered(connection, ids):
        connection.executemany(statement, connection.execute(sql, values).fetchall())


def renew_values(connection: sqlite3.Connection) -> None:
    """Make the table anew, for the fields that the settings name now."""
    connection.execute("DELETE FROM filter_values")
    if read_filter_fields(connection):
        note_values(connection, _all_ids(connection).tolist())


def unfilled_fields(connection: sqlite3.Connection) -> list[str]:
    """The filter_fields that no passage has."""
    numbers = paths_of(read_filter_fields(connection))
    query = "SELECT EXISTS (SELECT 1 FROM filter_values WHERE field = ?)"
    filled = {path for path, number in numbers.items() if connection.execute(query, [number]).fetchone()[0]}
    return [name for name in read_filter_fields(connection) if filled.isdisjoint(paths_of([name]))]


def matching_ids(connection: sqlite3.Connection, where: Filter) -> np.ndarray:
    """The ids of all passages that meet a filter; (n,) int64, ascending."""
    return _Matching(connection).ids(where)


class _Matching:
    """Answers filters by the table of values where it can, and by the passages' rows where it must."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._paths = paths_of(read_filter_fields(connection))

    def ids(self, where: Filter) -> np.ndarray:
        """The ids that meet a filter, ascending."""
        if self._is_kept(where):
            return self._kept(where)
        if isinstance(where, Joined) and where.word == "and":
            return self._all_of(where)
        if isinstance(where, Joined) and all(map(self._is_narrow, where.nodes)):
            return _union([self.ids(node) for node in where.nodes])
        return self._asked(where)

    def _all_of(self, where: Joined) -> np.ndarray:
        kept = [node for node in where.nodes if self._is_kept(node)]
        if not kept or any(map(_is_looked_up, where.nodes)):
            return self._asked(where)
        ids = self._kept(Joined("and", tuple(kept)))
        rest = Joined("and", tuple(node for node in where.nodes if not self._is_kept(node)))
        if len(ids) > _NARROW:
            return np.intersect1d(ids, self._asked(rest), assume_unique=True)
        return np.concatenate([self._asked(rest, block) for block in _blocks(ids.tolist())] or [ids])

    def _is_narrow(self, node: Filter) -> bool:
        """Whether a filter is answered without reading every passage."""
        joined = isinstance(node, Joined) and node.word == "and" and any(map(self._is_kept, node.nodes))
        return joined or self._is_kept(node) or _is_looked_up(node)

    def _is_kept(self, node: Filter) -> bool:
        """Whether the table alone answers a filter."""
        if isinstance(node, FieldCondition):
            return node.field in self._paths
        return all(map(self._is_kept, node.nodes)) if isinstance(node, Joined) else self._is_kept(node.node)

    def _kept(self, node: Filter) -> np.ndarray:
        if isinstance(node, Not):
            return np.setdiff1d(_all_ids(self._connection), self._kept(node.node), assume_unique=True)
        if isinstance(node, FieldCondition):
            return self._compared(node)
        if node.word == "or":
            return _union([self._kept(one) for one in node.nodes])
        ids = [self._kept(one) for one in node.nodes if not isinstance(one, Not)]
        matching = ids[0] if ids else _all_ids(self._connection)
        for more in ids[1:]:
            matching = np.intersect1d(matching, more, assume_unique=True)
        for one in node.nodes:
            if isinstance(one, Not):
                matching = np.setdiff1d(matching, self._kept(one.node), assume_unique=True)
        return matching

    def _compared(self, comparison: FieldCondition) -> np.ndarray:
        number = self._paths[comparison.field]
        if comparison.condition is None:
            return _union([self._values("field = ?", [number])])
        asked = (
            (f"field = ? AND kind = ? AND {sql}", [number, kind, *values])
            for kind, (sql, values) in comparison.condition.in_table
        )
        return _union([self._values(*one) for one in asked])

    def _values(self, condition: str, values: list[Any]) -> np.ndarray:
        # one text is read three times as fast as as many rows; the cast because anyone may have written the file
        query = f"SELECT group_concat(CAST(id AS INTEGER)) FROM filter_values WHERE {condition}"
        (ids,) = self._connection.execute(query, values).fetchone()
        return np.fromstring(ids or "", dtype=np.int64, sep=",")

    def _asked(self, where: Filter, ids: Sequence[int] | None = None) -> np.ndarray:
        """The ids that meet a filter by the rows of passages: of all, or of these."""
        condition, values = row_sql(where)
        among = "" if ids is None else "id IN (SELECT value FROM json_each(?)) AND "
        given = [] if ids is None else [json.dumps(ids)]
        query = f"SELECT id FROM passages WHERE {among}{condition} ORDER BY id"
        return id_array(self._connection.execute(query, [*given, *values]))


def _gathered(connection: sqlite3.Connection, ids: Sequence[int]) -> Iterator[Sql]:
    """What to select to get the rows that passages have in the table."""
    paths = paths_of(read_filter_fields(connection))
    for block in _blocks(ids) if paths else ():
        among, given = "passages.id IN (SELECT value FROM json_each(?))", json.dumps(block)
        for path, number in paths.items():
            source, places = elements(path)
            values = f"(SELECT passages.id, e.value AS v, e.type AS t FROM passages, {source} WHERE {among})"
            yield f"SELECT {number}, {KIND}, v, id FROM {values} WHERE {IS_VALUE}", [*places, given]
            yield f"SELECT {number}, {FURTHER_KIND}, {FURTHER_VALUE}, id FROM {values} WHERE {HAS_FURTHER}", [*places, given]
            there, more = present(path)
            none = f"NOT EXISTS (SELECT 1 FROM (SELECT e.type AS t FROM {source}) WHERE {IS_VALUE})"
            yield f"SELECT {number}, {OTHER}, 0, id FROM passages WHERE {among} AND {there} AND {none}", [given, *more, *places]


def _blocks(ids: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), _BLOCK):
        yield list(ids[start : start + _BLOCK])


def _is_looked_up(node: Filter) -> bool:
    """Whether SQLite finds the passages by the index of a column."""
    if not isinstance(node, FieldCondition) or node.condition is None or node.field[0] not in _LOOKED_UP:
        return False
    return is_column(node.field) and "GLOB" not in node.condition.in_rows[0]


def _all_ids(connection: sqlite3.Connection) -> np.ndarray:
    # by an index: the rows themselves are as long as their texts
    return np.sort(id_array(connection.execute("SELECT id FROM passages INDEXED BY passages_doc_id")))


def _union(parts: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([np.empty(0, np.int64), *parts]))
