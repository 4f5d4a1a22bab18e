"""Connections that ask or read in bad faith: each is bounded, and those that behave are answered meanwhile."""

import contextlib
import json
import resource
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.records import Document
from ragvec.retrieve.rerank import BLOCK
from ragvec.serve import Limits, Service, connection, create_app, run
from ragvec.serve.limits import SMALL_BODY
from tests.serving import wait_until
from tests.test_page import running
from tests.tiny import TEXTS

LARGE = 32 << 20
DOCUMENTS = [Document(str(number), f"{text} {number}") for number, text in enumerate(TEXTS * 12)]


@pytest.fixture(scope="module")
def encoder(tiny_decoder) -> Encoder:
    return Encoder.load(tiny_decoder)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("connections") / "index"
    with Index.create(path, encoder=encoder) as index:
        index.add(DOCUMENTS)
    return path


@pytest.fixture(scope="module")
def service(encoder, folder):
    with Service(encoder, folder) as service:
        yield service


@pytest.fixture
def address(service):
    """Of a server in a thread."""
    with running(create_app(service)) as url:
        yield ("127.0.0.1", int(url.rsplit(":", 1)[1]))


def head(line: str, *headers: str) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "host: localhost", *headers, "", ""]).encode()


def post(path: str, body: dict) -> bytes:
    content = json.dumps(body).encode()
    return head(f"POST {path}", "content-type: application/json", f"content-length: {len(content)}") + content


def connect(address) -> socket.socket:
    client = socket.create_connection(address)
    client.settimeout(30)
    return client


def all_of(client: socket.socket) -> bytes:
    """What a server sends until it hangs up."""
    read = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(65536):
            read += piece
    return bytes(read)


def resident_mib() -> float:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def status(address, path: str = "/health") -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{address[1]}{path}", timeout=30) as response:
        return response.status


