"""`ragvec documents` and the functions under it: listed, looked up, counted, written out and read again."""

import json
from pathlib import Path

import pytest

from ragvec.errors import NotFound, WrongInput
from ragvec.index import Index
from ragvec.index.store import documents
from ragvec.ingest.build import build
from ragvec.records import Document, Passage
from ragvec.retrieve import lookup
from ragvec.retrieve.lookup import distinct_values, read_document, stored_count, stored_documents
from tests.test_cli_index import ragvec
from tests.test_index import CountingEncoder, put, unit_vectors

DOCUMENTS = [
    Document("b", "The quick brown fox.", "Animals", {"year": 2020, "tags": ["fox", "dog"], "good": True}),
    Document("a", "Plants grow.", metadata={"year": 2021, "authors": [{"name": "Kim"}, {"name": "Lee"}], "good": 1}),
    Document(
        "서울", "서울은 대한민국의 수도이다.\nline two \x1b[31m", "수도", {"year": "2020", "tags": [], "metadata": {"x": None}}
    ),
    Document("empty", "", metadata={"year": 2020, "tags": ["fox"], "authors": [{"name": "Kim"}], "text": "t", "id": 7}),
]
BY_ID = ["a", "b", "empty", "서울"]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAGVEC_INDEX", raising=False)
    with Index.create("ragvec-index", encoder=CountingEncoder()) as made:
        made.add(DOCUMENTS)
        yield made


def named(found) -> list[str]:
    return [document.doc_id for document in found]


def test_documents_come_as_they_were_in_order_of_their_ids(index: Index) -> None:
    assert list(stored_documents(index)) == sorted(DOCUMENTS, key=lambda document: document.doc_id)
    assert list(stored_documents(index, ["서울", "b", "서울"])) == [DOCUMENTS[2], DOCUMENTS[0]]
    assert named(stored_documents(index, offset=1, limit=2)) == ["b", "empty"]
    assert named(stored_documents(index, offset=9)) == []


