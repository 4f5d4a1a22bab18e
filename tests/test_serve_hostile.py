"""What a server on a network must bear: a request that makes no sense gets a 4xx that says why, and nobody unasked gets in."""

import gzip
import json
import socket
from typing import NamedTuple

import numpy as np
import pytest
from starlette.testclient import TestClient

from ragvec.serve import Limits, Service, connection, create_app
from tests.test_page import running
from tests.test_serve_api import client, encoder, folder, service  # noqa: F401 - fixtures

JSON = {"content-type": "application/json"}


class Refusal(NamedTuple):
    """An error as a client sees it; all have the one shape."""

    status: int
    message: str

    def says(self, status: int, part: str) -> bool:
        """Whether it is of this status, and its message holds this part."""
        return self.status == status and part in self.message


def refusal(answer) -> Refusal:
    error = answer.json()["error"]
    assert error["code"] == answer.status_code and error["type"]
    return Refusal(answer.status_code, error["message"])


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/embeddings", b"", 422, "not valid JSON"),
        ("/v1/embeddings", b"{", 422, "not valid JSON"),
        ("/v1/embeddings", b'{"input": NaN}', 422, "not valid JSON"),
        ("/v1/embeddings", b'{"input": "\xff\xfe"}', 422, "not UTF-8"),
        ("/v1/embeddings", b'{"input": "\\ud800"}', 422, "not valid JSON"),
        ("/v1/embeddings", b"[" * 50_000, 422, "not valid JSON"),
        ("/v1/embeddings", b'{"input": ' + b"[" * 900 + b"]" * 900 + b"}", 422, "input"),
        ("/v1/embeddings", b"[]", 422, "no JSON object"),
        ("/v1/embeddings", b'"text"', 422, "no JSON object"),
        ("/v1/embeddings", b"null", 422, "no JSON object"),
        ("/v1/embeddings", {"model": "x"}, 422, "input: Field required"),
        ("/v1/embeddings", {"input": None}, 422, "input"),
        ("/v1/embeddings", {"input": {"a": 1}}, 422, "input"),
        ("/v1/embeddings", {"input": []}, 422, "input is an empty list"),
        ("/v1/embeddings", {"input": [1, 2, 3]}, 422, "token ids are refused"),
        ("/v1/embeddings", {"input": [[1, 2], [3]]}, 422, "token ids are refused"),
        ("/v1/embeddings", {"input": ["a", None]}, 422, "input"),
        ("/v1/embeddings", {"input": ["x"] * 21}, 422, "21 texts at once: send at most 20"),
        ("/v1/embeddings", {"input": "x", "dimensions": 0}, 422, "dimensions"),
        ("/v1/embeddings", {"input": "x", "dimensions": 33}, 400, "dimensions 33 is outside 1 … 32"),
        ("/v1/embeddings", {"input": "x", "dimensions": "8"}, 422, "dimensions"),
        ("/v1/embeddings", {"input": "x", "dimensions": 10**30}, 422, ""),
        ("/v1/embeddings", {"input": "x", "encoding_format": "hex"}, 422, "encoding_format"),
        ("/v1/embeddings", {"input": "x", "input_type": "both"}, 422, "input_type"),
        ("/v1/embeddings", {"input": "x", "instruction": "long " * 200}, 400, "max_length"),
        ("/embed", {"inputs": []}, 422, "inputs"),
        ("/embed", {"inputs": "x", "prompt_name": "sts"}, 404, "no prompt 'sts': it has document, query"),
        ("/v1/rerank", {"query": "x", "documents": []}, 422, "documents"),
        ("/v1/rerank", {"query": "", "documents": ["x"]}, 422, "query: is empty"),
        ("/v1/rerank", {"query": "x" * 201, "documents": ["x"]}, 422, "the query has 201 characters"),
        ("/v1/rerank", {"query": "x", "documents": ["x"] * 21}, 422, "21 texts at once"),
        ("/search", {}, 422, "either a query or a vector"),
        ("/search", b"null", 422, "the body is no JSON object"),
        ("/search", '{"query": "여우"}'.encode("cp949"), 422, "the body is not UTF-8: send it so, and uncompressed"),
        ("/search", gzip.compress(b'{"query": "fox"}', mtime=0), 422, "the body is not UTF-8: send it so, and uncompressed"),
        ("/search", ["x"], 422, "the body is no JSON object"),
        ("/search", {"query": "x", "vector": [1.0]}, 422, "either a query or a vector"),
        ("/search", {"query": " \n"}, 422, "query: is empty"),
        ("/search", {"query": 5}, 422, "query"),
        ("/search", {"query": "x" * 201}, 422, "the query has 201 characters: send at most 200"),
        ("/search", {"query": "x", "k": 0}, 422, "k"),
        ("/search", {"query": "x", "k": 51}, 422, "k is 51: ask for at most 50 hits"),
        ("/search", {"query": "x", "k": 2.5}, 422, "k"),
        ("/search", {"query": "x", "k": True}, 422, "k"),
        ("/search", {"query": "x", "mode": "sparse"}, 422, "mode"),
        ("/search", {"query": "x", "modee": "dense"}, 422, "modee: there is no such field"),
        ("/search", {"vector": [0.1] * 31}, 400, "the index holds 32-d vectors"),
        ("/search", {"vector": []}, 400, "the index holds 32-d vectors"),
        ("/search", {"vector": [1e308] * 32}, 400, "NaN or infinity"),
        ("/search", {"vector": [10**400] * 32}, 422, ""),
        ("/search", {"vector": ["nan"] * 32}, 422, "vector"),
        ("/search", {"vector": [True] * 32}, 422, "vector"),
        ("/search", {"vector": [0.1] * 32, "mode": "lexical"}, 422, "a vector has no words for lexical search"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_nonsense_is_refused_with_a_reason(client, path, body, status, message):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert refusal(client.post(path, content=content, headers=JSON)).says(status, message)


@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "\u202e‮", "x" * 90_000, "\x1b[2J", "' OR 1=1 --", '" AND "', "NEAR(a b)", "*", "()"]
)
def test_odd_texts_are_texts(client, text):
    assert client.post("/v1/embeddings", json={"input": text}).status_code == 200
    for mode in ("hybrid", "lexical"):
        assert client.post("/search", json={"query": text[:200], "mode": mode}).status_code == 200


