"""Several indices on the command line and over HTTP: named one after another, they answer as one."""

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ragvec.encoder import Encoder
from ragvec.errors import NotFound, WrongInput
from ragvec.index import Index
from ragvec.records import Document
from ragvec.retrieve import open_retriever
from ragvec.serve import Service, create_app
from ragvec.serve.source import choose_index, loader
from tests.test_cli_index import ragvec

DOCUMENTS = [
    Document("a", "Women need 46 grams of protein a day.", "Nutrition", {"year": 2020}),
    Document("b", "The quick brown fox jumps over the lazy dog."),
    Document("c", "Plants make their food from light and water.", "Botany", {"year": 1999}),
    Document("d", "A fox eats what it finds, plants too.", "", {"lang": "en"}),
]


@pytest.fixture(scope="module")
def encoder(tiny_decoder: Path) -> Encoder:
    return Encoder.load(tiny_decoder)


@pytest.fixture(scope="module")
def folders(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("joint")
    for name, documents in {"whole": DOCUMENTS, "one": DOCUMENTS[:2], "two": DOCUMENTS[2:]}.items():
        with Index.create(base / name, encoder=encoder, language="english") as index:
            index.add(documents)
    return {name: base / name for name in ("whole", "one", "two")}


def parts(folders: dict[str, Path]) -> list[str]:
    return ["-i", str(folders["one"]), "-i", str(folders["two"])]


def lines(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_search_of_two_prints_the_hits_of_one_with_their_index(folders, capsys) -> None:
    for words in (
        ["fox plants"],
        ["+fox", "--mode", "dense"],
        ["food", "--where", 'year < 2010 or lang = "en"'],
        ["-k", "2", "fox"],
    ):
        code, out, err = ragvec(capsys, "search", *words, *parts(folders))
        whole = lines(ragvec(capsys, "search", *words, "-i", folders["whole"])[1])
        found = lines(out)
        assert (code, err) == (0, "") and len(found) > 1
        assert [hit.pop("index") for hit in found] == ["one" if hit["doc_id"] in "ab" else "two" for hit in found]
        assert found == whole
    code, out, _ = ragvec(capsys, "search", "fox lazy", *parts(folders), "--mode", "lexical", "--format", "table")
    assert code == 0 and out.splitlines()[1].split()[2:4] == ["one:", "b"]


def test_the_environment_names_one_index_whatever_its_path_holds(folders, capsys, monkeypatch, tmp_path) -> None:
    odd = tmp_path / "an index: mine"
    odd.symlink_to(folders["one"])
    monkeypatch.setenv("RAGVEC_INDEX", str(odd))
    assert [hit["doc_id"] for hit in lines(ragvec(capsys, "search", "fox", "--mode", "lexical")[1])] == ["b"]


def test_a_context_of_two_cites_both(folders, capsys) -> None:
    code, out, _ = ragvec(capsys, "search", "fox", *parts(folders), "--context", "300", "--mode", "lexical", "--format", "json")
    assert code == 0 and {source["doc_id"] for source in json.loads(out)["sources"]} == {"b", "d"}


def test_what_cant_be_searched_together_is_one_line(folders, capsys, tmp_path) -> None:
    Index.create(tmp_path / "other", dimension=32, fingerprint="f" * 64).close()
    code, out, err = ragvec(capsys, "search", "fox", "-i", folders["one"], "-i", tmp_path / "other")
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert "one and other can't be searched together, their encoder" in err
    code, _, err = ragvec(capsys, "search", "fox", "-i", folders["one"], "-i", folders["one"])
    assert code == 1 and "is named twice: name each once" in err


def test_python_opens_several_by_the_same_door(folders) -> None:
    with pytest.raises(WrongInput, match="no field yaer; there are lang, year"):
        open_retriever(list(folders.values())[1:], mode="lexical", where="yaer = 1")
    retriever = open_retriever([folders["one"], str(folders["two"])], mode="lexical")
    assert {(hit.doc_id, hit.index) for hit in retriever.retrieve("protein water", mode="lexical")} == {
        ("a", "one"),
        ("c", "two"),
    }


def test_a_server_answers_from_two_as_from_one(folders, encoder) -> None:
    with Service(encoder, [folders["one"], folders["two"]]) as service, TestClient(create_app(service)) as client:
        info = client.get("/info").json()["index"]
        assert (info["name"], info["documents"], info["fields"]) == ("one, two", 4, ["lang", "year"])
        assert info["indices"] == [{"name": name, "documents": 2, "passages": 2} for name in ("one", "two")]
        assert str(folders["one"].parent) not in client.get("/info").text
        answer = client.post("/search", json={"query": "fox food", "k": 4})
        assert answer.status_code == 200 and "x-ragvec-index" not in answer.headers
        with Service(encoder, folders["whole"]) as other, TestClient(create_app(other)) as whole:
            expected = whole.post("/search", json={"query": "fox food", "k": 4}).json()["hits"]
        hits = answer.json()["hits"]
        assert [(hit["doc_id"], hit["score"]) for hit in hits] == [(hit["doc_id"], hit["score"]) for hit in expected]
        assert {hit["doc_id"]: hit["index"] for hit in hits} == {"a": "one", "b": "one", "c": "two", "d": "two"}
        assert client.get("/documents/c").json()["title"] == "Botany" and client.get("/documents/x").status_code == 404
        assert client.get("/ready").status_code == 200
        told = client.get("/info").json()
        assert (told["map"], told["similar"], told["modes"][0]) == (False, False, "hybrid")
        assert client.get("/overview").json()["examples"] == []
        for answer in (client.post("/similar", json={"doc_id": "c"}), client.get("/map")):
            assert answer.status_code == 404 and "the server has several, or a store" in answer.text
        with Index.open(folders["two"], encoder=encoder) as index:
            index.add([Document("new", "zebra")])
        [hit] = client.post("/search", json={"query": "zebra", "mode": "lexical"}).json()["hits"]
        assert (hit["doc_id"], hit["index"]) == ("new", "two")


def test_one_of_two_that_is_replaced_is_opened_anew(encoder, tmp_path) -> None:
    for name in ("one", "two", "next"):
        with Index.create(tmp_path / name, encoder=encoder, language="english") as index:
            index.add([Document(name, f"text of {name}")])
    with Service(encoder, [tmp_path / "one", tmp_path / "two"]) as service, TestClient(create_app(service)) as client:

        def found() -> set[str]:
            return {hit["doc_id"] for hit in client.post("/search", json={"query": "text", "mode": "lexical"}).json()["hits"]}

        assert found() == {"one", "two"}
        (tmp_path / "two").rename(tmp_path / "away")
        (tmp_path / "next").rename(tmp_path / "two")
        assert found() == {"one", "next"}


def test_what_is_served_is_looked_at_before_a_model_is_loaded(folders, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_index([]) is None
    two = [str(folders["one"]), str(folders["two"])]
    assert choose_index(two) == two and choose_index(two[:1]) == two[0]
    with pytest.raises(WrongInput, match="several indices are read as one and not written to"):
        choose_index(two, writable=True)
    with pytest.raises(NotFound, match="no index in nowhere"):
        choose_index([two[0], "nowhere"])
    assert loader(two, None)().dimension == 32
