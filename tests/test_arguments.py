"""A careless call from Python ends in one line that names the argument, and changes nothing; what is clear just works."""

import math
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragvec.encoder import Encoder
from ragvec.errors import Damaged, NotFound, RagvecError, WrongInput, WrongType, WrongUsage
from ragvec.index import Index
from ragvec.ingest.build import build
from ragvec.joint import Joint
from ragvec.records import Document, Passage
from ragvec.retrieve import Request, Retriever
from ragvec.retrieve.lookup import read_document, stored_documents


@pytest.fixture(scope="module")
def encoder(tiny_decoder: Path) -> Encoder:
    return Encoder.load(tiny_decoder)


@pytest.fixture
def index(encoder: Encoder, tmp_path: Path) -> Iterator[Index]:
    with Index.create(tmp_path / "index", encoder=encoder) as index:
        index.add([Document("a", "a red apple", metadata={"year": 2020})])
        yield index


def ids(index: Index) -> list[str]:
    return [one.doc_id for one in stored_documents(index)]


@pytest.mark.parametrize(
    "given",
    [
        lambda: [Document("b", "text", None, None)],  # type: ignore[arg-type]
        lambda: (Document(name, "text") for name in ["b"]),
        lambda: [{"id": "b", "text": "text"}],
        lambda: ({"_id": name, "contents": "text", "title": None} for name in ["b"]),
    ],
    ids=["nothing", "generator", "dict", "dicts"],
)
def test_what_is_clear_is_added(index: Index, given: Callable[[], Any]) -> None:
    assert index.add(given()).added == 1
    assert list(stored_documents(index, ["b"])) == [Document("b", "text")]


def test_a_dict_is_read_as_a_row_of_jsonl(index: Index) -> None:
    index.add([{"id": 7, "text": "text", "title": "Title", "lang": "ko", "metadata": {"year": 2021}}, {"text": "no id"}])
    assert list(stored_documents(index, ["7"])) == [Document("7", "text", "Title", {"year": 2021, "lang": "ko"})]
    assert len(index) == 3


