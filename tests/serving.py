"""A real server for tests: `ragvec serve` in a process of its own, with a tiny encoder."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

START_S = 900  # in which a server has started, on a machine that has other work
RUN = "from ragvec.cli.main import main; main()"
_ADDRESS = re.compile(r"on (http://\S+)")


class Server:
    """A running `ragvec serve`: its address, its process, and a plain client."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.url = url
        self.port = int(url.rsplit(":", 1)[1])

    def call(
        self, path: str, body: Any = None, *, method: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """(status, JSON or text) of a request; a body that is not bytes is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"content-type": "application/json", **(headers or {})}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, text = response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text.decode()

    def metric(self, name: str) -> float:
        """One value of /metrics, labels added up."""
        _, text = self.call("/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}(\{{| )", line))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextlib.contextmanager
def serving(*words: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """`ragvec serve --port 0 WORDS`, from the moment it answers until the block ends."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAGVEC_")}
    log = cwd / f"server-{time.monotonic_ns()}.log"
    with open(log, "w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, "serve", "--port", "0", *map(str, words)],
            cwd=cwd,
            stderr=stderr,
            env={**clean, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **(environment or {})},
        )
    try:
        yield Server(process, _address(process, log))
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if found := _ADDRESS.search(log.read_text(encoding="utf-8")):
            return found.group(1)
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text(encoding='utf-8')}")


@contextlib.contextmanager
def asking(question: Callable[[], Any], clients: int) -> Iterator[list[Any]]:
    """So many threads that ask, one question after another, until the block ends; yields the list that fills with answers."""
    stop = threading.Event()
    answers: list[Any] = []

    def ask() -> None:
        while not stop.is_set():
            answers.append(question())

    with ThreadPoolExecutor(clients) as threads:
        running = [threads.submit(ask) for _ in range(clients)]
        try:
            yield answers
        finally:
            stop.set()
        for future in running:
            future.result()


def wait_until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Poll until a condition holds; fails if it never does."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition never held"
        time.sleep(0.02)
