"""The client of an OpenAI-compatible endpoint against a real HTTP server: streams, errors, and where the key goes."""

import socket
import threading
import time

import pytest

from ragvec.answers import Endpoint, EndpointFailed
from ragvec.answers.stream import MOST_CHARACTERS, Stream
from ragvec.errors import WrongInput
from tests.endpoints import stubbing

KEY = "sk-sesame-1234"


@pytest.fixture
def stub():
    with stubbing() as stub:
        yield stub


def told(stub, **options) -> tuple[str, Stream]:
    stream = Stream(Endpoint(stub.url, **options), "Question?")
    return "".join(stream), stream


def failing(stub, *, url: str = "", **options) -> str:
    with pytest.raises(EndpointFailed) as raised:
        "".join(Stream(Endpoint(url or stub.url, **options), "Question?"))
    assert stub.url not in raised.value.public and "/v1" in raised.value.public
    return str(raised.value)


def failure(stub, **options) -> str:
    with pytest.raises(EndpointFailed) as raised:
        told(stub, **options)
    error = raised.value
    assert "\n" not in str(error) and str(error).startswith(f"{stub.url} ") and stub.url not in error.public
    assert KEY not in str(error)
    return str(error).removeprefix(f"{stub.url} ")


def test_an_answer_comes_in_pieces(stub):
    stub.chat = lambda call: call.stream("Pl", "ants ", "빛", " [1].")
    text, stream = told(stub, api_key=KEY, model="m")
    assert text == "Plants 빛 [1]." and not stream.cut
    [call] = stub.calls
    assert call.path == "/v1/chat/completions" and call.headers["authorization"] == f"Bearer {KEY}"
    assert call.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Question?"}],
        "stream": True,
        "temperature": 0,
        "max_tokens": 1024,
    }


def test_the_first_model_that_can_chat_is_asked(stub):
    told(stub)
    assert [call.path for call in stub.calls] == ["/v1/models", "/v1/chat/completions"]
    assert stub.chats[0].body["model"] == "small" and "authorization" not in stub.chats[0].headers
    stub.models = {"data": []}
    assert failure(stub) == "lists no model: load one there, or name one with `model`"
    stub.models = {"models": []}
    assert failure(stub).startswith("gives no list of models: is this its address?")
    stub.models = lambda call: call.reply(500, {})
    assert failure(stub) == "lists no models (500): name one with `model`"


def test_a_stream_may_be_cut_up_anyhow(stub):
    """Letters of several bytes across chunks, comments, events' names, line ends of two kinds, a chunk without choices."""

    def chat(call):
        call.begin()
        data = (
            ': keep-alive\r\n\r\nevent: message\ndata:{"choices":[{"delta":{"role":"assistant","content":null}}]}\r\n\r\n'
            'data: {"choices":[{"delta":{"content":"한글"}}]}\n\ndata: {"choices":[],"usage":{"total_tokens":3}}\n\n'
            'data: {"choices":[{"delta":{"content":"!"},"finish_reason":"length"}]}\n\ndata: [DONE]\n\n'
        ).encode()
        for byte in range(len(data)):
            call.write(data[byte : byte + 1])
        call.write(b"", last=True)

    stub.chat = chat
    text, stream = told(stub, model="m")
    assert text == "한글!" and stream.cut


def test_an_answer_that_is_not_streamed(stub):
    stub.chat = lambda call: call.reply(200, {"choices": [{"message": {"content": "All at once."}, "finish_reason": "stop"}]})
    assert told(stub)[0] == "All at once."


@pytest.mark.parametrize(
    "pieces", [["<think>so\n[1]</think>\n\nYes."], list("<think>so [1]</think> Yes."), ["<th", "ink>a</think>Yes."]]
)
def test_thoughts_are_left_out(stub, pieces):
    stub.chat = lambda call: call.stream(*pieces)
    assert told(stub)[0] == "Yes."


@pytest.mark.parametrize(("pieces", "text"), [(["<", "b>"], "<b>"), (["  \n", " Hi"], "Hi"), (["<thin"], "<thin")])
def test_what_is_no_thought_stays(stub, pieces, text):
    stub.chat = lambda call: call.stream(*pieces)
    assert told(stub)[0] == text


