"""Filters: what matches, checked against Python; what is refused, with its column; nothing of a filter ever is SQL."""

import json
import random
import sqlite3

import pytest

from ragvec.errors import RagvecError
from ragvec.index.conditions import COLUMNS, row_sql
from ragvec.index.store import SCHEMA
from ragvec.index.where import parse_where

ROWS = [
    {"year": 2019, "lang": "ko", "tags": ["news", "food"], "author": {"name": "Kim", "age": 40}, "draft": False},
    {"year": 2020, "lang": "en", "tags": [], "author": {"name": "Lee"}, "draft": True},
    {"year": "2021", "lang": "en", "tags": "food", "price": 3.5},
    {"lang": None, "a.b": "dotted", "with space": 1},
    {"year": "unknown", "note": 'say "hi"; DROP TABLE passages; --', "한국": "서울", "big": 12345678901234567890},
    {},
]
FIELDS = sorted({name for row in ROWS for name in row})


@pytest.fixture(scope="module")
def table():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE passages (id INTEGER PRIMARY KEY, doc_id, passage_id, title, text, metadata)")
    rows = [
        (n, f"d{n}", f"d{n}#0", f"Title {n}" if n else "", "body", json.dumps(row, ensure_ascii=False))
        for n, row in enumerate(ROWS)
    ]
    connection.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)", rows)
    yield connection
    connection.close()


