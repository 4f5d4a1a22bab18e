"""Errors are classes: a status comes from the class alone, and clients learn nothing of the server's folders."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ragvec.encoder import Encoder
from ragvec.errors import Busy, Damaged, NotFound, RagvecError, Unavailable, WrongInput, WrongUsage, first_line
from ragvec.index import Index
from ragvec.index.connect import is_locked, readable_error
from ragvec.index.where import WrongFilter
from ragvec.records import Document
from ragvec.serve import Service, create_app
from ragvec.serve.errors import response_to
from ragvec.serve.live import IndexUnavailable, LiveIndex
from ragvec.serve.places import Places, folder_name, without_places
from ragvec.shards.reader import Shards


@pytest.fixture(scope="module")
def encoder(tiny_decoder) -> Encoder:
    return Encoder.load(tiny_decoder)


@pytest.fixture
def path(encoder, tmp_path) -> Path:
    folder = tmp_path / "private place" / "papers"
    folder.parent.mkdir()
    with Index.create(folder, encoder=encoder) as index:
        index.add([Document("fox", "a quick brown fox", "Foxes", {"year": 2020})])
    return folder


@pytest.fixture
def client(encoder, path):
    with Service(encoder, path) as service, TestClient(create_app(service, writable=True)) as client:
        yield client


def message(answer) -> str:
    assert answer.json()["error"]["code"] == answer.status_code
    return answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("error", "status", "later"),
    [
        (RagvecError("x"), 400, None),
        (WrongInput("is being written by me"), 400, None),
        (WrongInput("is damaged"), 400, None),
        (NotFound("is damaged"), 404, None),
        (Busy("x"), 409, "1"),
        (Unavailable("x"), 503, "1"),
        (IndexUnavailable("x"), 503, "1"),
        (Damaged("x"), 503, None),
    ],
)
def test_the_class_is_the_status(error, status, later):
    answer = response_to(error)
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, later)


@pytest.mark.parametrize("words", ["is being written by me", "is damaged", "can't be used now", "database is locked"])
def test_what_a_client_writes_decides_nothing(client, words):
    for where in (f"title {words}", f'titel = "{words}"'):
        answer = client.post("/search", json={"query": "fox", "where": where})
        assert answer.status_code == 400 and "the filter is wrong at column" in message(answer)
        assert "retry-after" not in answer.headers


def test_a_damaged_index_is_503_and_the_path_is_for_the_log(client, path, caplog):
    (path / "segments" / "0001" / "vectors.f16").unlink()
    with Index.open(path) as index, pytest.raises(Damaged, match="is damaged"):
        index.search([[0.0] * 32], 1)
    for answer in (client.post("/search", json={"query": "fox", "mode": "dense"}), client.get("/ready"), client.get("/info")):
        assert answer.status_code == 503 and message(answer).startswith("index papers is damaged, papers/segments/")
        assert answer.headers["retry-after"] == "1" and "private" not in answer.text and str(path.parent) not in answer.text
    assert f"index {path} is damaged" in caplog.text


def test_a_busy_index_is_409_without_its_path(client, path):
    with Index.open(path) as other, other.writing():
        answer = client.post("/documents", json={"documents": [{"doc_id": "x", "text": "y"}]})
    assert answer.status_code == 409 and answer.headers["retry-after"] == "1"
    assert message(answer).startswith("index papers is being written by process") and "private" not in answer.text


def test_an_index_that_is_gone_is_503_without_its_path(encoder, path, monkeypatch):
    monkeypatch.setattr("ragvec.serve.live.PATIENCE_S", 0.1)
    with Service(encoder, path) as service, TestClient(create_app(service)) as client:
        shutil.move(path, path.with_name("elsewhere"))
        answer = client.post("/search", json={"query": "fox"})
        assert answer.status_code in (200, 503) and "private" not in answer.text
        other = Encoder.load(encoder.source, truncate_dim=8)
        Index.create(path, encoder=other).close()
        answer = client.post("/search", json={"query": "fox"})
    assert answer.status_code == 503 and "use the index's encoder" in message(answer)
    assert str(Path(encoder.source).parent) not in answer.text and "private" not in answer.text


def test_what_is_served_is_named_and_not_placed(encoder, path, monkeypatch):
    source = Path(encoder.source)
    monkeypatch.chdir(source.parent.parent)
    relative = Encoder.load(str(source.relative_to(source.parent.parent)))
    with Service(relative, path) as service, TestClient(create_app(service)) as client:
        for way in ("/info", "/v1/models", "/metrics", "/openapi.json"):
            answer = client.get(way)
            assert answer.status_code == 200 and source.parent.name not in answer.text and "private" not in answer.text
        assert client.get("/v1/models").json()["data"][0]["id"] == source.name


def test_an_assistant_learns_no_path(path, tmp_path):
    pytest.importorskip("mcp", reason="the MCP SDK is not installed: pip install 'ragvec[mcp]'")
    from ragvec.serve.mcp import create_mcp_server
    from tests.test_mcp import ask

    async def search(client):
        found = await client.call_tool("search", {"query": "fox", "mode": "dense"})
        unknown = await client.call_tool("get_document", {"doc_id": "/etc/passwd"})
        return found, unknown

    found, unknown = ask(create_mcp_server(path, str(tmp_path / "secret room" / "encoder")), search)
    assert found.is_error and "the index's encoder can't be loaded: no model folder encoder" in found.content[0].text
    assert "secret" not in found.content[0].text
    assert "there is no document '/etc/passwd'" in unknown.content[0].text, "what the assistant wrote stays as it is"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("index /srv/my idx (1)/segments/a.f16 is missing", "index my idx (1)/segments/a.f16 is missing"),
        ("encoder /srv/my models/x (32-d), this is rel/enc (48-d)", "encoder x (32-d), this is enc (48-d)"),
        ("[Errno 5] Input/output error: '/a/b/c.bin'", "[Errno 5] Input/output error: 'c.bin'"),
        ("can't load ../up/enc: no", "can't load enc: no"),
        ("~/x/y is gone", "y is gone"),
        ("either a/b or 1/2 / 3", "either a/b or 1/2 / 3"),
        ("/srv/my idx (1)2/x", "my idx (1)2/x"),
    ],
)
def test_paths_in_a_sentence_are_cut_to_their_names(text, shown):
    assert Places("/srv/my idx (1)", "rel/enc").without(text) == shown


def test_descriptions_name_folders_alone():
    described = {
        "path": "/a/b",
        "adapters": ["/a/b/one", "org/two"],
        "query_instruction": "and/or: /x/y",
        "n": [{"s": "./q/r"}],
    }
    assert without_places(described) == {
        "adapters": ["one", "org/two"], "query_instruction": "and/or: /x/y", "n": [{"s": "r"}]
    }  # fmt: skip
    assert [folder_name(source) for source in ("org/name", "a/b/c", "/x/y/", "bundled")] == ["org/name", "c", "y", "bundled"]


def test_sqlites_errors_are_told_apart_by_their_codes(tmp_path):
    first, second = (sqlite3.connect(tmp_path / "x.sqlite", timeout=0, isolation_level=None) for _ in range(2))
    first.execute("CREATE TABLE t (a)")
    first.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError) as locked:
        second.execute("SELECT * FROM t")
    first.execute("ROLLBACK")
    with pytest.raises(sqlite3.OperationalError) as missing:
        second.execute("SELECT 'locked' FROM locked")
    (tmp_path / "y.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(sqlite3.DatabaseError) as damaged:
        sqlite3.connect(tmp_path / "y.sqlite").execute("SELECT * FROM t")
    assert is_locked(locked.value) and "locked" in str(missing.value) and not is_locked(missing.value)
    kinds = [type(readable_error(tmp_path, error.value)) for error in (locked, missing, damaged)]
    assert kinds == [Busy, Unavailable, Damaged]
    for connection in (first, second):
        connection.close()


def test_the_kinds_of_errors(encoder, path, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.txt").write_text("x")
    with Index.open(path, encoder=encoder) as index:
        for call, kind in [
            (lambda: Index.open(tmp_path / "nothing"), NotFound),
            (lambda: Index.create(path, encoder=encoder), WrongInput),
            (lambda: Index.create(tmp_path / "other", encoder=encoder), WrongInput),
            (lambda: index.search([[1.0]], 3), WrongInput),
            (lambda: index.search([[0.0] * 32], 0), WrongUsage),
            (lambda: index.delete_where("yeer > 1"), WrongFilter),
            (lambda: Encoder.load(tmp_path / "nothing"), NotFound),
            (lambda: Encoder.load(tmp_path / "other"), NotFound),
            (lambda: Shards.open(tmp_path / "nothing"), NotFound),
            (lambda: LiveIndex(tmp_path / "nothing", None), NotFound),
        ]:
            with pytest.raises(RagvecError) as caught:
                call()
            assert type(caught.value) is kind, caught.value


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError(), "ValueError"),
        (OSError("\n \n"), "OSError"),
        (ValueError("one\ntwo"), "one"),
        (OSError(2, "x"), "[Errno 2] x"),
    ],
)
def test_an_error_without_words_is_its_class(error, line):
    assert first_line(error) == line


def test_errors_of_other_libraries_may_be_empty(monkeypatch):
    from ragvec.encoder import weights
    from ragvec.index.ann.build import _reason

    assert _reason(RuntimeError()) == "RuntimeError"
    assert _reason(RuntimeError("Error in x at y.cpp:3:\nError: 'a > 1' failed: too few\n")) == "too few"

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(weights.torch, "empty", fail)
    with pytest.raises(WrongInput, match=r"can't be used here \(RuntimeError\)"):
        weights.choose_device("cpu")


def test_an_adapter_with_weights_missing_does_not_fit(tiny_decoder, tmp_path):
    from safetensors.torch import load_file, save_file

    from tests.test_sources import make_adapter

    folder = make_adapter(tiny_decoder, tmp_path / "adapter", base_name=str(tiny_decoder), seed=1)
    weights = load_file(folder / "adapter_model.safetensors")
    lost = sorted(weights)[0]
    save_file({name: value for name, value in weights.items() if name != lost}, folder / "adapter_model.safetensors")
    with pytest.raises(WrongInput, match="does not fit its base model: it lacks .*lora_A"):
        Encoder.load(folder)
    assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "LORA"
