"""A real `ragvec serve`: OpenAI's own client, many clients at once, clients that leave or dawdle, an end in order."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.records import Document
from ragvec.retrieve import Retriever
from ragvec.serve.advert import find_server
from ragvec.serve.sparing import Sparing
from tests.serving import RUN, asking, serving, wait_until
from tests.test_serve_live import QUESTION, make_index, numbered
from tests.tiny import TEXTS


@pytest.fixture(scope="module")
def encoder(tiny_decoder) -> Encoder:
    return Encoder.load(tiny_decoder)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("process")


@pytest.fixture(scope="module")
def server(place, encoder):
    make_index(place / "ragvec-index", encoder, [Document(str(number), text) for number, text in enumerate(TEXTS)])
    with serving(cwd=place) as server:  # neither index nor encoder named: both are found
        yield server


GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\r\n" * 100,
    b"POST /search HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
]


def post_head(path: str, length: int) -> bytes:
    """The head of a request by hand, for clients that don't behave."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json", f"content-length: {length}", "", ""]
    return "\r\n".join(lines).encode()


def test_malformed_requests_are_logged_sparingly(server, place):
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as stranger:
            stranger.sendall(GARBAGE[0])
            assert stranger.recv(100).startswith(b"HTTP/1.1 400 ")
    [log] = place.glob("*.log")
    assert log.read_text().count("Invalid HTTP request received.") == 1


def test_a_line_that_was_left_out_is_counted(caplog):
    logger, sparing = logging.getLogger("sparing"), Sparing(seconds=0.2)
    logger.addFilter(sparing)
    for wait in (0, 0, 0, 0.25):
        time.sleep(wait)
        logger.warning("mistake of %s", "a client")
        logger.warning("another")
    assert [record.getMessage() for record in caplog.records] == [
        "mistake of a client",
        "another",
        "mistake of a client (2 more since the last such line)",
        "another (2 more since the last such line)",
    ]


def test_the_official_openai_client(server, encoder):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.embeddings.create(model="ragvec", input=TEXTS)  # asks for base64 by itself
        np.testing.assert_allclose([row.embedding for row in answer.data], encoder.encode_documents(TEXTS), atol=1e-6)
        assert answer.usage.total_tokens == sum(len(ids) for ids in encoder.prompts.build(TEXTS).ids)
        answer = client.embeddings.create(
            model="ragvec", input="fox", encoding_format="float", dimensions=8, extra_body={"instruction": "Find animals:"}
        )
        wanted = encoder.encode_queries(["fox"], instruction="Find animals:", truncate_dim=8)
        np.testing.assert_allclose([answer.data[0].embedding], wanted, atol=1e-6)
        assert [model.id for model in client.models.list()] == [Path(encoder.source).name]
        with pytest.raises(openai.UnprocessableEntityError, match="token ids are refused"):
            client.embeddings.create(model="ragvec", input=[1, 2, 3])
        with pytest.raises(openai.BadRequestError, match="outside 1 … 32"):
            client.embeddings.create(model="ragvec", input="fox", dimensions=4096)


def test_clients_at_once_get_the_answers_they_would_get_alone(server, encoder, place):
    queries = [f"{word} {number}" for number in range(8) for word in ("fox", "서울", "protein", "lazy dog")]
    with Index.open(place / "ragvec-index") as index:
        retriever = Retriever(index, encoder)
        alone = {query: [hit.doc_id for hit in retriever.retrieve(query, 3)] for query in queries}
    batches = server.metric("ragvec_batch_tokens_count")
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda query: server.call("/search", {"query": query, "k": 3}), queries * 4))
    assert [status for status, _ in answers] == [200] * len(answers)
    assert [[hit["doc_id"] for hit in body["hits"]] for _, body in answers] == [alone[query] for query in queries * 4]
    assert server.metric("ragvec_batch_tokens_count") - batches < len(answers), "some requests shared a batch"


def test_a_client_that_leaves_frees_its_work(server):
    body = json.dumps({"input": [f"{number} {TEXTS[4]}" * 8 for number in range(2000)]}).encode()
    texts, left = server.metric("ragvec_texts_total"), server.metric("ragvec_disconnects_total")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = post_head("/v1/embeddings", len(body))
        connection.sendall(head + body)
        wait_until(lambda: server.metric("ragvec_queue_tokens") > 0)
    wait_until(lambda: server.metric("ragvec_disconnects_total") == left + 1)
    wait_until(lambda: server.metric("ragvec_queue_tokens") == 0)
    wait_until(lambda: server.metric("ragvec_requests_in_flight") == 1)  # the one that asks
    assert server.metric("ragvec_texts_total") - texts < 2000


def test_slow_clients_hold_nobody_up(server):
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    try:
        for number, connection in enumerate(slow):
            head = post_head("/search", 1000) + b"{"
            connection.sendall(head if number % 2 else head[:20])
        for query in TEXTS:
            assert server.call("/search", {"query": query})[0] == 200
    finally:
        for connection in slow:
            connection.close()


