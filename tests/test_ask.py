"""`ragvec ask` and `ragvec.ask`: retrieved, prompted, streamed, cited; not asked at all where the documents are far."""

import contextlib
import json
import os
import re
import signal
import threading

import pytest

import ragvec
from ragvec import Answerer
from ragvec.answers import Endpoint, EndpointFailed, Reply, find_grounds
from ragvec.answers.sources import cited_numbers, source_of
from ragvec.cli.main import main
from ragvec.encoder import Encoder
from ragvec.errors import WrongInput
from ragvec.index import Index
from ragvec.records import Document, Hit
from ragvec.retrieve import Retriever
from ragvec.retrieve.templates import KOREAN_TASK, TASK
from tests.endpoints import stubbing
from tests.serving import serving

DOCUMENTS = [
    Document(
        "photosynthesis",
        "Plants make their own food from light, water and air.",
        "How plants make food",
        {"path": "plants.pdf", "page": 3, "year": 2020},
    ),
    Document("fox", "The quick brown fox jumps over the lazy dog.", "Foxes", {"url": "https://example.org/fox", "year": 1999}),
    Document("seoul", "서울은 대한민국의 수도이다.", "", {"year": 2024}),
]
LIGHT = "plants food light water"
SOURCE = "How plants make food (photosynthesis) · plants.pdf, page 3"


@pytest.fixture(scope="module")
def index(tiny_decoder, tmp_path_factory):
    path = tmp_path_factory.mktemp("ask") / "ragvec-index"
    with Index.create(path, encoder=Encoder.load(tiny_decoder)) as index:
        index.add(DOCUMENTS)
    return path


@pytest.fixture
def stub():
    with stubbing(by_light) as stub:
        yield stub


def by_light(call) -> None:
    """Cites the passage that speaks of light, as a language model would."""
    found = re.search(r"\[(\d+)\] [^\n]*\n[^\n]*light", call.prompt)
    call.stream("They use ", "light ", f"[{found.group(1)}]", ". Not so [99].")


