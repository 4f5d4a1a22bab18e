"""Servers searched as one: the hits are those of one index over all documents, whatever lies where."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn

from ragvec.encoder import Encoder
from ragvec.errors import WrongInput, WrongUsage
from ragvec.index import Index
from ragvec.records import Hit, Passage
from ragvec.remote import Server, ServerFailed, Together, server
from ragvec.retrieve import Request, Retriever, open_retriever
from ragvec.retrieve.lookup import metadata_fields, read_document
from ragvec.serve import Service, create_app
from ragvec.serve.run import bind, server_config
from ragvec.serve.source import choose_index
from tests.test_cli_index import ragvec
from tests.test_index import put
from tests.test_joint import BORDERS, FURTHER, SIGNED, corpus
from tests.test_retrieve_pages import WAYS, asked

KEY = "a-key"


@contextmanager
def served(encoder: Encoder, places: Any, **options: Any) -> Iterator[str]:
    """The address of a server of these in this process: the application and the sockets of `ragvec serve`."""
    listener = bind("127.0.0.1", 0)
    listener.listen()
    with Service(encoder, places) as service:
        running = uvicorn.Server(server_config(create_app(service, **options)))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()
            listener.close()


@pytest.fixture(scope="module")
def encoder(tiny_decoder: Path) -> Encoder:
    return Encoder.load(tiny_decoder)


def wide(rows: np.ndarray) -> np.ndarray:
    """Vectors as long as the encoder's."""
    return np.pad(rows, ((0, 0), (0, 32 - rows.shape[1])))


def made(folder: Path, encoder: Encoder, passages: list[Passage], rows: np.ndarray) -> Path:
    with Index.create(folder, encoder=encoder, language="english") as index:
        put(index, passages, wide(rows))
    return folder