def matching(table: sqlite3.Connection, where: str, fields=FIELDS) -> list[int]:
    condition, values = row_sql(parse_where(where, fields))
    return [row[0] for row in table.execute(f"SELECT id FROM passages WHERE {condition} ORDER BY id", values)]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("year >= 2020", [1, 2]),  # 2021 is a text that is a number; "unknown" is not
        ("year = 2021.0", [2]),
        ('year = "2020"', [1]),
        ("year < 2020", [0]),
        ("year != 2020", [0, 2, 3, 4, 5]),
        ("not year = 2020", [0, 2, 3, 4, 5]),
        ("year <> 2020 and year is not null", [0, 2, 4]),
        ("year in (2019, 2021)", [0, 2]),
        ('year not in (2019, 2021, "unknown")', [1, 3, 5]),
        ('lang = "ko"', [0]),
        ("lang == 'ko' OR lang = 'en' AND year = 2020", [0, 1]),
        ("(lang = 'ko' or lang = 'en') and year = 2020", [1]),
        ("lang is null", [3, 4, 5]),
        ("lang IS NOT NULL", [0, 1, 2]),
        ("tags = 'food'", [0, 2]),
        ("tags in ('news')", [0]),
        ("tags is not null", [0, 1, 2]),
        ("author.name = 'Kim'", [0]),
        ("author.age > 30", [0]),
        ("author = 'Kim'", []),  # an object is no value
        ("author is not null", [0, 1]),
        ("a.b = 'dotted'", [3]),  # a field named so
        ("`with space` = 1", [3]),
        ("draft = true", [1]),
        ("draft = false", [0]),
        ("draft = 0", []),
        ("draft in (true, false)", [0, 1]),
        ("price > 3 and price < 4e0", [2]),
        ("price > -1", [2]),
        ("한국 = '서울'", [4]),
        ("big > 1e19", [4]),
        ("note = 'say \\\"hi\\\"; DROP TABLE passages; --'", [4]),
        ('note like "%DROP TABLE%"', [4]),
        ('note like "%drop table%"', []),
        ('doc_id = "d1"', [1]),
        ('doc_id in ("d1", "d5") and not lang = "en"', [5]),
        ('title like "Title _" and passage_id != "d3#0"', [1, 2, 4, 5]),
        ("title is null", [0]),
        (" \n year\t=2020 ", [1]),
    ],
)
def test_matches(table: sqlite3.Connection, where: str, rows: list[int]) -> None:
    assert matching(table, where) == rows


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "column 1: expected a field, found the end"),
        ("year", "column 5: expected =, !=, <, <=, >, >=, in, like, starts with or is, found the end"),
        ("year >=", "column 8: expected a value, found the end; in: year >="),
        ("year >= abc", 'column 9: expected a value (texts are quoted: "abc"), found abc'),
        ("year >= 2020 lang = 1", "column 14: expected and, or, or the end, found lang"),
        ("year = 'x", "column 8: this ' is never closed"),
        ("(year = 1", 'column 10: expected ")", found the end'),
        ("year = 1)", "column 9: expected and, or, or the end, found )"),
        ("year in 3", 'column 9: expected "(", found 3'),
        ("year in ()", "column 10: expected a value, found )"),
        ("year in (1 2)", 'column 12: expected "," or ")", found 2'),
        ("year not = 1", "column 10: expected in, like or starts with, found ="),
        ("year like 3", "column 11: expected a quoted text, found 3"),
        ("lang starts 'k'", "column 6: expected =, !=, <, <=, >, >=, in, like, starts with or is, found starts"),
        ("lang starts with 3", "column 18: expected a quoted text, found 3"),
        ("year is 3", "column 9: expected null, found 3"),
        ("year = null", "column 8: null is asked for by `field is null`"),
        ("and = 1", "column 1: expected a field, found and"),
        ("year = 2020; x", "column 12: can't read '; x'"),
        ("year = 20x", "column 8: can't read '20x'"),
        ('`a"b` = 1', "column 1: a field's name can't hold quotes"),
        ("yaer = 1", "column 1: no field yaer; there are a.b, author, big, draft, lang, note, price, tags, with space, year"),
        ("year = 1 and yaer.x = 1", "column 14: no field yaer.x"),
        ("title.x = 1", "column 1: no field title.x"),
        ("(" * 60 + "year = 1" + ")" * 60, "column 52: nested deeper than 50"),
        (" or ".join(["year = 1"] * 500), "more than 400 comparisons"),
        ("year = 1" + " " * 1_000_000, "the filter is 1,000,008 characters long: 1,000,000 are allowed; give values as $name"),
        ("author.b.c.d.e.f.g.h.i = 1", "column 1: a field of more than 8 names"),
        ("year = $x", "column 8: no value is given for $x"),
        ("year in $x or year in (1, $x)", "column 9: no value is given for $x"),
        ("year = $", "column 8: can't read '$'"),
        ("year in 2020-01-01", 'column 9: expected "(", found 2020-01-01'),
        ("year > 2020-13-01", "column 8: 2020-13-01 is no date such as 2024-03-01"),
        ("year > 2020-02-01T25:00", "column 8: 2020-02-01T25:00 is no date"),
        ("year > 2020-02-01x", "column 15: can't read '-01x'"),
    ],
)
def test_what_is_wrong_is_pointed_at(where: str, message: str) -> None:
    with pytest.raises(RagvecError) as caught:
        parse_where(where, FIELDS)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_as_deep_and_long_as_allowed_is_answered(table: sqlite3.Connection) -> None:
    assert matching(table, "(" * 50 + "year = 2020" + ")" * 50) == [1]
    assert matching(table, " and ".join(["year = 2020"] * 400)) == [1]
    assert matching(table, "year in (" + ", ".join(str(n) for n in range(3000)) + ")") == [0, 1, 2]


