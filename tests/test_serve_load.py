"""A long proof: while hostile clients do their worst and the index is swapped, normal ones are answered.

pytest -m slow tests/test_serve_load.py -s
"""

import http.client
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from ragvec.encoder import Encoder
from tests.serving import asking, serving
from tests.test_serve_live import QUESTION, make_index, numbered
from tests.test_serve_slow import resident_mib

pytestmark = pytest.mark.slow
SECONDS = int(os.environ.get("HOSTILE_SECONDS", "20"))
MOST_MIB = 200  # more than before
PAUSE_S = 0.02


def test_hostile_clients_stop_nobody(tiny_decoder, tmp_path):
    encoder = Encoder.load(tiny_decoder)
    for name in ("apple", "pear"):
        make_index(tmp_path / name, encoder, numbered(name))
    os.rename(tmp_path / "apple", tmp_path / "current")
    with serving("-i", tmp_path / "current", cwd=tmp_path) as server:
        for _ in range(50):
            assert server.call(*QUESTION)[0] == 200
        before = resident_mib(server)
        quiet = health(server.port, 3)
        command = [sys.executable, "-m", "tests.bench.hostile", str(server.port), "--seconds", str(SECONDS)]
        hostile = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stop = threading.Event()
        swapping = threading.Thread(target=swap, args=(tmp_path, stop))
        memory: list[float] = []
        watching = threading.Thread(target=lambda: watch(server, memory, stop))
        with asking(lambda: server.call(*QUESTION), 2) as answers:
            swapping.start(), watching.start()
            loaded = health(server.port, SECONDS)
            stop.set(), swapping.join(), watching.join()
        told = json.loads(hostile.communicate(timeout=120)[0])
        failed = [line for line in server.call("/metrics")[1].splitlines() if "requests_total" in line and 'status="5' in line]
    statuses = [status for status, _ in answers]
    all_told = [*statuses, *(int(status) for status in told if status.isdigit())]
    for name, seconds in (("quiet", quiet), ("hostile", loaded)):
        p50, p99 = np.percentile(seconds, [50, 99]) * 1000
        print(f"\n/health, {name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {max(seconds) * 1000:.0f} ms of {len(seconds)}")
    print(f"memory: {before:.0f} MiB before, {max(memory):.0f} at most; statuses told to hostile clients: {told}")
    print(f"normal clients: {len(statuses)} answers, {statuses.count(200)} of them 200")
    assert not failed and max(all_told) < 500
    assert set(statuses) <= {200, 429} and statuses.count(200) > len(statuses) / 2
    assert max(memory) - before < MOST_MIB


def health(port: int, seconds: float) -> list[float]:
    """How long each of many looks at /health took."""
    taken = []
    until = time.monotonic() + seconds
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while time.monotonic() < until:
        started = time.perf_counter()
        connection.request("GET", "/health")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b'{"status":"ok"}')
        taken.append(time.perf_counter() - started)
        time.sleep(PAUSE_S)
    connection.close()
    return taken


def watch(server, memory: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.05):
        memory.append(resident_mib(server))


def swap(place, stop: threading.Event) -> None:
    """Put one index in the other's place, again and again."""
    names = ["pear", "apple"]
    while not stop.wait(0.3):
        os.rename(place / "current", place / names[1])
        os.rename(place / names[0], place / "current")
        names.reverse()