@pytest.mark.parametrize("path", ["%00", "%ED%A0%80", "..%2F..%2Fetc%2Fpasswd", "%FF", "a" * 5000, "'%20OR%201=1"])
def test_odd_ids_find_nothing(client, path):
    assert client.get(f"/documents/{path}").status_code == 404


def test_a_query_of_many_words_is_answered(client, encoder, folder):
    with Service(encoder, folder) as roomy, TestClient(create_app(roomy)) as wide:
        words = " ".join(f"w{number}" for number in range(1500))[: roomy.limits.query_characters]
        for mode in ("hybrid", "lexical"):
            assert wide.post("/search", json={"query": words, "mode": mode}).status_code == 200


def test_documents_with_nul_or_no_id_are_refused(encoder, folder):
    with Service(encoder, folder) as writable, TestClient(create_app(writable, writable=True)) as client:
        for document, message in [
            ({"doc_id": "", "text": "x"}, "doc_id"),
            ({"doc_id": "a\0", "text": "x"}, "NUL"),
            ({"doc_id": "a", "text": "x\0"}, "NUL"),
            ({"doc_id": "a"}, "text: Field required"),
            ({"doc_id": "a", "text": "x", "metadata": []}, "metadata"),
        ]:
            assert refusal(client.post("/documents", json={"documents": [document]})).says(422, message)
        twice = [{"doc_id": "a", "text": "x"}, {"doc_id": "a", "text": "y"}]
        assert 400 <= client.post("/documents", json={"documents": twice}).status_code < 500


def test_bodies_over_the_limit_are_refused_unread(client):
    assert refusal(client.post("/v1/embeddings", json={"input": "x" * 100_001})).says(413, "over 100,000 bytes")

    def endless():
        for _ in range(200):
            yield b"x" * 1000

    assert refusal(client.post("/v1/embeddings", content=endless(), headers=JSON)).says(413, "over 100,000 bytes")


def test_only_json_that_says_so_is_read(client):
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert refusal(client.post("/search", content=b'{"query": "fox"}', headers={"content-type": kind})).says(
            415, "must be JSON"
        )
    wanted = {"content-type": "application/json; charset=utf-8"}
    assert client.post("/search", content=b'{"query": "fox"}', headers=wanted).status_code == 200