@pytest.mark.parametrize(
    ("where", "index"),
    [
        ('doc_id = "d1"', "passages_doc_id (doc_id=?)"),
        ('doc_id in ("d1", "d2") and year > 2000', "passages_doc_id (doc_id=?)"),
        ('year > 2000 and passage_id = "d1#0"', "passages_1 (passage_id=?)"),
        ('doc_id starts with "d1/"', "passages_doc_id (doc_id>? AND doc_id<?)"),
    ],
)
def test_ids_are_looked_up(where: str, index: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    condition, values = row_sql(parse_where(where, ["year"]))
    plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT id FROM passages WHERE {condition} ORDER BY id", values)
    steps = [step for *_, step in plan]
    connection.close()
    assert any(step.startswith("SEARCH passages") and index in step for step in steps)


def test_an_access_list_of_thousands_is_one_comparison(table: sqlite3.Connection) -> None:
    ids = ", ".join(f'"{n:032x}-{n:04}"' for n in range(20_000))
    assert len(f"lang in ({ids})") > 800_000
    assert matching(table, f'lang in ({ids}, "ko")') == [0]
    assert matching(table, f'doc_id not in ({ids}, "d1", "d2")') == [0, 3, 4, 5]


PEOPLE = [
    {"authors": [{"name": "Kim", "born": 1980}, {"name": "Lee", "papers": [{"year": 1999}, {"year": 2001}]}], "n": 0},
    {"authors": {"name": "Kim"}, "n": 1},
    {"authors": [{"name": ["Park", "Kim"]}, "Kim", 7, None, [{"name": "Kim"}]], "n": 2},
    {"authors": ['{"name": "Kim"}'], "n": 3},  # a text that looks like JSON
    {"authors": [{"name": {"first": "Kim"}}], "n": 4},
    {"authors": [], "n": 5},
    {"authors": "Kim", "n": 6},
    {"authors": [{"name": None}, {}], "n": 7},
    {"authors": [{"name": "", "papers": {"year": 2001}}], "n": 8},
    {"n": 9},
]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ('authors.name = "Kim"', [0, 1, 2]),
        ('authors.name != "Kim"', [3, 4, 5, 6, 7, 8, 9]),
        ('authors.name in ("Lee", "Park")', [0, 2]),
        ("authors.born < 1990", [0]),
        ("authors.papers.year = 2001", [0, 8]),
        ("authors.papers.year >= 1999 and authors.papers.year < 2001", [0]),
        ('authors.name.first like "K%"', [4]),
        ("authors.name is null", [3, 5, 6, 7, 9]),
        ("authors.papers.year is not null", [0, 8]),
        ('authors = "Kim"', [2, 6]),
        ("authors = 7", [2]),
        ("authors.name starts with ''", [0, 1, 2, 8]),
    ],
)
def test_a_list_of_objects_matches_if_one_of_them_does(where: str, rows: list[int]) -> None:
    assert of_metadata(PEOPLE, where) == rows


DATES = [
    {"at": "2024-03-01T00:00:00Z"},
    {"at": "2024-03-01T09:00:00+09:00"},  # the same instant
    {"at": "2024-03-01"},  # and again
    {"at": "2024-02-29T23:59:59.999Z"},
    {"at": "2024-03-01 00:00:00.001"},
    {"at": ["2023-01-01", "2025-01-01T12:00-05:00"]},
    {"at": "2024"},
    {"at": 2024},
    {"at": "2024-03-01T00:00:00 of the morning"},
    {"at": "now"},
    {"at": "2024-03-41"},
    {},
]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("at = 2024-03-01", [0, 1, 2]),
        ("at = 2024-02-29T20:00:00-04:00", [0, 1, 2]),
        ("at in (2024-03-01T00:00Z, 2025-01-01T17:00)", [0, 1, 2, 5]),
        ("at > 2024-03-01", [4, 5]),
        ("at < 2024-03-01", [3, 5]),
        ("at >= 2023-06-01 and at < 2024-03-01T00:00:00Z", [3, 5]),  # of a list, each side by another element
        ("at != 2024-03-01", [3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ('at = "2024-03-01T09:00:00+09:00"', [0, 1, 2]),
        ('at in ("2024-03-01", "2024")', [0, 1, 2, 6, 7]),
        ('at < "2024-03-01T09:00:00+09:00"', [3, 5, 6, 7, 8]),  # what is no date is compared as text
        ('at > "2024-03-01T09:00:00+09:00"', [4, 5, 9, 10]),
        ('at = "2024"', [6, 7]),
        ("at = 2024", [2, 6, 7, 10]),  # what a text says as a number, up to its first dash
        ("at like '2024-03-01T%'", [0, 1, 8]),
    ],
)
def test_dates_are_compared_as_instants(where: str, rows: list[int]) -> None:
    assert of_metadata(DATES, where) == rows


def of_metadata(metadata: list[dict], where: str) -> list[int]:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE passages (id INTEGER PRIMARY KEY, metadata)")
        connection.executemany("INSERT INTO passages VALUES (?, ?)", [(n, json.dumps(row)) for n, row in enumerate(metadata)])
        found = matching(connection, where, sorted({name for row in metadata for name in row}))
    connection.close()
    return found


