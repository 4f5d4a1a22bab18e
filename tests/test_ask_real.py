"""A real language model behind a real server: SmolLM2-135M-Instruct, served by `transformers serve`."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress

import pytest

import ragvec
from ragvec.answers import Endpoint, EndpointFailed
from ragvec.answers.stream import Stream
from ragvec.data import data_path
from ragvec.evaluate.questions import generate_questions
from ragvec.ingest.build import build
from tests.conftest import shared
from tests.test_generate import questions

pytestmark = pytest.mark.slow
SERVE = "import sys; sys.argv[0] = 'transformers'; from transformers.cli.transformers import main; main()"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of the running server."""
    import socket

    model = shared("lm/smollm2-135m")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVE, "serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 300
        while time.monotonic() < until and process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            time.sleep(0.5)
        assert process.poll() is None, "transformers serve did not start"
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("real") / "ragvec-index"
    build(data_path("corpus.jsonl"), path)
    return path


@pytest.fixture(autouse=True)
def _short_answers(monkeypatch):
    """A model on a CPU that others share writes some words a second."""
    monkeypatch.setattr("ragvec.answers.stream.MOST_TOKENS", 48)


def test_a_real_model_answers_from_the_passages(endpoint, index):
    model = str(shared("lm/smollm2-135m"))
    answerer = ragvec.Answerer.open(index, endpoint, model=model, context_tokens=400)
    with answerer.stream("how do plants make food?", k=2) as reply:
        assert reply.found and "photosynthesis" in [source.doc_id for source in reply.sources]
        pieces = list(reply)
        answer = reply.answer()
    assert len(pieces) > 5 and "".join(pieces).rstrip() == answer.text
    assert any(word in answer.text.lower() for word in ("light", "photosynthesis", "sugar", "food"))
    assert answerer.ask("quantum chromodynamics lattice gauge", mode="lexical").found is False


def test_a_real_server_stops_when_it_is_hung_up_on(endpoint):
    stream = Stream(Endpoint(endpoint, model=str(shared("lm/smollm2-135m"))), "Count from one to one thousand in words.")
    pieces = []
    for piece in stream:
        pieces.append(piece)
        if len(pieces) == 3:
            stream.close()
    assert len(pieces) == 3


def test_its_models_are_listed_or_the_error_is_one_line(endpoint):
    try:
        assert isinstance(Endpoint(endpoint).models(), list)
    except EndpointFailed as error:
        assert "\n" not in str(error)


def test_a_real_model_writes_a_set(endpoint, index, tmp_path):
    model = Endpoint(endpoint, model=str(shared("lm/smollm2-135m")))
    made = generate_questions(index, tmp_path / "set", model, count=2)
    assert 1 <= made.questions <= 2 and len(questions(tmp_path / "set")) >= 1
    assert json.loads((tmp_path / "set" / "queries.jsonl").read_text(encoding="utf-8").splitlines()[0])["text"].endswith("?")