def ask(stub, index, *words, capsysbinary, environment=None) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `ragvec ask … --mode lexical`, which needs no encoder."""
    with pytest.raises(SystemExit) as end:
        main(["ask", *words, "-i", str(index), "--mode", "lexical", "--base-url", stub if isinstance(stub, str) else stub.url])
    out, err = capsysbinary.readouterr()
    return end.value.code, out.decode(), err.decode()


def test_an_answer_with_what_it_cites(stub, index, capsysbinary):
    code, out, err = ask(stub, index, LIGHT, "--api-key", "sesame", "--model", "m", capsysbinary=capsysbinary)
    assert (code, err) == (0, "") and out == f"They use light [1]. Not so [99].\n\n[1] {SOURCE}\n"
    [call] = stub.calls
    assert call.headers["authorization"] == "Bearer sesame" and call.body["model"] == "m"
    assert call.prompt.startswith(TASK) and call.prompt.endswith(f"Question: {LIGHT}\n")
    assert f"> {DOCUMENTS[0].text}" in call.prompt


def test_as_json(stub, index, capsysbinary):
    code, out, err = ask(stub, index, LIGHT, "--format", "json", capsysbinary=capsysbinary)
    record = json.loads(out)
    score = record["sources"][0].pop("score")
    assert code == 0 and err == "" and score > 0
    assert record == {
        "question": LIGHT,
        "answer": "They use light [1]. Not so [99].",
        "found": True,
        "cut": False,
        "cited": [1],
        "sources": [
            {
                "number": 1,
                "doc_id": "photosynthesis",
                "passage_id": "photosynthesis",
                "title": "How plants make food",
                "file": "plants.pdf",
                "page": 3,
            }
        ],
    }


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("nothing of this kind anywhere", "The documents do not answer this."),
        ("양자 컴퓨터의 오류 정정 방법은?", "문서에 답이 없습니다."),
        ("fox engines quantum computing", "The documents do not answer this."),  # a quarter of the words
    ],
)
def test_weak_matches_are_not_asked_about(stub, index, capsysbinary, question, said):
    code, out, err = ask(stub, index, question, capsysbinary=capsysbinary)
    assert (code, out, err) == (0, f"{said}\n", "") and not stub.calls
    code, out, _ = ask(stub, index, question, "--format", "json", capsysbinary=capsysbinary)
    record = json.loads(out)
    assert (record["found"], record["answer"], record["sources"], record["cited"]) == (False, said, [], [])


def test_weak_ones_beside_good_ones_are_left_out():
    hits = [
        Hit(1, 0.9, "a", "a", "", "Good."),
        Hit(2, 0.5, "b", "b", "", "Weak.", weak=True),
        Hit(3, 0.4, "c", "c", "", "Good too."),
    ]
    grounds = find_grounds("?", hits, lambda texts: [len(text.split()) for text in texts])
    assert [(source.number, source.doc_id) for source in grounds.sources] == [(1, "a"), (2, "c")]
    assert "[2] (c)\n> Good too." in grounds.prompt and "Weak." not in grounds.prompt


def test_a_korean_question_is_prompted_in_korean(stub, index, capsysbinary):
    stub.chat = lambda call: call.stream("서울", "입니다 [1].")
    code, out, _ = ask(stub, index, "대한민국의 수도는?", capsysbinary=capsysbinary)
    assert (code, out) == (0, "서울입니다 [1].\n\n[1] seoul\n")
    assert stub.chats[0].prompt.startswith(KOREAN_TASK) and stub.chats[0].prompt.endswith("질문: 대한민국의 수도는?\n")


def test_options_narrow_what_is_found(stub, index, capsysbinary):
    stub.chat = lambda call: call.stream("So [1].")
    for words in (["--where", "year < 2000"], ["--min-score", "99"]):
        assert ask(stub, index, LIGHT, *words, capsysbinary=capsysbinary)[1] == "The documents do not answer this.\n"
    code, out, _ = ask(stub, index, "quick brown fox", "--where", "year < 2000", "-k", "1", capsysbinary=capsysbinary)
    assert (code, out) == (0, "So [1].\n\n[1] Foxes (fox) · https://example.org/fox\n")


def test_a_prompt_of_ones_own(stub, index, tmp_path, capsysbinary):
    path = tmp_path / "prompt.txt"
    path.write_text("{passages}\n### {question}", encoding="utf-8")
    ask(stub, index, LIGHT, "--prompt-template", str(path), capsysbinary=capsysbinary)
    assert stub.chats[0].prompt.endswith(f"\n### {LIGHT}") and TASK not in stub.chats[0].prompt
    path.write_text("{question}", encoding="utf-8")
    code, _, err = ask(stub, index, LIGHT, "--prompt-template", str(path), capsysbinary=capsysbinary)
    said = "the prompt template holds {passages} 0 times: write it once, where it shall stand"
    assert (code, err) == (1, f"error: {path}: {said}\n")
    code, _, err = ask(stub, index, LIGHT, "--context", "20", capsysbinary=capsysbinary)
    assert code == 2 and err.startswith("error: no passage fits a context of 20 tokens: allow ")


def test_nothing_of_an_answer_moves_the_terminal(stub, index, capsysbinary):
    stub.chat = lambda call: call.stream("a\x1b[2J\rb\u202ec\n\td [1]", "\x07")
    assert ask(stub, index, LIGHT, capsysbinary=capsysbinary)[1] == f"a[2Jbc\n\td [1]\n\n[1] {SOURCE}\n"


def test_what_is_said_of_an_answer_beside_it(stub, index, capsysbinary):
    stub.chat = lambda call: call.stream("No numbers", finish="length")
    code, out, err = ask(stub, index, LIGHT, capsysbinary=capsysbinary)
    assert code == 0 and out.startswith(f"No numbers\n\n[1] {SOURCE}\n")
    assert err == (
        "it cites none of the passages above, which it was given: look whether they say so\n"
        "the answer was cut: it has as many tokens as are asked for\n"
    )


def test_errors_are_one_line(stub, index, capsysbinary, monkeypatch):
    stub.chat = lambda call: call.reply(401, {})
    code, out, err = ask(stub, index, LIGHT, capsysbinary=capsysbinary)
    assert (code, out, err) == (1, "", f"error: {stub.url} wants an API key (401): give one that it knows\n")
    code, _, err = ask("localhost:11434", index, LIGHT, capsysbinary=capsysbinary)
    assert (code, err) == (2, "error: the endpoint's address is 'localhost:11434': give it like http://localhost:11434/v1\n")
    code, _, err = ask(stub, index.parent / "none", LIGHT, capsysbinary=capsysbinary)
    assert code == 1 and err.count("\n") == 1 and "none" in err
    code, _, err = ask(stub, index, " ", capsysbinary=capsysbinary)
    assert (code, err) == (2, "error: a query is empty: say what to look for\n")
    code, _, err = ask("", index, LIGHT, capsysbinary=capsysbinary)
    where = "set OPENAI_BASE_URL, such as http://localhost:11434/v1 for Ollama, or give --base-url"
    assert (code, err) == (2, f"error: no language model is named: {where}\n")


def test_what_came_before_an_error_stays(stub, index, capsysbinary):
    stub.chat = lambda call: call.stream("Half an", finish=None, done=False)
    code, out, err = ask(stub, index, LIGHT, capsysbinary=capsysbinary)
    assert (code, out) == (1, "Half an\n") and err.startswith(f"error: {stub.url} broke off in the midst of its answer")


def test_the_environment_names_the_endpoint_and_ctrl_c_ends_it(stub, index, capsysbinary, monkeypatch, request):
    """Pieces come as they are made, and an interrupt leaves no generation behind."""
    gone = threading.Event()

    def endless(call):
        call.begin()
        with contextlib.suppress(ConnectionError):
            for number in range(1000):
                call.event({"choices": [{"delta": {"content": "on and "}}]})
                if number == 3:
                    os.kill(os.getpid(), signal.SIGINT)
                gone.wait(0.01)
            return
        gone.set()

    stub.chat = endless
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    for name, value in {"BASE_URL": stub.url, "API_KEY": "sesame", "MODEL": "small"}.items():
        monkeypatch.setenv(f"OPENAI_{name}", value)
    with pytest.raises(SystemExit) as end:
        main(["ask", LIGHT, "-i", str(index), "--mode", "lexical"])
    out, err = capsysbinary.readouterr()
    assert (end.value.code, err) == (130, b"interrupted\n") and gone.wait(10)
    assert out.startswith(b"on and ") and out.endswith(b"\n")
    assert stub.chats[0].headers["authorization"] == "Bearer sesame" and stub.chats[0].body["model"] == "small"


def test_in_python(stub, index):
    answer = ragvec.ask(LIGHT, index, stub.url, mode="lexical")
    assert str(answer) == f"They use light [1]. Not so [99].\n\n[1] {SOURCE}"
    assert (answer.found, answer.cut, [source.doc_id for source in answer.cited]) == (True, False, ["photosynthesis"])
    answerer = Answerer.open(index, stub.url, model="m", prompt_template="{passages} {question}")
    with answerer.stream(LIGHT, k=2, mode="lexical") as reply:
        assert [source.doc_id for source in reply.sources] == ["photosynthesis"] and not stub.chats[1:]
        assert list(reply) == ["They use ", "light ", "[1]", ". Not so [99]."]
        assert reply.answer().text == "They use light [1]. Not so [99]." and reply.answer().cited == answer.cited
    assert stub.chats[-1].prompt.endswith(f" {LIGHT}")
    assert answerer.ask("of no such kind", mode="lexical").found is False and len(stub.chats) == 2
    stub.chat = lambda call: call.reply(500, {})
    with pytest.raises(EndpointFailed, match="answers 500"):
        answerer.ask(LIGHT, mode="lexical")


def test_python_says_what_it_can_not_take(stub, index):
    retriever = Retriever(Index.open(index))
    endpoint = Endpoint(stub.url)
    with pytest.raises(WrongInput, match="context_tokens is 0"):
        Answerer(retriever, endpoint, context_tokens=0)
    with pytest.raises(WrongInput, match="0 times"):
        Answerer(retriever, endpoint, prompt_template="x")
    with pytest.raises(TypeError, match="one string"):
        Answerer(retriever, endpoint).ask(["a"])


@pytest.mark.parametrize(
    ("text", "count", "numbers"),
    [
        ("So [1] and [3].", 3, [1, 3]),
        ("So [2, 1]; [1][2]", 3, [1, 2]),
        ("All [1-3], [2–3].", 4, [1, 2, 3]),
        ("Forged [0] [4] [99] [1-9999]", 3, [1, 2, 3]),
        ("a[i], [x], [ 1 ], [12345]", 3, []),
        ("", 3, []),
    ],
)
def test_what_an_answer_cites(text, count, numbers):
    assert cited_numbers(text, count) == numbers


@pytest.mark.parametrize(
    ("metadata", "line"),
    [
        ({}, "[1] Title (d)"),
        ({"url": "https://x.org/a", "path": "a.html"}, "[1] Title (d) · https://x.org/a"),
        ({"url": "javascript:alert(1)", "path": "a.html", "page": "iv"}, "[1] Title (d) · a.html, page iv"),
        ({"source": "HTTPS://x.org/a"}, "[1] Title (d) · HTTPS://x.org/a"),
        ({"source": "notes/a.md", "page": True, "file": ["x"]}, "[1] Title (d) · notes/a.md"),
        ({"path": "d"}, "[1] Title (d)"),
        ({"page": 3}, "[1] Title (d) · page 3"),
    ],
)
def test_a_source_in_one_line(metadata, line):
    source = source_of(1, Hit(1, 0.5, "d", "p", "Title", "text", metadata))
    assert str(source) == line and source.url in (None, "https://x.org/a", "HTTPS://x.org/a")


@pytest.mark.slow
def test_a_running_server_finds_the_passages(stub, tiny_decoder, tmp_path, capsysbinary):
    """It has the encoder loaded; only the index's tokenizer is loaded beside it, to count."""
    with Index.create(tmp_path / "ragvec-index", encoder=Encoder.load(tiny_decoder)) as index:
        index.add(DOCUMENTS)
    with serving(cwd=tmp_path) as server:
        before = server.metric("ragvec_search_seconds_count")
        code, out, err = ask(stub, tmp_path / "ragvec-index", LIGHT, capsysbinary=capsysbinary)
        assert (code, err) == (0, "") and out.endswith(f"\n[1] {SOURCE}\n")
        assert server.metric("ragvec_search_seconds_count") == before + 1


def test_closing_a_reply_leaves_no_thread_behind(stub, index):
    reply = Reply(find_grounds("?", [], lambda texts: [0] * len(texts)), Endpoint(stub.url))
    reply.close()
    assert reply.answer().text == "The documents do not answer this."