def test_garbage_on_the_wire_is_refused_and_forgotten(server):
    for garbage in GARBAGE:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.settimeout(10)
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(100)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
    assert server.call("/health")[0] == 200


def test_new_commits_are_seen_at_once(server, encoder, place):
    with Index.open(place / "ragvec-index", encoder=encoder) as index:
        index.add([Document("new", "a zebra appears")])
        hits = server.call("/search", {"query": "zebra", "mode": "lexical"})[1]["hits"]
        assert [hit["doc_id"] for hit in hits] == ["new"]
        index.delete(["new"])
        index.compact()
    assert server.call("/search", {"query": "zebra", "mode": "lexical"})[1]["hits"] == []


def test_sigterm_answers_what_it_took_on_and_leaves_nothing_behind(encoder, tmp_path):
    path = make_index(tmp_path / "index", encoder, numbered("apple"))
    with serving("-i", path, cwd=tmp_path) as server:
        advert = find_server(path)
        assert (advert.pid, advert.port, advert.needs_key) == (server.process.pid, server.port, False)
        before = server.metric("ragvec_batch_tokens_count")
        texts = [f"{number} {TEXTS[4]}" * 6 for number in range(600)]
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(server.call, "/embed", {"inputs": texts})
            wait_until(lambda: server.metric("ragvec_batch_tokens_count") > before)
            assert server.stop() == 0
            status, vectors = answer.result()
        assert status == 200 and len(vectors) == 600
        assert find_server(path) is None
        assert not (path / "index.sqlite-wal").exists()


@pytest.mark.slow
def test_sigint_is_an_interruption(encoder, tmp_path):
    with serving("-i", make_index(tmp_path / "index", encoder, numbered("apple")), cwd=tmp_path) as server:
        assert server.stop(signal.SIGINT) == 130


@pytest.mark.slow
def test_a_killed_server_is_not_taken_for_a_living_one(encoder, tmp_path):
    path = make_index(tmp_path / "index", encoder, numbered("apple"))
    with serving("-i", path, cwd=tmp_path) as server:
        server.stop(signal.SIGKILL)
        assert find_server(path) is None and (path / "server.lock").read_text() != ""


def serve_and_fail(*words: str, cwd: Path, environment: dict | None = None) -> tuple[int, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAGVEC_")}
    out = subprocess.run(
        [sys.executable, "-c", RUN, "serve", *map(str, words)],
        cwd=cwd,
        env={**clean, "OMP_NUM_THREADS": "1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return out.returncode, out.stderr


def test_what_cannot_be_served_is_one_line(server, place, tmp_path):
    code, err = serve_and_fail("-i", "nowhere", cwd=tmp_path)
    assert (code, err.count("\n")) == (1, 1) and err.startswith("error: no index in nowhere")
    code, err = serve_and_fail("--port", server.port, cwd=place)
    assert (code, err.count("\n")) == (1, 1) and f"can't serve on 127.0.0.1:{server.port}: Address already in use" in err
    code, err = serve_and_fail("--writable", cwd=tmp_path)
    assert (code, err.count("\n")) == (1, 1) and "writable needs an index" in err


@pytest.mark.slow
def test_an_index_replaced_under_load_fails_no_request(encoder, tmp_path):
    for name in ("apple", "pear"):
        make_index(tmp_path / name, encoder, numbered(name))
    os.rename(tmp_path / "apple", tmp_path / "current")
    with serving("-i", tmp_path / "current", cwd=tmp_path) as server, asking(lambda: server.call(*QUESTION), 6) as answers:
        for name, other in [("pear", "apple"), ("apple", "pear")] * 10:
            time.sleep(0.1)
            os.rename(tmp_path / "current", tmp_path / other)
            time.sleep(0.05)  # for a moment there is none
            os.rename(tmp_path / name, tmp_path / "current")
    assert all(status == 200 for status, _ in answers) and len(answers) > 50
    kinds = {frozenset(hit["doc_id"].rstrip("0123456789") for hit in body["hits"]) for _, body in answers}
    assert kinds == {frozenset({"apple"}), frozenset({"pear"})}, "never hits of two indices"


@pytest.mark.slow
def test_an_open_door_is_pointed_out(encoder, tmp_path):
    with serving("-e", encoder.source, "--host", "0.0.0.0", cwd=tmp_path) as server:
        assert "no API key is set" in next(tmp_path.glob("server-*.log")).read_text()
        assert server.call("/health", headers={"host": "anything.example"})[0] == 200
    with serving("-e", encoder.source, "--host", "0.0.0.0", cwd=tmp_path, environment={"RAGVEC_API_KEY": "k"}) as server:
        assert server.call("/v1/embeddings", {"input": "x"})[0] == 401
        assert server.call("/v1/embeddings", {"input": "x"}, headers={"authorization": "Bearer k"})[0] == 200
        assert not any("no API key" in log.read_text() for log in sorted(tmp_path.glob("server-*.log"))[1:])