@pytest.mark.parametrize("few", [0, 50_000])
def test_a_filter_chooses_them(index: Index, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(lookup, "FEW", few)  # by passing all by, and by looking them up
    monkeypatch.setattr(documents, "_BLOCK", 3)
    assert named(stored_documents(index, where="year = 2020")) == ["b", "empty", "서울"]
    assert named(stored_documents(index, where="tags in $t", where_values={"t": ["fox"]}, limit=1)) == ["b"]
    assert (stored_count(index), stored_count(index, where="year = 2020"), stored_count(index, where="year = 1")) == (4, 3, 0)
    with pytest.raises(WrongInput, match="no field yaer"):
        next(stored_documents(index, where="yaer = 1"))


def test_what_is_not_there(index: Index) -> None:
    with pytest.raises(NotFound, match="there is no document 'x', nor are 1 more"):
        next(stored_documents(index, ["a", "x", "y"]))
    with pytest.raises(WrongInput, match="limit 0"):
        next(stored_documents(index, limit=0))
    with pytest.raises(TypeError, match=r"pass \[doc_id\]"):
        next(stored_documents(index, "a"))
    with pytest.raises(WrongInput, match=r"no field 'colour'; there are authors, good, id, metadata, tags, year, doc_id"):
        distinct_values(index, "colour")
    with pytest.raises(WrongInput, match="no field"):
        distinct_values(index, 'ye"ar')


def test_distinct_values_are_counted_by_documents(index: Index) -> None:
    assert list(distinct_values(index, "year")) == [(2020, 2), (2021, 1), ("2020", 1)]
    assert list(distinct_values(index, "tags")) == [("fox", 2), ("dog", 1)]
    assert list(distinct_values(index, "authors.name")) == [("Kim", 2), ("Lee", 1)]
    good = list(distinct_values(index, "good"))
    assert {(repr(one.value), one.documents) for one in good} == {("1", 1), ("True", 1)}
    assert list(distinct_values(index, "tags", where="year = 2020 and good is null", limit=1)) == [("fox", 1)]
    assert list(distinct_values(index, "year", offset=1, limit=1)) == [(2021, 1)]
    assert list(distinct_values(index, "title")) == [("Animals", 1), ("수도", 1)]


def test_a_value_in_several_passages_of_a_document_counts_once(index: Index) -> None:
    put(index, [Passage(f"c#{n}", "c", f"passage {n}", metadata={"kind": "cut"}) for n in range(12)], unit_vectors(12))
    assert list(distinct_values(index, "kind")) == [("cut", 1)]
    assert stored_count(index, where="kind = 'cut'") == 1


def test_passages_of_a_document_that_changed_in_part_stay_in_order(index: Index) -> None:
    first = [Passage(f"c#{n}", "c", f"passage number {n} of it") for n in range(12)]
    put(index, first, unit_vectors(12))
    changed = [Passage("c#0", "c", "another beginning"), *first[1:]]
    put(index, changed, unit_vectors(12))
    assert read_document(index, "c") == changed
    [document] = stored_documents(index, ["c"])
    assert document.text == "\n\n".join(passage.text for passage in changed)


def test_what_passages_repeat_is_left_out(index: Index) -> None:
    texts = ["One sentence here. And a second one.", "And a second one. The third comes last."]
    put(index, [Passage(f"c#{n}", "c", text) for n, text in enumerate(texts)], unit_vectors(2))
    assert next(stored_documents(index, ["c"])).text == "One sentence here. And a second one. The third comes last."


def test_no_writer_waits_for_who_reads_on(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_BLOCK", 1)
    reading = stored_documents(index)
    assert next(reading).doc_id == "a"
    index.delete(["b", "empty"])
    assert named(reading) == ["서울"]


def test_json_lines_are_read_again_as_the_same_documents(index: Index, capsys: pytest.CaptureFixture, tiny_decoder) -> None:
    code, out, err = ragvec(capsys, "documents")  # a pipe
    assert (code, err, len(out.splitlines())) == (0, "", 4)
    assert json.loads(out.splitlines()[1]) == {
        "_id": "b", "title": "Animals", "text": "The quick brown fox.",
        "metadata": {"year": 2020, "tags": ["fox", "dog"], "good": True},
    }  # fmt: skip
    Path("all.jsonl").write_text(out, encoding="utf-8")
    build("all.jsonl", Path("again"), encoder=str(tiny_decoder))
    with Index.open("again") as again:
        assert list(stored_documents(again)) == list(stored_documents(index))


def test_the_command(index: Index, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    table = ("documents", "--format", "table")
    code, out, _ = ragvec(capsys, *table)
    assert out.splitlines() == [
        "id     title and text",
        "a      Plants grow.",
        "b      Animals · The quick brown fox.",
        "empty",
        "서울   수도 · 서울은 대한민국의 수도이다. line tw…",
    ]
    assert ragvec(capsys, *table, "--where", "year = 2021")[1].splitlines()[1:] == ["a   Plants grow."]
    assert ragvec(capsys, *table, "--distinct", "year", "--limit", "2")[1] == (
        "documents  value\n        2  2020\n        1  2021\n"
    )
    assert (
        ragvec(capsys, "documents", "--distinct", "tags")[1] == '{"value":"fox","documents":2}\n{"value":"dog","documents":1}\n'
    )
    assert ragvec(capsys, *table, "--count", "--where", "year = $y", "--where-values", '{"y": 2020}')[1] == "3 documents\n"
    assert ragvec(capsys, "documents", "--count")[1] == '{"documents":4}\n'
    assert json.loads(ragvec(capsys, "documents", "empty")[1]) == {
        "_id": "empty",
        "text": "",
        "metadata": DOCUMENTS[3].metadata,
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x"], "error: there is no document 'x'\n"),
        (["a", "--where", "year = 1"], "error: say which documents: by their ids, or by --where with a filter, not both\n"),
        (["a", "--count"], "error: ids of documents, --count and --distinct are different questions: ask one at a time\n"),
        (["--where-values", "{}"], "error: values are given for a filter, and no filter: give --where too\n"),
    ],
)
def test_what_can_not_be_answered(index: Index, capsys: pytest.CaptureFixture, words: list[str], said: str) -> None:
    assert ragvec(capsys, "documents", *words) == (1 if words == ["x"] else 2, "", said)


def test_ids_are_listed_by_an_index_alone(index: Index) -> None:
    """However long the texts are: no row is read, and nothing is sorted."""
    with index.reading() as view:
        asked: list[str] = []
        view.connection.set_trace_callback(asked.append)
        assert documents.doc_ids_after(view.connection, None) == BY_ID
        assert documents.doc_ids_after(view.connection, "b") == BY_ID[2:]
        view.connection.set_trace_callback(None)
        for query in asked:
            steps = [row[-1] for row in view.connection.execute(f"EXPLAIN QUERY PLAN {query}")]
            assert len(steps) == 1 and "USING COVERING INDEX passages_doc_id" in steps[0]


def test_ids_from_standard_input(index: Index, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", iter(["b\n", "\n", "a\r\n"]))
    _, out, _ = ragvec(capsys, "documents", "-")
    assert [json.loads(line)["_id"] for line in out.splitlines()] == ["b", "a"]
