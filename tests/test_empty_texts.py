"""Texts that show nothing: kept and named, found by id and filter, and near no query."""

import json
from pathlib import Path

import numpy as np
import pytest

from ragvec.doctor.index import examine_index
from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.ingest import encode_corpus
from ragvec.ingest.build import build
from ragvec.records import Document, Passage, shows_nothing
from ragvec.retrieve import Retriever
from ragvec.retrieve.lookup import read_document
from tests.test_cli_index import ragvec, write_corpus
from tests.test_index import CountingEncoder, put, unit_vectors

NOTHING = [
    "",
    " ",
    "\n\t \r\n",
    "\u200b",
    "\ufeff",
    "\xad\u2060",
    "\u3000\u00a0",
    "\u3164",
    "\u202e \u202c",
    "\U000e0041\ufe0f",
]
SOMETHING = ["a", ".", "—", "\u0600", "서", "👩\u200d🔬", " \u200bx\u200b ", "\u0301"]
KEYS = ["exact", "auto", "Flat", "SQ8", "IVF4,SQ8", "IVF4,PQ8x4fs", "HNSW8", "IVF4,RaBitQfs"]


class Nearest(CountingEncoder):
    """A query that is nonsense has the very vector of a text that shows nothing."""

    def encode_counted(self, texts, *, instruction="", normalize=True):
        return super().encode_counted(
            ["" if shows_nothing(text) else text for text in texts], instruction=instruction, normalize=normalize
        )

    def encode_queries(self, texts, *, instruction=None):
        return self.encode_documents(["" for _ in texts])


def documents() -> list[Document]:
    told = [Document(f"t{number}", f"text number {number}", metadata={"n": number}) for number in range(90)]
    empty = [
        Document(f"e{number}", NOTHING[number % len(NOTHING)], title=" " * (number % 2), metadata={"n": number})
        for number in range(30)
    ]
    return [one for three in zip(told[:30], empty, told[30:60], strict=True) for one in three] + told[60:]


@pytest.mark.parametrize("text", NOTHING, ids=ascii)
def test_what_shows_nothing(text: str) -> None:
    assert shows_nothing(text) and Passage("1", "1", text, title=text).is_empty
    assert not Passage("1", "1", text, title="A title").is_empty


@pytest.mark.parametrize("text", SOMETHING, ids=ascii)
def test_what_shows_something(text: str) -> None:
    assert not shows_nothing(text) and not Passage("1", "1", text).is_empty


@pytest.mark.parametrize("key", KEYS)
def test_nonsense_finds_no_empty_text_in_any_mode_and_with_any_key(tmp_path: Path, key: str) -> None:
    encoder = Nearest()
    with Index.create(tmp_path / "index", encoder=encoder, faiss_key=key) as index:
        index.add(documents())
        retriever = Retriever(index, encoder)
        for state in ("as added", "compacted"):
            for mode in ("dense", "hybrid", "lexical"):
                hits = retriever.retrieve("blorgh zzyx", 200, mode=mode)
                assert len(hits) == (0 if mode == "lexical" else 90), (state, mode)
                assert not [hit for hit in hits if hit.doc_id.startswith("e")], (state, mode)
            assert len(retriever.retrieve("blorgh", 20, mode="dense", where="n < 30")) == 20
            assert len(retriever.retrieve("blorgh", 60, mode="hybrid", where="n < 30")) == 30
            [alike] = retriever.retrieve_many(["zzyx -number"], 200, mode="dense", syntax=True)
            assert alike == [], "each text holds that word"
            index.compact()