@pytest.mark.parametrize(
    ("where", "values", "rows"),
    [
        ("lang in $langs", {"langs": ["ko", "xx"]}, [0]),
        ("lang in $langs", {"langs": ("ko", "en")}, [0, 1, 2]),
        ("lang in $langs", {"langs": {"ko"}}, [0]),
        ("lang in $langs", {"langs": []}, []),  # who may read nothing finds nothing
        ("lang not in $langs", {"langs": []}, [0, 1, 2, 3, 4, 5]),
        ("doc_id in $none or not doc_id in $none", {"none": []}, [0, 1, 2, 3, 4, 5]),
        ("lang in $one", {"one": "ko"}, [0]),
        ("year in $mixed", {"mixed": [2019, "unknown", True, 2021.0]}, [0, 2, 4]),
        ("year >= $least and lang = $lang", {"least": 2020, "lang": "en"}, [1, 2]),
        ("lang in ('ko', $other)", {"other": "en"}, [0, 1, 2]),
        ("draft = $no", {"no": False}, [0]),
        ("big > $huge", {"huge": 10**19}, [4]),
        ("title starts with $start and not title like $like", {"start": "Title", "like": "% 1"}, [2, 3, 4, 5]),
        ("lang = $x", {"x": '" or lang is not null or lang = "'}, []),
        ("note = $note", {"note": 'say "hi"; DROP TABLE passages; --'}, [4]),
        ("lang in $langs", {"langs": [f"no {n}" for n in range(99_999)] + ["ko"]}, [0]),
    ],
)
def test_values_given_apart_are_never_read_as_a_filter(table: sqlite3.Connection, where: str, values: dict, rows: list) -> None:
    condition, bound = row_sql(parse_where(where, FIELDS, values))
    assert [row[0] for row in table.execute(f"SELECT id FROM passages WHERE {condition} ORDER BY id", bound)] == rows


@pytest.mark.parametrize(
    ("where", "values", "message"),
    [
        ("lang = $x", {}, "column 8: no value is given for $x"),
        ("lang = $x", {"y": 1}, "column 8: no value is given for $x"),
        ("lang = 'ko'", {"groups": []}, "a value is given for $groups, which the filter does not name"),
        ("lang = $x", {"x": ["ko"]}, "column 8: $x is a list of values, which `in` alone takes"),
        ("lang in ($x)", {"x": ["ko"]}, "column 10: $x is a list of values, which `in` alone takes"),
        ("lang starts with $x", {"x": 3}, "column 18: $x must be a text here"),
        ("lang = $x", {"x": None}, "the value of $x is None: give a text, a number, true, false, or a list of these"),
        ("lang in $x", {"x": ["a", {"b": 1}]}, "the value of $x is {'b': 1}: give a text"),
        ("lang in $x", {"x": [float("nan")]}, "the value of $x is nan: give a text"),
        ("lang in $x", {"x": [1] * 100_001}, "100,001 values are given for a filter: 100,000 are allowed"),
        ("$x = 1", {"x": "lang"}, "column 1: expected a field, found $x"),
    ],
)
def test_wrong_values_are_named(where: str, values: dict, message: str) -> None:
    with pytest.raises(RagvecError) as caught:
        parse_where(where, FIELDS, values)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_values_and_names_are_never_part_of_the_sql() -> None:
    hostile = "x') OR 1=1; DROP TABLE passages; --"
    condition, values = row_sql(parse_where(f'`{hostile}` = "{hostile}" and doc_id like "{hostile}"', [hostile]))
    assert "DROP" not in condition and hostile in values


PATHS = ["my_dir/a", "my-dir/b", "MY_DIR/c", "my_dir", "100%", "100 per cent", "a*b", "axb", "a?b", "[a]", "a\\b", "서울/1",
         "서울2", "\ud7ff/x", "\ue000/x", "\U0010ffff", "\U0010ffffz", ""]  # fmt: skip


