"""`POST /ask`: sources, text as it comes, an end; bounded, and no generation goes on for a client that has left."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ragvec.answers import Endpoint
from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.serve import Limits, Service, create_app
from ragvec.serve.ask_routes import Asking
from tests.endpoints import Stub, stubbing
from tests.serving import serving, wait_until
from tests.test_ask import DOCUMENTS, LIGHT, by_light
from tests.test_page import running

ASKED = {"question": LIGHT, "mode": "lexical"}


@pytest.fixture(scope="module")
def service(tiny_decoder, tmp_path_factory):
    path = tmp_path_factory.mktemp("serve-ask") / "my-index"
    encoder = Encoder.load(tiny_decoder)
    with Index.create(path, encoder=encoder) as index:
        index.add(DOCUMENTS)
    with Service(encoder, path, limits=Limits(query_characters=100, k=50)) as service:
        yield service


@contextmanager
def asking(service, stub, *, most: int = 4, api_key: str | None = None) -> Iterator[tuple[int, Asking]]:
    """A server that asks the stub; its port, and what asks."""
    with (
        Asking(Endpoint(stub.url, api_key="sk-secret"), most=most) as asks,
        running(create_app(service, asking=asks, api_key=api_key)) as address,
    ):
        yield int(address.rsplit(":", 1)[1]), asks


@pytest.fixture
def stub() -> Iterator[Stub]:
    with stubbing(by_light) as stub:
        yield stub


def post(port: int, body: Any, **headers: str) -> http.client.HTTPResponse:
    """The response to a question, as soon as its head is there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/ask", json.dumps(body), {"content-type": "application/json", **headers})
    response = connection.getresponse()
    connection.sock and connection.sock.close()
    return response


def events(response: http.client.HTTPResponse) -> list[tuple[str, Any]]:
    """All events of a response."""
    blocks = response.read().decode().removesuffix("\n\n").split("\n\n")
    parts = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    return [(part["event"], json.loads(part["data"])) for part in parts]


def test_an_answer_comes_as_events(service, stub):
    with asking(service, stub) as (port, _):
        with post(port, ASKED) as response:
            assert response.status == 200 and response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert response.headers["cache-control"] == "no-store"
            (first, told), *tokens, last = events(response)
        assert first == "sources" and told["found"] is True
        assert [(one["number"], one["doc_id"], one["file"], one["page"]) for one in told["sources"]] == [
            (1, "photosynthesis", "plants.pdf", 3)
        ]
        assert {name for name, _ in tokens} == {"token"}
        assert [data["text"] for _, data in tokens] == ["They use ", "light ", "[1]", ". Not so [99]."]
        assert last == ("done", {"cited": [1], "cut": False})
        assert stub.chats[0].headers["authorization"] == "Bearer sk-secret"


def test_the_encoder_takes_part(service, stub):
    stub.chat = lambda call: call.stream("So.")
    with asking(service, stub) as (port, _), post(port, {"question": "quick brown fox jumps", "k": 1}) as response:
        assert [one["doc_id"] for one in events(response)[0][1]["sources"]] == ["fox"]


def test_weak_matches_are_not_asked_about(service, stub):
    with asking(service, stub) as (port, _), post(port, {**ASKED, "question": "양자 컴퓨터의 오류 정정은?"}) as response:
        assert events(response) == [
            ("sources", {"found": False, "sources": []}),
            ("token", {"text": "문서에 답이 없습니다."}),
            ("done", {"cited": [], "cut": False}),
        ]
    assert not stub.calls


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 422, "question: Field required"),
        ({"question": " "}, 422, "is empty"),
        ({"question": "x" * 101}, 422, "101 characters"),
        ({**ASKED, "k": 51}, 422, "k is 51"),
        ({**ASKED, "where": "nothing = 1"}, 400, "nothing"),
        ({**ASKED, "where_values": {"a": 1}}, 422, "no filter"),
        ({**ASKED, "model": "other"}, 422, "model: there is no such field"),
    ],
)
def test_wrong_questions_take_no_place(service, stub, body, status, said):
    with asking(service, stub, most=1) as (port, _):
        for _ in range(2):
            with post(port, body) as response:
                assert response.status == status and said in json.loads(response.read())["error"]["message"]
        with post(port, ASKED) as response:
            assert events(response)[-1][0] == "done"