def test_a_dict_may_bring_its_vector(tmp_path: Path) -> None:
    with Index.create(tmp_path / "own", dimension=2) as index:
        index.add([{"id": "x", "text": "east", "vector": [1, 0]}, {"id": "y", "text": "north", "vector": np.array([0, 2])}])
        assert [one.doc_id for one in index.passages(index.search(np.array([[0, 1]]), 1).ids[0].tolist())] == ["y"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: "a file.txt", "`documents` is 'a file.txt', a str: .* add_folder"),
        (lambda: {"id": "b", "text": "x"}, "`documents` is .*, a dict: .*document. instead of document"),
        (lambda: None, "`documents` is None"),
        (lambda: [Document("b", "x"), "text"], r"`documents\[1\]` is 'text', a str: give a Document, or a dict"),
        (lambda: [{"id": "b"}], r"documents\[0\]: no text field"),
        (lambda: [{1: 2, "text": "x"}], "name fields by strings"),
        (lambda: [Document("", "x")], "`doc_id` is empty"),
        (lambda: [Document(7, "x")], "`doc_id` is 7, an int: give a string"),  # type: ignore[arg-type]
        (lambda: [Document("b", None)], "`text` is None: give document 'b' a string"),  # type: ignore[arg-type]
        (lambda: [Document("b", "x", float("nan"))], "`title` is nan, a float"),  # type: ignore[arg-type]
        (lambda: [Document("b", "x", metadata=[1])], "`metadata` is .1., a list: give document 'b' a dict"),  # type: ignore[arg-type]
        (lambda: [Document("b", "x"), Document("b", "y")], r"documents\[1\]: the id 'b' was used before"),
        (lambda: [Document("b", "x\ud800")], r"documents\[0\]: half a surrogate pair at position 1"),
        (lambda: [Document("b", "x\0")], r"documents\[0\]: a NUL character"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_document_is_named(index: Index, given: Callable[[], Any], message: str) -> None:
    with pytest.raises(RagvecError, match=message) as told:
        index.add(given())
    assert "\n" not in str(told.value) and ids(index) == ["a"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index.add([Document("b", "x")], vectors=[[1, 2], [1]]), "`vectors` is .* rows of one length"),
        (lambda index: index.add([Document("b", "x", vector=[1, [2]])]), "vector of document 'b'"),
        (lambda index: index.add_passages(["x"]), r"`passages\[0\]` is 'x', a str: give a Passage"),
        (lambda index: index.add_passages(None), "`passages` is None"),
        (lambda index: index.add_folder(5), "`folder` is 5, an int: give a path"),
        (lambda index: index.add_folder("x", reading={}), "`reading` is {}, a dict: give CorpusOptions"),
        (lambda index: index.delete([1]), r"`doc_ids\[0\]` is 1, an int"),
        (lambda index: index.delete(None), "`doc_ids` is None"),
        (lambda index: index.delete_where({"year": 2020}), "`where` is .*, a dict: write the filter as a string"),
        (lambda index: index.delete_where("year = $y", [1]), "`where_values` is .1., a list: give a dict"),
        (lambda index: index.search(np.zeros((1, 32)), "1"), "`k` is '1', a str: give a whole number"),
        (lambda index: index.search("x", 1), "`vectors` is 'x', a str"),
        (lambda index: index.passages(["1"]), r"`ids\[0\]` is '1', a str: give a whole number"),
        (lambda index: index.passages([1.0]), r"`ids\[0\]` is 1.0, a float"),
        (lambda index: index.passages("12"), "`ids` is '12', a str: give a sequence of whole numbers"),
        (lambda index: index.passages(1), "`ids` is 1, an int: give a sequence"),
        (lambda index: list(stored_documents(index, limit=1.5)), "`limit` is 1.5, a float"),
        (lambda index: list(stored_documents(index, where={"a": 1})), "`where` is .*, a dict"),
        (lambda index: read_document(index, 5), "`doc_id` is 5, an int"),
        (lambda index: Index.open(None), "`path` is None: give a path"),
        (lambda index: Index.open(index.path, encoder="bundled"), "`encoder` is 'bundled', a str: load it"),
        (lambda index: Retriever(str(index.path)), "`index` is .*, a str: open it, .*open_retriever"),
        (lambda index: Retriever(index).answer("x"), "`request` is 'x', a str: give a Request"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_kinds_are_one_line_and_a_type_error(index: Index, call: Callable[[Index], Any], message: str) -> None:
    with pytest.raises(WrongType, match=message) as told:
        call(index)
    assert isinstance(told.value, TypeError) and "\n" not in str(told.value) and ids(index) == ["a"]


@pytest.mark.parametrize("number", [9, -1, 2**70], ids=str)
def test_an_id_that_no_passage_has_is_not_found(index: Index, number: int) -> None:
    assert [one.doc_id for one in index.passages(np.array([1, 1]))] == ["a", "a"]
    with pytest.raises(NotFound, match=f"no passage has the id {number}: `ids` are those"):
        index.passages([1, number])


@pytest.mark.parametrize(
    "metadata", [{"n": np.int64(1)}, {"n": np.float64(1)}, {"tags": {"x"}}, {"at": b"x"}, {"in": {2: 3}}], ids=str
)
def test_metadata_that_is_no_json_is_told_before_anything_is_encoded(
    index: Index, metadata: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "encode", None)
    named = f"field '{next(iter(metadata))}' cannot be stored as JSON"
    with pytest.raises(WrongInput, match=rf"documents\[1\]: {named}"):
        index.add([Document("b", "x"), Document("c", "x", metadata=metadata)])
    with pytest.raises(WrongInput, match=rf"passages\[0\]: {named}"):
        index.add_passages([Passage("b", "b", "x", metadata=metadata)])
    with pytest.raises(WrongType, match="name fields by strings"):
        index.add([Document("b", "x", metadata={1: 2})])  # type: ignore[dict-item]


@pytest.mark.parametrize("value", [math.inf, [1.0, -math.inf], {"a": (1, math.inf)}], ids=str)
def test_an_infinity_is_refused_as_in_files_and_nan_is_no_value(index: Index, value: Any) -> None:
    for given in (Document("b", "x", metadata={"n": value}), {"id": "b", "text": "x", "n": value}):
        with pytest.raises(WrongInput, match=r"documents\[0\]: field 'n' holds an infinity, which JSON lacks: leave it out"):
            index.add([given])
    index.add([Document("b", "x", metadata={"n": math.nan, "m": [math.nan]})])
    assert next(stored_documents(index, ["b"])).metadata == {"n": None, "m": [None]}


def test_a_keyword_that_is_none_is_told_with_what_there_is(index: Index) -> None:
    retriever = Retriever(index)
    for call, told in (
        (lambda: retriever.retrieve("apple", top_k=3), "`top_k` is no option of a request: choose from query, vector, k, "),  # type: ignore[call-arg]
        (lambda: retriever.retrieve_many(["apple"], modes="dense"), "`modes` is no option .*: did you mean `mode`\\?"),  # type: ignore[call-arg]
        (lambda: Request(group="doc_id"), "`group` is no option of a request: did you mean `group_by`\\?"),  # type: ignore[call-arg]
        (lambda: index.compact(dimension=7), "`dimension` is no setting of how an index is searched: choose from faiss_key, "),
        (lambda: index.compact(recal_target=0.9), "`recal_target` is no setting .*: did you mean `recall_target`\\?"),
    ):
        with pytest.raises(WrongType, match=told):
            call()
    assert index.settings.dimension == 32 and pickle.loads(pickle.dumps(Request(query="x", k=3))).k == 3


@pytest.mark.parametrize("address", ["http://host/index", "s3://bucket/index", "postgresql://me:secret@host/x"])
def test_an_address_is_no_folder(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (Index.open, partial(Index.create, dimension=2), partial(build, "corpus.jsonl")):
        with pytest.raises(WrongUsage, match=f"^`path` is {address.partition(':')[0]}://…, an address: give a path") as told:
            call(Path(address))
        assert "secret" not in str(told.value) and not list(tmp_path.iterdir())


def test_things_show_what_they_are(index: Index, encoder: Encoder, tmp_path: Path) -> None:
    shown = f"<Index {str(index.path)!r}: 1 passages, 32-d, encoder {encoder.source}>"
    assert repr(index) == shown
    assert repr(encoder) == f"<Encoder {encoder.source!r}: 32-d, {encoder.dtype}, on {encoder.device}>"
    assert repr(Retriever(index, encoder)) == f"<Retriever over {shown} with {encoder!r}>"
    assert repr(Joint([index])) == f"<Joint of {shown}>"
    index.path.rename(tmp_path / "elsewhere")
    index.close()
    assert "can't be read now" in repr(index)


@pytest.mark.parametrize(
    "option",
    [
        {"k": "2"}, {"k": 2.0}, {"k": True}, {"k": np.bool_(True)}, {"k": None}, {"offset": "1"}, {"rerank_depth": 1.5},
        {"where": {"year": 2020}}, {"where": b"x"}, {"where": "year = $y", "where_values": [1]}, {"min_score": "x"},
        {"dense_weight": True}, {"diversity": None}, {"snippets": "yes"}, {"syntax": None}, {"instruction": 5},
        {"rerank": True},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_has_one_kind(index: Index, option: dict[str, Any]) -> None:
    name = "where_values" if "where_values" in option else next(iter(option))
    with pytest.raises(WrongType, match=f"`{name}` is .*: (give|write)"):
        Retriever(index).retrieve("apple", mode="lexical", **option)


@pytest.mark.parametrize("query", [None, b"x", ["a"], 5], ids=str)
def test_a_query_is_a_string(index: Index, query: Any) -> None:
    with pytest.raises(WrongType, match="`query` is .*: give one string; for many queries call retrieve_many"):
        Retriever(index).retrieve(query)


def test_numbers_of_numpy_lists_and_generators_work(index: Index, encoder: Encoder) -> None:
    retriever = Retriever(index, encoder)
    [hit] = retriever.retrieve("apple", np.int64(3), min_score=np.float32(0.0))
    assert [hit.doc_id] == [one.doc_id for one in retriever.answer(Request(vector=encoder.encode_queries(["x"])[0].tolist()))]
    assert retriever.retrieve_many(query for query in ["apple", "red"]) == retriever.retrieve_many(["apple", "red"])
    assert np.array_equal(encoder.encode_queries(text for text in ["a", "b"]), encoder.encode_queries(["a", "b"]))


@pytest.mark.parametrize(
    "setting",
    [{"passage_tokens": "5"}, {"passage_tokens": 0}, {"overlap": "x"}, {"max_memory": 1.5}, {"faiss_key": 5},
     {"recall_target": "x"}, {"document_instruction": 5}],
    ids=str,
)  # fmt: skip
def test_no_index_is_made_that_none_could_open(encoder: Encoder, tmp_path: Path, setting: dict[str, Any]) -> None:
    [name] = setting
    with pytest.raises(RagvecError, match=f"^{name} is ") as told:
        Index.create(tmp_path / "index", encoder=encoder, **setting)
    assert not isinstance(told.value, Damaged) and not (tmp_path / "index").exists()


def test_a_clash_of_the_indexs_own_numbers_is_no_doubled_id(index: Index) -> None:
    with sqlite3.connect(index.path / "index.sqlite") as connection:
        connection.execute("UPDATE settings SET value = '1' WHERE key = 'next_id'")
    connection.close()
    with pytest.raises(Damaged, match="passages.id"):
        index.add_passages([Passage("b", "b", "another text")])
