"""The example of docs/rag.md, run as it stands there: retrieve, prompt, an OpenAI-compatible endpoint, sources."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.records import Document
from ragvec.retrieve.templates import TASK
from tests.conftest import REPOSITORY

DOCUMENTS = [
    Document("photosynthesis", "Plants make their own food from light, water and air.", "How plants make food"),
    Document("fox", "The quick brown fox jumps over the lazy dog.", "Foxes"),
]


class Endpoint(BaseHTTPRequestHandler):
    """Answers a chat by citing the passage that speaks of light, as a language model would."""

    asked: list[dict] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append({"path": self.path, "authorization": self.headers["authorization"], **body})
        number = re.search(r"\[(\d+)\] [^\n]*\n[^\n]*light", body["messages"][0]["content"]).group(1)
        message = {"role": "assistant", "content": f"They use light [{number}]. Not so [99]."}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        answer = json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *words) -> None:
        pass


@pytest.fixture
def endpoint():
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_the_example_answers_with_its_sources(endpoint, tiny_decoder, tmp_path):
    pytest.importorskip("openai", reason="the openai client is not installed: pip install openai")
    with Index.create(tmp_path / "ragvec-index", encoder=Encoder.load(tiny_decoder)) as index:
        index.add(DOCUMENTS)
    page = (REPOSITORY / "docs" / "rag.md").read_text(encoding="utf-8")
    [code] = re.findall(r"<!-- tests/test_rag.py runs this -->\n```python\n(.*?)```", page, re.S)
    (tmp_path / "answer.py").write_text(code, encoding="utf-8")
    question = "how do plants make food?"
    environment = {**os.environ, "OPENAI_BASE_URL": endpoint, "OPENAI_API_KEY": "sesame", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "answer.py", question]
    out = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    number = re.search(r"light \[(\d)\]", out.stdout).group(1)
    assert out.stdout == (f"They use light [{number}]. Not so [99].\n[{number}] How plants make food (photosynthesis)\n")
    [asked] = Endpoint.asked
    assert (asked["path"], asked["authorization"]) == ("/v1/chat/completions", "Bearer sesame")
    prompt = asked["messages"][0]["content"]
    assert prompt.startswith(TASK) and prompt.endswith(f"Question: {question}\n") and DOCUMENTS[0].text in prompt
