"""Fields whose values are kept in a table: filters answer as without it, whatever comes, changes and goes."""

import json
import logging
import random
from pathlib import Path

import numpy as np
import pytest

from ragvec.errors import Damaged, WrongInput
from ragvec.index import Index, IndexSettings
from ragvec.index.changes import Changes
from ragvec.index.store import matching_ids
from ragvec.index.store.filter_values import note_values
from ragvec.ingest.build import build
from ragvec.records import Passage

FIELDS = ("year", "lang", "at", "people.name", "a.b")
VALUES = [2019, 2020, 2020.5, "2020", "2019", "x", "", "ko", True, False, None, [], [2019, "ko", None], {"z": 1}, [{"z": 1}],
          "2024-03-01", "2024-03-01T09:00:00+09:00", ["2024-03-01", 7], "1-2", "007", 7, -3, "1e3", 1000, 10**19,
          "서울"]  # fmt: skip
WHERES = [
    "{0} = 2020", "{0} != 2020", "{0} < 2020", "{0} >= '2020'", "{0} = '2020'", "{0} = '007'", "{0} in (7, 'ko', true)",
    "{0} not in ('2019', '2024-03-01')", "{0} = 2024-03-01", "{0} < 2024-03-01T00:00:01Z", "{0} >= '2024-03-01T00:00:00Z'",
    "{0} is null", "{0} is not null", "{0} like '20%'", "{0} starts with 'k'", "{0} = false", "{0} > 1e18", "{0} = ''",
    "{0} > 0", "{0} in ('1000', '1e3', '서울')", "{0} <= 'k'",
]  # fmt: skip


def commit(index: Index, passages: list[Passage]) -> None:
    with index.writing() as writer:
        changes = Changes(writer.connection)
        fresh = list(changes.fresh(passages))
        vectors = np.ones((len(fresh), 2), np.float32)
        writer.commit([(fresh, vectors)] if fresh else [], changes)


def made(dice: random.Random, row: int, text: str = "text") -> Passage:
    metadata = {name: dice.choice(VALUES) for name in ("year", "lang", "at", "free") if dice.random() < 0.8}
    if dice.random() < 0.8:
        people = [{"name": dice.choice(VALUES)} for _ in range(dice.randrange(3))]
        metadata["people"] = people if dice.random() < 0.7 else {"name": dice.choice(VALUES)}
    metadata["a.b" if dice.random() < 0.5 else "a"] = {"b": 2020} if dice.random() < 0.5 else 2020
    return Passage(f"d{row}", f"d{row}", text, metadata=metadata)


def rows(index: Index) -> list[tuple]:
    with index.reading() as view:
        return view.connection.execute("SELECT * FROM filter_values ORDER BY 1, 2, 3, 4").fetchall()


def answers(index: Index, wheres: list[str]) -> list[list[str]]:
    with index.reading() as view:
        view._filters.clear()
        return [view.doc_ids(view.matching(where).tolist()) for where in wheres]


@pytest.fixture
def pair(tmp_path: Path):
    """The same passages, with tables and without."""
    settings = IndexSettings("none", "0", 2)
    with Index.create_with(tmp_path / "plain", settings) as plain:
        kept = Index.create_with(tmp_path / "kept", IndexSettings("none", "0", 2, filter_fields=FIELDS))
        with kept:
            yield plain, kept


def wheres(dice: random.Random) -> list[str]:
    names = ("year", "lang", "at", "people.name", "`a.b`", "a.b", "free")
    single = [where.format(name) for where in WHERES for name in names]
    joined = []
    for _ in range(120):
        parts = [f"{dice.choice(('', 'not '))}{dice.choice(single)}" for _ in range(dice.randrange(2, 4))]
        parts += [f'doc_id in ("d{dice.randrange(60)}", "d1")'] * (dice.random() < 0.2)
        word = dice.choice((" and ", " or "))
        joined.append(word.join(f"({dice.choice(single)} and {part})" if dice.random() < 0.3 else part for part in parts))
    return single + joined