def test_errors_come_as_an_event_and_do_not_say_where_the_endpoint_is(service, stub, caplog):
    stub.chat = lambda call: call.stream("Half", finish=None, done=False)
    with asking(service, stub) as (port, _):
        with post(port, ASKED) as response:
            first, second, (name, told) = events(response)
        assert (first[0], second) == ("sources", ("token", {"text": "Half"}))
        message = told["error"].pop("message")
        assert (name, told) == ("error", {"error": {"type": "server_error", "code": 503}})
        assert message.startswith("the language model's endpoint broke off in the midst of its answer")
        stub.chat = lambda call: call.reply(401, {"error": {"message": "sk-secret is wrong"}})
        with post(port, ASKED) as response:
            said = "the language model's endpoint refuses the API key (401): give one that it knows"
            assert events(response)[-1][1]["error"]["message"] == said
    assert stub.url in caplog.text and "sk-secret" not in caplog.text


def falling_silent(stub: Stub) -> threading.Event:
    """Have the endpoint say a word and no more; the event is set once it is hung up on."""
    gone = threading.Event()

    def silent(call):
        call.begin()
        call.event({"choices": [{"delta": {"content": "One"}}]})
        if call._handler.connection.recv(1) == b"":
            gone.set()

    stub.chat = silent
    return gone


def test_answers_at_once_are_bounded_and_a_client_that_leaves_makes_room(service, stub):
    gone = falling_silent(stub)
    with asking(service, stub, most=1) as (port, _):
        response = post(port, ASKED)
        wait_until(lambda: stub.chats)
        with post(port, ASKED) as refused:
            assert refused.status == 429 and refused.headers["retry-after"] == "5"
            assert "ask again later" in json.loads(refused.read())["error"]["message"]
        response.close()
        assert gone.wait(10), "the endpoint went on"
        stub.chat = by_light

        def answered() -> bool:
            with post(port, ASKED) as response:
                return response.status == 200 and events(response)[-1][0] == "done"

        wait_until(answered)


def test_the_end_of_a_server_hangs_up(service, stub):
    gone = falling_silent(stub)
    with asking(service, stub) as (port, asks), post(port, ASKED) as response:
        wait_until(lambda: stub.chats)
        asks.close()
        *_, (name, told) = events(response)
        said = "the language model's endpoint is asked no more: the server ends"
        assert (name, told["error"]["message"]) == ("error", said) and gone.wait(10)


def test_only_where_a_model_is_configured(service, stub):
    with running(create_app(service)) as address:
        port = int(address.rsplit(":", 1)[1])
        with post(port, ASKED) as response:
            assert response.status == 404
            assert "start it with `ragvec serve --ask`" in json.loads(response.read())["error"]["message"]
        assert get(port, "/info")["asks"] is False and "/ask" not in get(port, "/openapi.json")["paths"]
    with asking(service, stub) as (port, _):
        assert get(port, "/info")["asks"] is True and "/ask" in get(port, "/openapi.json")["paths"]


def test_it_needs_the_servers_key(service, stub):
    with asking(service, stub, api_key="open") as (port, _):
        with post(port, ASKED) as response:
            assert response.status == 401
        with post(port, ASKED, authorization="Bearer open") as response:
            assert events(response)[-1][0] == "done"
    assert stub.chats[0].headers["authorization"] == "Bearer sk-secret", "the client's key went to the endpoint"


def get(port: int, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    with connection.getresponse() as response:
        read = json.loads(response.read())
    connection.close()
    return read


@pytest.mark.slow
def test_a_served_index_is_asked(tiny_decoder, tmp_path, stub):
    with Index.create(tmp_path / "ragvec-index", encoder=Encoder.load(tiny_decoder)) as index:
        index.add(DOCUMENTS)
    environment = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": "sk-secret", "RAGVEC_ASK": "1"}
    with serving(cwd=tmp_path, environment=environment) as server:
        with post(server.port, ASKED) as response:
            assert events(response)[-1] == ("done", {"cited": [1], "cut": False})
        assert server.stop() == 0