@pytest.mark.parametrize("path", ["/", "/health", "/documents/0", "/nothing", "/metrics", "/proof"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
def test_a_body_that_nobody_wants_is_not_waited_for(address, method, path):
    lengths = {f"content-length: {SMALL_BODY + 1}": b"413", "content-length: 9": b"", "transfer-encoding: chunked": b""}
    for length, answer in lengths.items():
        with connect(address) as client:
            client.sendall(head(f"{method} {path}", length))  # and nothing more
            said = all_of(client)
            assert said.startswith(b"HTTP/1.1 " + answer) and b"connection: close" in said, said[:200]
            assert said[9:10] in b"24"


@pytest.mark.parametrize("key", [None, "secret"], ids=["too long", "wrong key"])
def test_a_client_that_writes_all_before_it_reads_is_told_why(service, key):
    with running(create_app(service, api_key=key)) as url:
        sent = head("POST /search", "content-type: application/json", f"content-length: {LARGE}")
        with connect(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as client:
            client.sendall(sent + b"x" * LARGE)
            said = all_of(client)
    assert (b"the API key is missing or wrong" if key else b"the body is over 8,388,608 bytes") in said


def test_unfinished_bodies_take_no_memory(address):
    clients = [connect(address) for _ in range(20)]
    try:
        before = resident_mib()
        for number, client in enumerate(clients):
            with contextlib.suppress(ConnectionError, TimeoutError):
                client.settimeout(0.5)
                client.sendall(head(f"POST {'/' if number % 2 else '/health'}", "transfer-encoding: chunked"))
                client.sendall(b"%x\r\n" % LARGE + b"x" * (LARGE - 1))
        assert resident_mib() - before < LARGE / 2**20 + 16  # what is sent is made here, too
        assert status(address) == 200
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("piece", [b"trailer: x\r\n", b"x" * 12], ids=["many", "one"])
def test_trailers_are_bounded(address, piece):
    with connect(address) as client:
        client.sendall(head("POST /search", "content-type: application/json", "transfer-encoding: chunked"))
        client.sendall(b"2\r\n{}\r\n0\r\na: b")
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                client.sendall(piece * 1000)
            pytest.fail("12 MB of trailers were taken")


@pytest.mark.parametrize("extra", [b"\r\n", b"1;" + b"e" * 100 + b"\r\nx\r\n"], ids=["line ends", "extensions"])
def test_what_is_no_content_is_bounded_or_counts_for_nothing(address, extra):
    with connect(address) as client, contextlib.suppress(ConnectionError):
        client.sendall(head("GET /health"))
        for _ in range(100):
            client.sendall(extra * (SMALL_BODY // len(extra)))
        assert all_of(client).count(b" 400 ") == 1


def test_requests_that_wait_on_one_connection_are_few(address):
    with connect(address) as client:
        client.sendall(head("GET /health") * connection.MOST_PIPELINED)
        read = bytearray()
        while read.count(b"HTTP/1.1 200") < connection.MOST_PIPELINED:
            read += client.recv(65536)
    with connect(address) as client:
        client.sendall(head("GET /health") * 5000)
        assert all_of(client).count(b"HTTP/1.1 200") <= connection.MOST_PIPELINED + 1


def test_a_large_body_waits_for_its_turn_outside(address, service):
    with connect(address) as client:
        client.sendall(post("/search", {"query": "fox"}) + head("POST /search", f"content-length: {4 * SMALL_BODY}"))
        with contextlib.suppress(ConnectionError):
            client.sendall(b"x" * 4 * SMALL_BODY)
        assert all_of(client)[9:10] in b"24"
    assert status(address) == 200


async def large_answer(scope, receive, send) -> None:
    """An application whose answer fits into no system's buffers."""
    head = [(b"content-length", str(LARGE).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": bytes(LARGE)})


def unread(address) -> socket.socket:
    """A client that asks for a large answer and reads its first bytes alone."""
    client = connect(address)
    client.sendall(head("GET /", "connection: close"))
    assert client.recv(10)
    return client


def test_a_client_that_does_not_read_is_hung_up_on(monkeypatch):
    monkeypatch.setattr(connection, "READ_S", 0.5)
    with running(large_answer) as url:
        place = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        with unread(place) as dead, unread(place) as slow:
            read = 0
            while read < LARGE:  # slowly, but all the time
                read += len(slow.recv(1 << 20))
                time.sleep(0.02)
            assert len(all_of(dead)) < LARGE


def test_unread_answers_are_bounded_together(monkeypatch):
    monkeypatch.setattr(connection, "MOST_UNREAD_BYTES", 3 * LARGE)
    with running(large_answer) as url:
        place = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        clients = [unread(place) for _ in range(5)]
        whole = [len(all_of(client)) > LARGE for client in clients]
        for client in clients:
            client.close()
    assert whole == [False, False, True, True, True], "the oldest gave way"


def test_the_one_that_dawdles_longest_gives_way_to_a_new_client(address, monkeypatch):
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 5)
    clients = []
    try:
        for _ in range(8):
            clients.append(connect(address))
            clients[-1].sendall(head("POST /search", "content-length: 100")[:40])
            time.sleep(0.02)
        assert status(address) == 200
        for gone in clients[:4]:
            assert all_of(gone) == b""
        clients[-1].settimeout(0.2)
        with pytest.raises(TimeoutError):
            clients[-1].recv(1)
    finally:
        for client in clients:
            client.close()


def test_no_connection_is_taken_from_those_who_wait_for_the_server(encoder, folder, monkeypatch):
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 2)
    asked, go = threading.Semaphore(0), threading.Event()
    encode_tokens, on_message_complete = encoder.encode_tokens, connection.Connection.on_message_complete

    def slow(*words, **options):
        go.wait(30)
        return encode_tokens(*words, **options)

    def told(self):
        on_message_complete(self)
        asked.release()

    monkeypatch.setattr(encoder, "encode_tokens", slow)
    monkeypatch.setattr(connection.Connection, "on_message_complete", told)
    with Service(encoder, folder) as service, running(create_app(service)) as url:
        place = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        with connect(place) as first, connect(place) as second:
            for client in (first, second):
                client.sendall(post("/search", {"query": "fox", "rerank": "maxsim"}))
                assert asked.acquire(timeout=30)
            with connect(place) as third:
                said = all_of(third)
            assert said.startswith(b"HTTP/1.1 429 ") and b"retry-after: 1" in said and b"too many connections" in said
            go.set()
            assert first.recv(100).startswith(b"HTTP/1.1 200") and second.recv(100).startswith(b"HTTP/1.1 200")


def test_files_for_all_connections_may_be_opened(monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        run._allow_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(2 * connection.MOST_CONNECTIONS, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"GET /health HTTP/1.0\r\n\r\n", b"HTTP/1.1 200"),
        (b"GET http://localhost/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", b"HTTP/1.1 200"),
        (b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n", b"HTTP/1.1 4"),
        (b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n", b"HTTP/1.1 4"),
        (head("GET /search", "connection: Upgrade", "upgrade: websocket", "sec-websocket-key: x"), b"HTTP/1.1 4"),
        (head("POST /search", "content-length: 99999999", "expect: 100-continue"), b"HTTP/1.1 413"),
        (head("GET /", "content-length: 9", "expect: 100-continue"), b"HTTP/1.1 200"),
        (head("POST /search", "content-length: 5", "transfer-encoding: chunked"), b"HTTP/1.1 4"),
        (head("POST /search", "content-length: 5", "content-length: 6"), b"HTTP/1.1 4"),
    ],
    ids=lambda value: value[:24].decode(),
)
def test_odd_requests_are_answered_or_refused_at_once(address, request_, answer):
    with connect(address) as client:
        client.sendall(request_)
        assert client.recv(65536).startswith(answer)
    assert status(address) == 200


def test_reranking_ends_when_its_client_leaves(encoder, folder, monkeypatch):
    whole, blocks, go = encoder.encode_tokens, [], threading.Event()

    def counted(texts, **options):
        blocks.append(len(texts))
        if len(blocks) == 2:  # the query's own, and the first block
            go.wait(30)
        return whole(texts, **options)

    monkeypatch.setattr(encoder, "encode_tokens", counted)
    with Service(encoder, folder) as service, running(create_app(service)) as url:
        place = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        with connect(place) as client:
            client.sendall(post("/search", {"query": "fox", "rerank": "maxsim", "rerank_depth": 60}))
            wait_until(lambda: len(blocks) == 2)
            assert status(place, "/documents/0") == 200, "another thread is free"
        wait_until(lambda: "ragvec_disconnects_total 1.0" in service.metrics.text().decode())
        go.set()
        service._rerankers.submit(lambda: None).result(30)  # its thread is free again
        assert blocks == [1, BLOCK]


def test_reranking_has_a_deadline(encoder, folder):
    with (
        Service(encoder, folder, limits=Limits(rerank_seconds=0)) as service,
        running(create_app(service)) as url,
        connect(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as client,
    ):
        client.sendall(post("/search", {"query": "fox", "rerank": "maxsim"}))
        said = client.recv(65536)
    assert said.startswith(b"HTTP/1.1 429") and b"retry-after: 1" in said and b"smaller rerank_depth" in said


def test_scoring_again_is_bounded(address):
    for asked, status in (({"rerank_depth": 201}, 422), ({"k": 101, "offset": 100}, 200)):  # of many hits only the first 50
        with connect(address) as client:
            client.sendall(post("/search", {"query": "fox", "rerank": "maxsim", **asked}))
            said = client.recv(65536)
            assert said.startswith(f"HTTP/1.1 {status}".encode())
            assert (b"201 hits would be scored again: ask for at most 200" in said) == (status == 422)