@pytest.fixture(scope="module")
def parts(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One index of a whole corpus, and three of its parts: the last part's passages are longer than the others'."""
    base = tmp_path_factory.mktemp("remote")
    drawn, near = corpus()
    drawn = [replace(one, text=f"{one.text} {'word1 filler ' * 3 * (one.metadata['part'] == 2)}".strip()) for one in drawn]
    rows = {f"part-{n}": slice(*ends) for n, ends in enumerate(zip(BORDERS, BORDERS[1:], strict=False))}
    return {name: made(base / name, encoder, drawn[here], near[here]) for name, here in {"whole": slice(None), **rows}.items()}


@pytest.fixture(scope="module")
def both(parts: dict[str, Path], encoder: Encoder) -> Iterator[tuple[Retriever, Retriever]]:
    """A retriever over the whole, and one over a folder here and two servers, of which one wants a key."""

    def lengths(query: str, texts: list[str]) -> np.ndarray:
        return np.array([len(text) for text in texts], dtype=np.float32)

    with (
        served(encoder, parts["part-1"]) as first,
        served(encoder, parts["part-2"], api_key=KEY) as second,
        Index.open(parts["whole"]) as whole,
        Together([Server(first), Server(second, KEY)], Index.open(parts["part-0"])) as together,
    ):
        yield Retriever(whole, reranker=lengths, rerank="length"), Retriever(together, reranker=lengths, rerank="length")


@pytest.fixture(scope="module")
def lone(parts: dict[str, Path], encoder: Encoder) -> Iterator[str]:
    """The address of a server of one part."""
    with served(encoder, parts["part-1"]) as address:
        yield address


@pytest.mark.parametrize("way", [*WAYS, *FURTHER], ids=lambda way: " ".join(f"{name}={way[name]}" for name in way) or "hybrid")
def test_hits_are_those_of_one_index_over_all_documents(both: tuple[Retriever, Retriever], way: dict) -> None:
    whole, together = (one if "rerank" in way else Retriever(one.index) for one in both)
    found = 0
    for seed in range(4):
        query, vector = asked(seed)
        request = Request(
            query=SIGNED[seed] if way.get("syntax") else query,
            vector=None if way.get("mode") == "lexical" else wide(vector[None])[0],
            k=150,
            offset=seed,
            **way,
        )
        same(together.answer(request), whole.answer(request))
        found += len(whole.answer(request))
    assert found > 4


def same(hits: list[Hit], expected: list[Hit]) -> None:
    """Hit for hit, but for what is beyond float32: scores by words are computed anew, to its last digit or two."""
    assert [hit.passage_id for hit in hits] == [hit.passage_id for hit in expected]
    for hit, other in zip(hits, expected, strict=True):
        assert hit.score == pytest.approx(other.score, rel=2e-6)
        assert hit.bm25 == (other.bm25 if other.bm25 is None else pytest.approx(other.bm25, rel=2e-6))
        alike = replace(hit, score=other.score, bm25=other.bm25, index=None)
        assert alike == replace(other, index=None), "ranks, similarity to the last digit, and whether it is weak"


def test_hits_say_where_they_are_from(both: tuple[Retriever, Retriever]) -> None:
    together = both[1].index
    hits = Retriever(together).answer(Request(vector=wide(asked(1)[1][None])[0], k=600))
    addresses = [part.name for part in together.servers]
    assert {(hit.metadata["part"], hit.index) for hit in hits} == {(0, "part-0"), (1, addresses[0]), (2, addresses[1])}
    assert metadata_fields(together) == ["even", "part", "price"] and len(together) == 600
    assert [passage.doc_id for passage in read_document(together, "150")] == ["150"] * 3
    assert [one["passages"] for one in together.describe()["indices"]] == [249, 201, 150]
    with pytest.raises(WrongInput, match="no field yaer; there are even, part, price"):
        Retriever(together).retrieve("x", mode="lexical", where="yaer = 1")


def test_a_commit_is_seen_and_nothing_is_read_of_two_states(encoder: Encoder, tmp_path: Path) -> None:
    drawn, near = corpus()
    folder = made(tmp_path / "one", encoder, drawn[:30], near[:30])
    with served(encoder, folder, writable=True) as address, Together([Server(address)]) as together:
        retriever = Retriever(together)
        assert retriever.retrieve("brandnew", mode="lexical") == []
        with Index.open(folder) as index:
            put(index, [Passage("new", "new", "brandnew words")], wide(near[30:31]))
        [hit] = retriever.retrieve("brandnew", mode="lexical")
        assert (hit.doc_id, hit.index, len(together)) == ("new", None, 31)
        with Index.open(folder) as index:
            index.delete(["new"])
        assert retriever.retrieve("brandnew", mode="lexical") == []


def test_a_server_of_servers_answers_as_one_index_does(parts, encoder, capsys) -> None:
    query = {"query": "word1 word2", "k": 20, "where": "part in $parts", "where_values": {"parts": [0, 2]}}
    with served(encoder, parts["part-2"], api_key=KEY) as last, served(encoder, [parts["part-0"], parts["part-1"]]) as first:
        places = choose_index([first, Server(last, KEY)])
        with served(encoder, places) as front, served(encoder, parts["whole"]) as whole:
            told, expected = (post(address, "/search", query) for address in (front, whole))
            assert [hit["passage_id"] for hit in told["hits"]] == [hit["passage_id"] for hit in expected["hits"]]
            assert {hit["index"] for hit in told["hits"]} == {f"{first} part-0", last}
            info = get(front, "/info")["index"]
            assert (info["name"], info["passages"]) == ("2 servers", 600) and get(front, "/ready") == {"status": "ready"}
            assert get(front, "/documents/150")["doc_id"] == "150"
            with pytest.raises(
                ServerFailed, match=f"{front} answers 404 .this server has no index of its own: name the servers"
            ):
                Together([Server(front)])
        code, out, err = ragvec(
            capsys, "search", "word1 word2", "-i", first, "-i", last, "--api-key", KEY, "--mode", "lexical", "-k", "20"
        )
        assert (code, err) == (0, "") and len(out.splitlines()) == 20
        with pytest.raises(WrongInput, match="what other servers serve is read and not written to"):
            choose_index([first], writable=True)


def test_python_opens_servers_by_the_same_door(parts, encoder, lone) -> None:
    retriever = open_retriever([str(parts["part-0"]), lone])
    assert retriever.encoder.fingerprint == encoder.fingerprint, "found by the folder here"
    assert retriever.retrieve("word1 word2", 100)
    with pytest.raises(WrongInput, match="names no encoder"):
        open_retriever(lone)
    alone = open_retriever(Server(lone), encoder=encoder.source)
    assert alone.retrieve("word1", where="part = 1")
    for one in (retriever, alone):
        one.index.close()


def test_what_cant_be_searched_together_is_one_line(parts, encoder, tmp_path) -> None:
    with served(encoder, parts["part-1"]) as address:
        Index.create(tmp_path / "other", dimension=32, fingerprint="f" * 64).close()
        with Index.open(tmp_path / "other") as other, pytest.raises(WrongInput) as error:
            Together([Server(address)], other)
        assert str(error.value).startswith(f"the folders here and {address} can't be searched together, their encoder")
        with Index.create(tmp_path / "german", encoder=encoder, language="german") as german:
            put(german, [Passage("1", "1", "Wörter")], np.ones((1, 32), np.float32))
            with pytest.raises(WrongInput, match=f"as german in the folders here, as english in {address}: bring one"):
                Together([Server(address)], german)
        with pytest.raises(WrongInput, match="is named twice"):
            Together([Server(address), Server(f"{address}/")])
    with pytest.raises(ServerFailed, match=rf"{address} does not answer \(Connection refused\)"):
        Together([Server(address)])
    with served(encoder, parts["part-1"], api_key=KEY) as address:
        for key, said in ((None, "wants an API key"), ("wrong", "refuses the API key")):
            with pytest.raises(ServerFailed, match=f"{address} {said} .401."):
                Together([Server(address, key)])
    for address in ("ftp://x", "http://user:secret@x", "http://x?a=b", "http://x y"):
        with pytest.raises(WrongUsage) as error:
            Server(address)
        assert "secret" not in str(error.value) and "give it like http://host:8000" in str(error.value)
    assert KEY not in repr(Server("http://x", KEY))


def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Any:
    """A server that answers every request so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def reply(handler: BaseHTTPRequestHandler, body: Any, *, status: int = 200, **headers: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"content-length": str(len(data)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


ABOUT = {
    "state": "0", "encoder_source": "bundled", "fingerprint": "f" * 64, "dimension": 4, "query_instruction": "",
    "document_instruction": "", "normalized": True, "language": "english", "documents": 3, "passages": 3, "vectors": 3,
    "bytes": 9, "deleted_rows": 0, "fields": [],
}  # fmt: skip
COUNTS = {"passages": 3, "indexed": 3, "tokens": {"words": 9, "title": 0}, "frequencies": {"words": {"fox": 1}, "title": {}}}
PASSAGE = {"passage_id": "p", "doc_id": "d", "text": "fox", "title": "", "metadata": {}}
GOOD = {
    "/shard": ABOUT,
    "/shard/words": {**COUNTS, "further": []},
    "/shard/lexical": {"ids": [[1]], "scores": [[2.0]]},
    "/shard/near": {"ids": [[1]], "scores": [[0.5]]},
    "/shard/passages": {"passages": [PASSAGE]},
}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/shard", b"<html>"),
        ("/shard", b"NaN"),
        ("/shard", []),
        ("/shard", {**ABOUT, "dimension": 0}),
        ("/shard", {**ABOUT, "fields": [1]}),
        ("/shard", {**ABOUT, "passages": -1}),
        ("/shard", {**ABOUT, "language": "klingon"}),
        ("/shard", {name: ABOUT[name] for name in ABOUT if name != "state"}),
        ("/shard/words", {**COUNTS, "further": [], "indexed": -3}),
        ("/shard/words", {**COUNTS, "further": [5]}),
        ("/shard/words", {**COUNTS, "further": [], "frequencies": {"words": {"fox": 7}, "title": {}}}),
        ("/shard/words", {**COUNTS, "further": [], "frequencies": {"words": []}}),
        ("/shard/lexical", {"ids": [[-1]], "scores": [[1.0]]}),
        ("/shard/lexical", {"ids": [[2**60]], "scores": [[1.0]]}),
        ("/shard/lexical", {"ids": [[1, 1]], "scores": [[1.0, 1.0]]}),
        ("/shard/lexical", {"ids": [[1]], "scores": [["high"]]}),
        ("/shard/lexical", {"ids": [[*range(99)]], "scores": [[1.0] * 99]}),
        ("/shard/near", {"ids": [], "scores": []}),
        ("/shard/near", {"ids": [[1]], "scores": [[1e400]]}),
        ("/shard/passages", {"passages": [PASSAGE] * 2}),
        ("/shard/passages", {"passages": [{**PASSAGE, "metadata": 5}]}),
        ("/shard/passages", {"passages": [{**PASSAGE, "text": None}]}),
        ("/shard/passages", b'{"passages": ' + b"[" * 5000),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_answers_of_another_server_are_not_believed(path: str, body: Any) -> None:
    answers = {**GOOD, path: body}
    with answering(lambda handler: reply(handler, answers[handler.path])) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{http.server_port}"
        with pytest.raises(ServerFailed) as error, Together([Server(address)]) as together:
            mode = "dense" if path == "/shard/near" else "lexical"
            vector = np.ones(4, np.float32) if mode == "dense" else None
            Retriever(together).answer(Request(query="fox", vector=vector, mode=mode, k=10))
        http.shutdown()
    assert str(error.value).startswith(f"{address} ") and "\n" not in str(error.value)


def test_good_answers_are_believed() -> None:
    """Else the test before would find nothing."""
    with answering(lambda handler: reply(handler, GOOD[handler.path])) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        with Together([Server(f"http://127.0.0.1:{http.server_port}")]) as together:
            [hit] = Retriever(together).retrieve("fox", mode="lexical")
        http.shutdown()
    assert (hit.doc_id, hit.score) == ("d", 2.0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda handler: reply(handler, b"", status=307, location="http://elsewhere/shard"), "sends elsewhere (307)"),
        (lambda handler: reply(handler, {"error": {"message": f"no {KEY}\n"}}, status=500), "answers 500 (no …)"),
        (lambda handler: (reply(handler, b"{", **{"content-length": "1000"}), time.sleep(3)), "has not answered within 1 s"),
        (lambda handler: (reply(handler, b"{}", **{"content-length": "9"}), hang_up(handler)), "hung up"),
        (lambda handler: hang_up(handler), "hung up"),
        (lambda handler: reply(handler, b"x" * 3000), "answers with over"),
    ],
    ids=["redirect", "error", "slow", "cut", "closed", "large"],
)
def test_a_server_that_fails_is_named(answer, said, monkeypatch) -> None:
    monkeypatch.setattr(server, "PATIENCE_S", 1.0)
    if said.startswith("answers with over"):
        monkeypatch.setattr(server, "MOST_ANSWER", 2000)
    asked_for = []
    with answering(lambda handler: (asked_for.append(handler.path), answer(handler))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        with pytest.raises(ServerFailed) as error:
            Together([Server(f"http://127.0.0.1:{http.server_port}", KEY)])
        http.shutdown()
    assert said in str(error.value) and KEY not in str(error.value) and asked_for == ["/shard"]


def post(address: str, path: str, body: dict, **headers: str) -> Any:
    return call(address, "POST", path, body, headers)


def get(address: str, path: str) -> Any:
    return call(address, "GET", path, None, {})


def call(address: str, method: str, path: str, body: dict | None, headers: dict[str, str]) -> Any:
    from http.client import HTTPConnection

    connection = HTTPConnection(address.removeprefix("http://"), timeout=60)
    connection.request(method, path, json.dumps(body) if body else None, {"content-type": "application/json", **headers})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/shard/words", {"query": "x" * 9000}),
        ("/shard/near", {"vectors": "AAAA", "k": 3}),
        ("/shard/near", {"vectors": "!", "k": 3}),
        ("/shard/near", {"vectors": "", "k": 10**6}),
        ("/shard/near", {"vectors": ""}),
        ("/shard/near", {"vectors": "AACAfw==" * 32, "k": 3}),
        ("/shard/near", {"vectors": "AAAA" * 128, "k": 3, "allowed": {"within": "+x" * 5000}}),
        ("/shard/passages", {"ids": [-1]}),
        ("/shard/passages", {"ids": [1], "doc_id": "x"}),
        ("/shard/passages", {"places": [10**9]}),
        ("/shard/passages", {"ids": [10**9]}),
        ("/shard/lexical", {"query": "word1", "k": 3, "counts": {}}),
        ("/shard/lexical", {"query": "word1", "k": 3, "counts": GOOD["/shard/words"], "allowed": {"where": "nothing = 1"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_requests_are_refused_by_name(path, body, lone) -> None:
    error = post(lone, path, body)["error"]
    assert error["code"] in (400, 404, 422) and error["message"]
    assert post(lone, "/shard/words", {"query": "x", "state": "old"})["error"]["code"] == 409
