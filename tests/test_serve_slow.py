"""Long proofs for the server: requests made up by schemathesis, and a soak.

pytest -m slow tests/test_serve_slow.py -s
"""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.records import Document
from tests.serving import Server, serving
from tests.tiny import TEXTS

pytestmark = pytest.mark.slow
SOAK_REQUESTS = 30_000  # at 17 requests a second, half an hour of them
SOAK_CLIENTS = 8
FLAT_MIB = 32
PHASES = "examples,coverage,fuzzing"


@pytest.fixture
def server(tiny_decoder, tmp_path):
    with Index.create(tmp_path / "index", encoder=Encoder.load(tiny_decoder)) as index:
        index.add([Document(str(n), text, f"Title {n}", {"year": 2000 + n}) for n, text in enumerate(TEXTS)])
    with serving("-i", tmp_path / "index", "--writable", cwd=tmp_path) as server:
        yield server


def test_no_request_that_the_description_allows_or_forbids_breaks_the_server(server, tmp_path):
    pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install schemathesis")
    options = {"checks": "not_a_server_error", "max-examples": "200", "mode": "all", "seed": "1", "phases": PHASES}
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{server.url}/openapi.json"]
    command += [word for name, value in options.items() for word in (f"--{name}", value)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1800)
    print(ran.stdout[-3000:])
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
    assert server.call("/ready") == (200, {"status": "ready"})
    failed = [
        line for line in server.call("/metrics")[1].splitlines() if "ragvec_requests_total" in line and 'status="5' in line
    ]
    assert not failed


def test_memory_stays_flat(server):
    """Every kind of request, good and bad, from several clients; the memory after a fifth of them is that at the end."""
    left = iter(range(SOAK_REQUESTS))
    lock = threading.Lock()
    memory: list[float] = []
    bad: list[tuple] = []

    def client(seed: int) -> None:
        draw = random.Random(seed)
        while True:
            with lock:
                number = next(left, None)
                if number is None:
                    return
                if number % (SOAK_REQUESTS // 10) == 0:
                    memory.append(resident_mib(server))
            path, body, wanted = request(draw, number)
            status, answer = server.call(
                path, body, method="DELETE" if body is None and path.startswith("/documents") else None
            )
            if status not in wanted:
                bad.append((path, status, answer))

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(SOAK_CLIENTS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memory.append(resident_mib(server))
    print(f"\n{SOAK_REQUESTS:,} requests in {time.perf_counter() - start:.0f} s; MiB: {[round(one) for one in memory]}")
    assert not bad, bad[:3]
    assert memory[-1] - memory[2] < FLAT_MIB


def request(draw: random.Random, number: int) -> tuple[str, dict | None, tuple[int, ...]]:
    """A path, a body (None = GET or DELETE), and the statuses that are right for it."""
    text = " ".join(draw.choices(TEXTS, k=draw.randint(1, 6))) + f" {number}"
    name = f"doc {draw.randint(0, 50)}"
    return draw.choice(
        [
            ("/search", {"query": text, "k": draw.randint(1, 20), "highlight": True}, (200,)),
            ("/search", {"query": text, "mode": "lexical", "where": "year >= 2002", "context": 800}, (200,)),
            ("/search", {"query": text, "rerank": "maxsim", "snippets": True}, (200,)),
            ("/search", {"query": text, "where": "yeer > 1"}, (400,)),
            ("/v1/embeddings", {"input": [text] * draw.randint(1, 8)}, (200,)),
            ("/v1/embeddings", {"input": [1, 2]}, (422,)),
            ("/v1/rerank", {"query": text, "documents": TEXTS}, (200,)),
            ("/embed", {"inputs": text}, (200,)),
            ("/documents", {"documents": [{"doc_id": name, "text": text, "metadata": {"year": 2020}}]}, (200, 409)),
            (f"/documents/{name.replace(' ', '%20')}", None, (200, 404, 409)),
            ("/nowhere", None, (404,)),
            ("/metrics", None, (200,)),
        ]
    )


def resident_mib(server: Server) -> float:
    """Memory of the server's process."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024