def test_they_stay_in_the_index_and_are_counted(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", encoder=Nearest()) as index:
        assert index.add(documents()).added == len(index) == 120
        described = index.describe()
        assert (described["documents"], described["deleted_rows"], described["segments"][0]["rows"]) == (120, 0, 90)
        assert index.documents_where("n = 7") == ["e7", "t7"]
        [passage] = read_document(index, "e2")
        assert (passage.text, passage.metadata) == (NOTHING[2], {"n": 2})
        with index.reading() as view:
            [empty] = view.document("e2") and [view.listing()[1][0]]
            assert not view.vectors([empty]).any() and view.similarities(unit_vectors(1)[0], np.array([empty])) == [0]
        assert [check.state for check in examine_index(tmp_path / "index") if check.name == "database"] == ["ok"]


def test_a_text_that_becomes_empty_and_one_that_is_deleted(tmp_path: Path) -> None:
    encoder = Nearest()
    with Index.create(tmp_path / "index", encoder=encoder) as index:
        index.add([Document("a", "words"), Document("b", "more words"), Document("c", "")])
        index.add([Document("a", " "), Document("c", "now it says something")])
        found = [hit.doc_id for hit in Retriever(index, encoder).retrieve("?!", 9, mode="dense")]
        assert sorted(found) == ["b", "c"]
        assert index.delete(["a", "c"]) == 2 and len(index) == 1
        index.delete(["b"])
        index.add([Document("x", "\u200b")])  # nothing but an empty text: no segment, and all there is to measure is nothing
        assert (len(index), [hit.doc_id for hit in Retriever(index, encoder).retrieve("?!", 9)]) == (1, [])
        index.delete(["x"])
        index.add([Document("y", "words again")])
        index.compact()
        assert (len(index), index.describe()["deleted_rows"]) == (1, 0)


def test_several_commits_and_their_merging_keep_them_out(tmp_path: Path) -> None:
    encoder = Nearest()
    with Index.create(tmp_path / "index", encoder=encoder) as index:
        for number in range(17):
            index.add([Document(f"t{number}", f"text {number}"), Document(f"e{number}", "")])
        assert len(index.describe()["segments"]) == 2, "sixteen became one"
        found = [hit.doc_id for hit in Retriever(index, encoder).retrieve("?!", 99, mode="dense")]
        assert sorted(found) == sorted(f"t{number}" for number in range(17))


def test_ready_vectors_of_texts_are_left_out_as_well(tmp_path: Path) -> None:
    """The way of shards: vectors come with the passages."""
    with Index.create(tmp_path / "index", encoder=Nearest()) as index:
        put(index, [Passage("a", "a", "words"), Passage("b", "b", "\t")], unit_vectors(2))
        assert index.search(unit_vectors(2), 9).ids.tolist() == [[1], [1]]


ROWS = [
    {"_id": "a", "text": "words"},
    *({"_id": f"e{number}", "text": " "} for number in range(7)),
    {"_id": "b", "text": "fox"},
]


def test_index_names_them(tmp_path: Path, monkeypatch, tiny_decoder: Path, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "corpus.jsonl", ROWS)
    said = "7 texts are empty, and found by id and filter alone: 'e0', 'e1', 'e2', 'e3', 'e4', …\n"
    code, out, err = ragvec(capsys, "index", "corpus.jsonl", "--encoder", tiny_decoder)
    assert (code, err) == (0, said) and "9 documents added" in out
    code, out, err = ragvec(capsys, "index", "corpus.jsonl", "--format", "json")
    report = json.loads(out)
    assert (code, err, report["unchanged"], report["empty"]) == (0, said, 9, 7)
    code, out, _ = ragvec(capsys, "search", "zzyx", "--format", "json", "-k", "9")
    assert {json.loads(line)["doc_id"] for line in out.splitlines()} == {"a", "b"}


def test_shards_with_empty_texts(tmp_path: Path, tiny_decoder: Path) -> None:
    passages = [Passage(row["_id"], row["_id"], row["text"]) for row in ROWS]
    encoder = Encoder.load(tiny_decoder)
    encode_corpus(passages, encoder, tmp_path / "shards")
    report = build(tmp_path / "shards", tmp_path / "index")
    assert (report.added, report.empty, report.first_empty) == (9, 7, ("e0", "e1", "e2", "e3", "e4"))
    with Index.open(tmp_path / "index", encoder=encoder) as index:
        assert {hit.doc_id for hit in Retriever(index, encoder).retrieve("zzyx", 9)} == {"a", "b"}
