"""Real servers of object storage for tests: moto and localbucket in processes of their own, and one that heeds no condition."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

KEY_ID, SECRET = "AKIAWHOEVERREADSTHIS", "a-secret-that-nobody-may-see"
# proxies that a machine has set must not be asked for a server of its own
CLEARED = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")

HEEDLESS = """
import sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

store = DomainDispatcherApplication(create_backend_app)


def heedless(environ, start):
    environ.pop("HTTP_IF_NONE_MATCH", None)
    return store(environ, start)


run_simple("127.0.0.1", int(sys.argv[1]), heedless, threaded=True)
"""


def environment(port: int) -> dict[str, str]:
    """The variables that lead to a server here."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }


@contextmanager
def server(kind: str, folder: Path) -> Iterator[int]:
    """The port of a server with an empty bucket called `bucket`.

    kind   moto, localbucket, or heedless: moto that never hears of a condition
    """
    for needed in ("obstore", "localbucket" if kind == "localbucket" else "moto"):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: pip install 'ragvec[test]'")
    if kind == "localbucket":
        (folder / "bucket").mkdir()
    with running(_command(kind, folder)) as port:
        if kind != "localbucket":
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")).close()
        yield port


@contextmanager
def running(command: list[str]) -> Iterator[int]:
    """Run a server whose last argument is its port, until the context is left."""
    port = free_port()
    process = subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def _command(kind: str, folder: Path) -> list[str]:
    return {
        "moto": [sys.executable, "-m", "moto.server", "-p"],
        "heedless": [sys.executable, "-c", HEEDLESS],
        "localbucket": [sys.executable, "-m", "localbucket", str(folder), "--port"],
    }[kind]


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], *, seconds: int = 30) -> None:
    """Wait until a process listens there."""
    for _ in range(20 * seconds):
        assert process.poll() is None, "the server ended"
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server does not answer")