def test_unknown_paths_and_methods(client):
    assert refusal(client.get("/nothing")).says(404, "there is nothing at /nothing: see /docs")
    assert refusal(client.post("/search/", json={"query": "x"})).says(404, "nothing at /search/: try /search, or see /docs")
    assert refusal(client.get("/search")).says(405, "/search takes POST, not GET")
    assert client.get("/search").headers["allow"] == "POST"


def test_the_key_is_asked_for_everywhere_but_where_nothing_is_told(service):
    with TestClient(create_app(service, api_key="sésame")) as client:
        for path in ("/info", "/metrics", "/v1/models", "/documents/fox"):
            answer = client.get(path)
            assert refusal(answer).says(401, "Authorization: Bearer KEY")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert refusal(client.post("/search", json={"query": "x"})).says(401, "missing or wrong")
        for wrong in ("Bearer wrong", "Bearer ", "Basic sésame", "sésame", "Bearer sésam"):
            answer = client.get("/info", headers={"authorization": wrong.encode()})
            assert answer.status_code == 401
        for path in ("/", "/health", "/ready", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200
        assert client.get("/info", headers={"authorization": "Bearer sésame".encode()}).status_code == 200


def test_other_sites_and_rebound_names_are_shut_out(service):
    app = create_app(service, host_names=["localhost", "127.0.0.1"], origins=["https://friend.example"])
    with TestClient(app, base_url="http://localhost:8000") as client:
        assert client.get("/info").status_code == 200
        assert client.get("/info", headers={"origin": "http://localhost:8000"}).status_code == 200
        for host in ("evil.example", "localhost.evil.example", "[", "", "127.0.0.1:8000@evil.example"):
            assert client.get("/info", headers={"host": host}).status_code == 403, host
        for origin in ("http://evil.example", "null", "http://localhost:9", "http://["):
            assert refusal(client.post("/search", json={"query": "x"}, headers={"origin": origin})).says(
                403, "may not use this server"
            )
        answer = client.post("/search", json={"query": "x"}, headers={"origin": "https://friend.example"})
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "https://friend.example"
        preflight = client.options("/search", headers={"origin": "https://friend.example"})
        assert preflight.status_code == 204 and "POST" in preflight.headers["access-control-allow-methods"]


def test_a_full_queue_is_429_with_retry_after(encoder, folder):
    with Service(encoder, folder, limits=Limits(requests=0)) as service, TestClient(create_app(service)) as client:
        answer = client.post("/search", json={"query": "fox"})
        assert refusal(answer).says(429, "too many requests at once")
        assert answer.headers["retry-after"] == "1" and client.get("/health").status_code == 200


def test_an_encoder_that_fails_is_a_500_without_its_secrets(encoder, folder, monkeypatch):
    with Service(encoder, folder) as service, TestClient(create_app(service), raise_server_exceptions=False) as client:
        with monkeypatch.context() as patch:
            patch.setattr(encoder.model, "forward", lambda **inputs: 1 / 0)
            answer = client.post("/v1/embeddings", json={"input": "fox"})
            assert answer.status_code == 500 and "division" not in answer.text
        np.testing.assert_allclose(
            client.post("/embed", json={"inputs": ["fox"]}).json(), encoder.encode_documents(["fox"]), atol=1e-6
        )


def test_a_head_without_end_is_cut_off(service, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_S", 0.3)
    with running(create_app(service)) as address:
        place = ("127.0.0.1", int(address.rsplit(":", 1)[1]))
        for piece in (b"a-header: of many\r\n", b"one-that-never-ends"):
            with socket.create_connection(place) as endless:
                endless.sendall(b"GET /health HTTP/1.1\r\n" + piece * (connection.MOST_HEAD_BYTES // len(piece) + 1))
                assert endless.recv(100).startswith(b"HTTP/1.1 400"), piece
        for begun in (b"", b"GET /health HTTP/1.1\r\nx:", b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGET"):
            with socket.create_connection(place) as slow:
                slow.settimeout(10)
                slow.sendall(begun)
                answers = b"".join(iter(lambda: slow.recv(1000), b""))  # until the server hangs up
                assert answers.count(b"HTTP/1.1 200") == begun.count(b"\r\n\r\n"), begun