@pytest.mark.parametrize("parameter", ["max_tokens", "temperature"])
def test_what_newer_models_refuse_is_left_out(stub, parameter):
    def chat(call):
        if parameter in call.body:
            call.reply(400, {"error": {"message": "Unsupported", "param": parameter, "code": "unsupported_parameter"}})
        else:
            call.stream("Yes.")

    stub.chat = chat
    assert told(stub, model="m")[0] == "Yes."
    assert ("max_completion_tokens" in stub.chats[-1].body) == (parameter == "max_tokens") and len(stub.chats) == 2


def error(message: object, **more) -> dict:
    return {"error": {"message": message, **more}}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, error(f"Incorrect API key provided: {KEY}"), "refuses the API key (401): give one that it knows"),
        (403, error("no"), "does not allow this (403): no"),
        (429, error("slow down\nplease"), "has too much to do, or its limit is reached (429): slow down"),
        (500, {"error": f"it \x1b[31mburns\u202e {KEY}"}, "answers 500: it  [31mburns  …"),
        (400, error("context size exceeded", param=None), "answers 400: context size exceeded"),
        (503, b"<html>Bad gateway</html>", "answers 503"),
        (422, {"detail": "bad"}, "answers 422: bad"),
        (418, [1], "answers 418: [1]"),
    ],
)
def test_a_refusal_is_one_line(stub, status, body, said):
    stub.chat = lambda call: call.reply(status, body)
    assert failure(stub, model="small", api_key=KEY) == said


def test_a_key_that_is_wanted(stub):
    stub.chat = lambda call: call.reply(401, {})
    assert failure(stub) == "wants an API key (401): give one that it knows"


@pytest.mark.parametrize("status", [400, 404])
def test_an_unknown_model_is_said_to_be_one(stub, status):
    stub.chat = lambda call: call.reply(status, error("The model does not exist"))
    assert failure(stub, model="gpt") == "has no model 'gpt': name one of 'nomic-embed-text', 'small'"
    assert failure(stub, model="small") == f"answers {status}: The model does not exist"


def test_an_address_without_v1(stub):
    stub.chat, stub.models = lambda call: call.reply(404, b"404 page not found"), None
    assert failure(stub, model="m") == "has no chat (404): is this its address? It mostly ends in /v1"
    stub.url = stub.url.removesuffix("/v1")
    hint = f"is this its address? It mostly ends in /v1: {stub.url}/v1"
    assert failing(stub, model="m") == f"{stub.url} has no chat (404): {hint}"
    assert failing(stub) == f"{stub.url} lists no models (404): {hint}"
    assert failing(stub, url=f"{stub.url}/") == f"{stub.url} lists no models (404): {hint}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirection_is_followed(stub, status):
    """Else the key, and what the documents say, would go to another host."""
    with stubbing() as other:
        stub.chat = lambda call: call.reply(status, b"", {"location": f"{other.url}/chat/completions?token=1"})
        message = failure(stub, model="m", api_key=KEY)
        assert not other.calls
    assert message.startswith(f"sends elsewhere ({status}), to '{other.url}/chat/completions', ")
    assert message.endswith("which nothing is sent to: name that address if it is right")


@pytest.mark.parametrize(
    "body", [b"<html>Welcome</html>", b"{}", b'{"choices": [{"message": {"content": 5}}]}', b"[]", b'{"choices": 1}', b"\xff"]
)
def test_what_is_no_answer_of_a_chat(stub, body):
    stub.chat = lambda call: call.reply(200, body, {"content-type": "text/html"})
    assert failure(stub) == "sends what is no answer of a chat: is this its address? It mostly ends in /v1"


def test_an_answer_that_is_empty(stub):
    stub.chat = lambda call: call.stream()
    assert failure(stub) == "answered nothing"
    stub.chat = lambda call: call.stream("<think>hm", finish="length")
    assert failure(stub) == "used up its tokens before it answered: ask a model that thinks less"


@pytest.mark.parametrize("finish", [None, "stop"])
def test_a_stream_that_breaks_off(stub, finish):
    """In the midst of it this is an error, and what came stays; after the model said that it ended it is none."""
    stub.chat = lambda call: call.stream("Half", finish=finish, done=False)
    stream, pieces = Stream(Endpoint(stub.url, model="m"), "?"), []
    if finish:
        assert "".join(stream) == "Half"
        return
    with pytest.raises(EndpointFailed, match="broke off in the midst of its answer"):
        pieces.extend(stream)
    pieces.clear()
    with pytest.raises(EndpointFailed, match="broke off in the midst of its answer"):
        for piece in Stream(Endpoint(stub.url, model="m"), "?"):
            pieces.append(piece)
    assert pieces == ["Half"]