def test_a_table_answers_as_the_passages_do_through_every_change(pair: tuple[Index, Index]) -> None:
    dice = random.Random(3)
    first = [made(dice, row) for row in range(60)]
    changed = [made(dice, row) for row in range(10, 25)]  # other metadata, the same text
    replaced = [made(dice, row, "another text") for row in range(20, 35)]
    asked = wheres(dice)
    for passages in (first, changed, replaced):
        for index in pair:
            commit(index, passages)
        assert answers(pair[0], asked) == answers(pair[1], asked)
    for index in pair:
        assert index.delete([f"d{row}" for row in range(5, 40, 2)]) == 18
    assert answers(pair[0], asked) == answers(pair[1], asked)
    left = rows(pair[1])
    pair[1].compact(filter_fields=())
    assert not rows(pair[1]) and pair[1].settings.filter_fields == ()
    pair[1].compact(filter_fields=FIELDS)
    assert rows(pair[1]) == left, "as made anew: nothing of what changed or went had stayed"
    assert not rows(pair[0])


def test_passages_are_not_read_where_the_table_answers(pair: tuple[Index, Index]) -> None:
    _, index = pair
    commit(index, [Passage(f"d{n}", f"d{n}", "text", metadata={"year": n, "free": n}) for n in range(10)])
    with index.reading() as view:
        asked: list[str] = []
        view.connection.set_trace_callback(asked.append)
        for where in ("year >= 7 and year < 9", "year in (7, 8, 99) or year = 8", "not year < 7 and not year > 8"):
            asked.clear()
            assert (matching_ids(view.connection, view.check_where(where)) == [8, 9]).all()
            assert not any("json_extract(metadata" in sql for sql in asked)
        asked.clear()
        assert (matching_ids(view.connection, view.check_where("year > 7 and free < 9")) == [9]).all()
        assert any("FROM passages WHERE id IN" in sql for sql in asked), "of those that the table named, not of all"
        view.connection.set_trace_callback(None)


def test_named_fields_are_part_of_the_index(tmp_path: Path) -> None:
    with Index.create_with(tmp_path / "index", IndexSettings("none", "0", 2)) as index:
        commit(index, [Passage("d", "d", "text", metadata={"year": 2020})])
        index.compact(filter_fields=["year"])
        assert index.describe()["filter_fields"] == ["year"]
    with Index.open(tmp_path / "index") as index:
        assert index.settings.filter_fields == ("year",) and len(rows(index)) == 1
        for wrong in (["title"], [""], ['a"b'], ["year", "year"]):
            with pytest.raises(WrongInput, match="filter_fields"):
                index.compact(filter_fields=wrong)
        with pytest.raises(TypeError, match=r"pass \[field\]"):
            index.compact(filter_fields="year")
        with index.writing() as writer:
            writer.connection.execute("UPDATE settings SET value = ? WHERE key = 'filter_fields'", (json.dumps(['a"b']),))
        with pytest.raises(Damaged, match="filter_fields"), index.reading() as view:
            note_values(view.connection, [1])


def test_a_field_that_no_document_has_is_named(tmp_path, caplog, tiny_decoder):
    caplog.set_level(logging.WARNING, "ragvec")
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        '{"_id": "1", "text": "fox", "about": {"year": 2020}, "none": null}\n{"_id": "2", "text": "hen", "day": 1}\n'
    )
    build(
        corpus,
        tmp_path / "i",
        encoder=str(tiny_decoder),
        device="cpu",
        search={"filter_fields": ("about.year", "yaer", "day", "none")},
    )
    said = "no document of the index has a value in the field {!r} of `filter_fields`: check its name"
    assert caplog.messages == [said.format("yaer"), said.format("none")]
    caplog.clear()
    with Index.open(tmp_path / "i") as index:
        index.compact(filter_fields=["day", "dya"])
    assert caplog.messages == [said.format("dya")]
