"""An index that changes under the server: each answer comes from one whole index, and none is lost to the change."""

import os
import shutil
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ragvec.encoder import Encoder
from ragvec.errors import RagvecError
from ragvec.index import Index
from ragvec.records import Document
from ragvec.serve import Service, create_app
from ragvec.serve.live import IndexUnavailable, LiveIndex
from tests.serving import asking
from tests.tiny import save_tiny_decoder

QUESTION = ("/search", {"query": "number 7", "k": 30})


@pytest.fixture(scope="module")
def encoder(tiny_decoder) -> Encoder:
    return Encoder.load(tiny_decoder)


def make_index(path: Path, encoder: Encoder, documents: list[Document]) -> Path:
    with Index.create(path, encoder=encoder) as index:
        index.add(documents)
    return path


def numbered(word: str) -> list[Document]:
    return [Document(f"{word}{number}", f"{word} number {number}") for number in range(30)]


@pytest.mark.parametrize("way", ["link", "rename"])
def test_an_index_replaced_under_load_fails_no_request(encoder, tmp_path, way):
    current = tmp_path / "current"
    for name in ("apple", "pear"):
        make_index(tmp_path / name, encoder, numbered(name))
    os.symlink(tmp_path / "apple", current) if way == "link" else os.rename(tmp_path / "apple", current)

    with Service(encoder, current) as service, TestClient(create_app(service)) as client:
        with asking(lambda: client.post(QUESTION[0], json=QUESTION[1]), 3) as answers:
            for name, other in [("pear", "apple"), ("apple", "pear")] * 6:
                time.sleep(0.1)
                if way == "link":
                    os.symlink(tmp_path / name, tmp_path / "next")
                    os.replace(tmp_path / "next", current)
                else:
                    os.rename(current, tmp_path / other)
                    time.sleep(0.05)  # for a moment there is none
                    os.rename(tmp_path / name, current)
        last = client.post(QUESTION[0], json=QUESTION[1])
    assert {answer.status_code for answer in answers} == {200} and len(answers) > 20
    kinds = [frozenset(hit["doc_id"].rstrip("0123456789") for hit in answer.json()["hits"]) for answer in [*answers, last]]
    assert set(kinds) == {frozenset({"apple"}), frozenset({"pear"})}, "never hits of two indices"
    assert kinds[-1] == {"apple"}


def test_commits_to_the_same_index_need_no_new_opening(encoder, tmp_path):
    path = make_index(tmp_path / "index", encoder, numbered("apple"))
    live = LiveIndex(path, encoder)
    first = live.call(lambda index: index)
    with Index.open(path, encoder=encoder) as other:
        other.add(numbered("pear"))
    assert live.call(len) == 60 and live.call(lambda index: index) is first
    live.close()


def test_an_index_of_another_encoder_is_not_mixed_in(encoder, tmp_path):
    make_index(tmp_path / "current", encoder, numbered("apple"))
    other = Encoder.load(save_tiny_decoder(tmp_path / "other", hidden_size=48))
    make_index(tmp_path / "next", other, numbered("pear"))
    with Service(encoder, tmp_path / "current") as service, TestClient(create_app(service)) as client:
        assert client.post("/search", json={"query": "x"}).status_code == 200
        shutil.move(tmp_path / "current", tmp_path / "old")
        shutil.move(tmp_path / "next", tmp_path / "current")
        answer = client.post("/search", json={"query": "x"})
        assert answer.status_code == 503 and "use the index's encoder" in answer.json()["error"]["message"]
        assert answer.headers["retry-after"] == "1"
        assert client.get("/ready").status_code == 503 and client.get("/health").status_code == 200
        shutil.move(tmp_path / "current", tmp_path / "next")
        shutil.move(tmp_path / "old", tmp_path / "current")
        assert client.post("/search", json={"query": "x"}).status_code == 200


def test_a_damaged_index_is_the_servers_fault_and_a_bad_question_is_not(encoder, tmp_path):
    path = make_index(tmp_path / "index", encoder, numbered("apple"))
    live = LiveIndex(path, encoder)
    with pytest.raises(RagvecError, match="the index holds 32-d vectors"):
        live.call(lambda index: index.search([[1.0]], 3))
    live.close()
    (path / "segments" / "0001" / "vectors.f16").unlink()
    live = LiveIndex(path, encoder)
    with pytest.raises(IndexUnavailable, match="is damaged"):
        live.call(lambda index: index.search(encoder.encode_queries(["x"]), 3))
    live.close()


def test_a_query_vector_of_the_old_index_is_good_for_the_new_one(encoder, tmp_path):
    """What was encoded before the change is searched after it: the encoder is the same, or the index is refused."""
    make_index(tmp_path / "current", encoder, numbered("apple"))
    live = LiveIndex(tmp_path / "current", encoder)
    make_index(tmp_path / "next", encoder, numbered("pear"))
    turned = []

    def search(index: Index) -> list[str]:
        if not turned:
            turned.append(True)
            shutil.move(tmp_path / "current", tmp_path / "old")
            shutil.move(tmp_path / "next", tmp_path / "current")
        found = index.search(encoder.encode_queries(["pear number 3"]), 1)
        return [passage.doc_id for passage in index.passages(found.ids[0].tolist())]

    assert live.call(search)[0].startswith("pear"), "asked again of the new one"
    live.close()


def test_an_index_that_was_away_for_a_moment_is_asked_again(encoder, tmp_path):
    path = make_index(tmp_path / "current", encoder, numbered("apple"))
    live = LiveIndex(path, encoder)
    failed: list[Exception] = []

    def search(index: Index) -> str:
        if failed:
            return index.passages([3])[0].doc_id
        with index.reading():  # which takes the connection: the next needs another
            os.rename(path, tmp_path / "away")
            try:
                return index.passages([3])[0].doc_id
            except RagvecError as error:
                failed.append(error)
                raise
            finally:
                os.rename(tmp_path / "away", path)

    assert live.call(search).startswith("apple")
    assert len(failed) == 1, "it was away once"
    live.close()