def test_an_error_in_the_midst_of_a_stream(stub):
    def chat(call):
        call.begin()
        call.event({"choices": [{"delta": {"content": "Half"}}]})
        call.event({"error": {"message": "out of memory", "code": 500}})

    stub.chat = chat
    assert failure(stub) == "failed in the midst of its answer: out of memory"


def test_an_endpoint_that_says_nothing(stub):
    released = threading.Event()
    stub.chat = lambda call: released.wait(10)
    assert failure(stub, model="m", timeout=0.1).startswith("sent nothing for 0.1 s: give a longer `timeout`")

    def half(call):
        call.begin()
        call.event({"choices": [{"delta": {"content": "Half"}}]})
        released.wait(10)

    stub.chat = half
    assert failure(stub, model="m", timeout=0.1).startswith("sent nothing for 0.1 s")
    released.set()


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(EndpointFailed) as raised:
        list(Stream(Endpoint(f"http://127.0.0.1:{port}/v1/", model="m"), "?"))
    assert str(raised.value) == f"http://127.0.0.1:{port}/v1 does not answer (Connection refused): start it, or name another"


def test_no_tls_where_there_is_none(stub):
    with pytest.raises(EndpointFailed, match=r"speaks no TLS .* does its address begin with http://\?"):
        list(Stream(Endpoint(stub.url.replace("http", "https"), model="m"), "?"))


def test_an_answer_without_end_is_cut(stub):
    stub.chat = lambda call: call.stream(*["x" * 5000] * 40)
    text, stream = told(stub)
    assert MOST_CHARACTERS - 5000 < len(text) <= MOST_CHARACTERS and stream.cut


def test_a_line_without_end_is_no_answer(stub):
    def chat(call):
        call.begin()
        while True:
            call.write(b"x" * 60_000)

    stub.chat = chat
    assert failure(stub).startswith("sends lines of over 1,048,576 bytes")


@pytest.mark.parametrize("begun", [False, True])
def test_closing_hangs_up_on_the_endpoint(stub, begun):
    """While it is silent, and between two pieces: from another thread, at once."""
    asked, gone = threading.Event(), threading.Event()

    def chat(call):
        if begun:
            call.begin()
            call.event({"choices": [{"delta": {"content": "One"}}]})
        asked.set()
        try:
            call._handler.connection.settimeout(10)
            if call._handler.connection.recv(1) == b"":
                gone.set()
        except ConnectionError:
            gone.set()

    stub.chat = chat
    stream = Stream(Endpoint(stub.url, model="m"), "?")
    threading.Thread(target=lambda: (asked.wait(10), time.sleep(0.02), stream.close())).start()
    assert "".join(stream) == ("One" if begun else "") and gone.wait(10)


def test_a_stream_that_was_closed_asks_nobody(stub):
    stream = Stream(Endpoint(stub.url, model="m"), "?")
    stream.close()
    assert list(stream) == [] and not stub.chats


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:11434", "give it like http://localhost:11434/v1"),
        ("ftp://x/v1", "give it like"),
        ("http://", "give it like"),
        ("http://x:99999/v1", "no URL"),
        ("http://user:sesame@x/v1", "more than host and path"),
        ("http://x/v1?key=sesame", "more than host and path"),
        ("http://x/v1\r\nx: y", "give it like"),
        ("http://x/한글", "holds what no URL may"),
    ],
)
def test_an_address_that_is_none(url, said):
    with pytest.raises(WrongInput, match=said) as raised:
        Endpoint(url)
    assert "sesame" not in str(raised.value)


@pytest.mark.parametrize("key", ["a b", "키", "a\nb: c"])
def test_a_key_that_is_none(key):
    with pytest.raises(WrongInput, match="the API key holds"):
        Endpoint("http://x/v1", api_key=key)


def test_a_time_that_is_none():
    with pytest.raises(WrongInput, match="timeout is 0"):
        Endpoint("http://x/v1", timeout=0)