@pytest.fixture(scope="module")
def paths():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE passages (id INTEGER PRIMARY KEY, doc_id, metadata)")
    rows = [(n, path, json.dumps({"path": path}, ensure_ascii=False)) for n, path in enumerate(PATHS)]
    connection.executemany("INSERT INTO passages VALUES (?, ?, ?)", rows)
    yield connection
    connection.close()


@pytest.mark.parametrize("field", ["doc_id", "path"])
@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (r"my\_dir/%", ["my_dir/a"]),
        ("my_dir/%", ["my_dir/a", "my-dir/b"]),
        (r"100\%", ["100%"]),
        ("100%", ["100%", "100 per cent"]),
        ("a*b", ["a*b"]),
        ("a?b", ["a?b"]),
        ("a_b", ["a*b", "axb", "a?b", "a\\b"]),
        ("[a]", ["[a]"]),
        (r"a\\b", ["a\\b"]),
        ("서울_", ["서울2"]),
        ("", [""]),
    ],
)
def test_like_minds_case_and_takes_escapes(paths: sqlite3.Connection, field: str, pattern: str, found: list[str]) -> None:
    assert [PATHS[n] for n in matching(paths, f'{field} like "{pattern}"', ["path"])] == found
    others = [PATHS[n] for n in matching(paths, f'{field} not like "{pattern}"', ["path"])]
    assert sorted(found + others) == sorted(PATHS)


@pytest.mark.parametrize("field", ["doc_id", "path"])
@pytest.mark.parametrize("prefix", [*PATHS, "my_", "MY", "100", "a", "서", "서울/", "\ud7ff", "\U0010ffff" * 2, "z"])
def test_starts_with_is_exact(paths: sqlite3.Connection, field: str, prefix: str) -> None:
    quoted = prefix.replace("\\", "\\\\")
    found = [PATHS[n] for n in matching(paths, f'{field} STARTS with "{quoted}"', ["path"])]
    assert found == [path for path in PATHS if path.startswith(prefix)]
    others = [PATHS[n] for n in matching(paths, f'not {field} starts with "{quoted}"', ["path"])]
    assert others == [path for path in PATHS if not path.startswith(prefix)]


def test_fields_may_be_called_starts_and_with(paths: sqlite3.Connection) -> None:
    fields = ["starts", "with", "path"]
    assert matching(paths, "starts starts with 'a' or with is not null", fields) == []
    with pytest.raises(RagvecError, match="pattern of like is too long"):
        matching(paths, f"path like '{'서' * 19_000}'", fields)


def test_random_filters_agree_with_python(table: sqlite3.Connection) -> None:
    dice = random.Random(7)
    signs = {"=": "__eq__", "!=": "__ne__", "<": "__lt__", ">=": "__ge__"}

    def make(depth: int):
        if depth == 0 or dice.random() < 0.3:
            sign, value = dice.choice(sorted(signs)), dice.choice([2018, 2019, 2020, 2021])
            return f"n {sign} {value}", lambda n: getattr(n, signs[sign])(value)
        if dice.random() < 0.3:
            text, check = make(depth - 1)
            return f"not ({text})", lambda n: not check(n)
        (left, a), (right, b) = make(depth - 1), make(depth - 1)
        if dice.random() < 0.5:
            return f"({left}) and {right}" if " or " not in right else f"({left}) and ({right})", lambda n: a(n) and b(n)
        return f"({left} or {right})", lambda n: a(n) or b(n)

    with sqlite3.connect(":memory:") as numbers:
        numbers.execute("CREATE TABLE passages (id INTEGER PRIMARY KEY, metadata)")
        numbers.executemany("INSERT INTO passages VALUES (?, ?)", [(n, f'{{"n": {n}}}') for n in range(2017, 2023)])
        for _ in range(300):
            where, check = make(4)
            assert matching(numbers, where, ["n"]) == [n for n in range(2017, 2023) if check(n)], where
    numbers.close()


def test_the_columns_are_those_of_the_table() -> None:
    from ragvec.index.store import SCHEMA

    assert all(f"{name} TEXT" in SCHEMA for name in COLUMNS)
