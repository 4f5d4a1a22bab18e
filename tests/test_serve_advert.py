"""Nobody but the user's own server is told a query or a key, whatever an index folder says and whoever holds its port."""

import contextlib
import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.records import Document
from ragvec.serve import Service, client, create_app
from ragvec.serve.advert import ADVERT_NAME, NONCE_HEADER, PROOF_HEADER, Advert, advertised, find_server, proof
from ragvec.serve.client import search_served
from tests.test_page import running
from tests.tiny import TEXTS

QUERY = {"query": "a secret question"}
KEY = "a secret key"
SECRET = "5ec4e7"
HOLD = "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path


def advert(**other) -> Advert:
    return Advert(1, "127.0.0.1", 9, True, SECRET)._replace(**other)


@contextlib.contextmanager
def held(folder: Path, said: Advert, mode: int = 0o600) -> Iterator[None]:
    """A file that says so, locked by another process."""
    path = folder / ADVERT_NAME
    path.write_text(json.dumps({**said._asdict(), "machine": socket.gethostname()}))
    path.chmod(mode)
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"\n"
        yield
        holder.stdin.close()


@contextlib.contextmanager
def stranger(answer: Callable[[socket.socket, bytes], None]) -> Iterator[tuple[int, bytearray]]:
    """A server of somebody else's: its port, and all that it was ever told."""
    told = bytearray()

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    while piece := connection.recv(65536):
                        told.extend(piece)
                        answer(connection, piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield listener.getsockname()[1], told
        listener.shutdown(socket.SHUT_RDWR)


def test_the_file_is_the_servers_alone(folder):
    with advertised(folder, advert()) as said:
        status = (folder / ADVERT_NAME).stat()
        assert said and stat.S_IMODE(status.st_mode) == 0o600 and status.st_uid == os.geteuid()
    assert (folder / ADVERT_NAME).read_text() == ""


def test_whoever_held_an_older_file_open_reads_no_secret(folder):
    path = folder / ADVERT_NAME
    path.touch(0o644)
    with open(path, encoding="utf-8") as opened, advertised(folder, advert()) as said:
        assert said and opened.read() == "" and SECRET in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("lie", ["link", "hard link", "pipe", "folder", "file", "private file"])
def test_what_lies_in_the_files_place_is_left_alone(folder, lie):
    precious = folder / "precious"
    precious.write_text("precious")
    precious.chmod(0o600)
    path = folder / ADVERT_NAME
    {
        "link": lambda: path.symlink_to(precious),
        "hard link": lambda: os.link(precious, path),
        "pipe": lambda: os.mkfifo(path, 0o600),
        "folder": path.mkdir,
        "file": lambda: path.write_text("precious"),
        "private file": lambda: (path.touch(0o600), path.write_text("precious")),
    }[lie]()
    assert find_server(folder) is None
    with advertised(folder, advert()) as said:
        assert said is False
    assert precious.read_text() == "precious" and (not path.is_file() or path.read_text() == "precious")


def test_one_who_served_the_file_before_does_not_take_it_from_the_next(folder):
    """The lock of a file that was replaced meanwhile is worth nothing."""
    path = folder / ADVERT_NAME
    path.touch(0o644)
    with open(path) as old, advertised(folder, advert()) as first:
        fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the old file's: free by now
        with advertised(folder, advert(port=10)) as second:
            assert first and not second and json.loads(path.read_text())["port"] == 9


@pytest.mark.parametrize(
    "other",
    [
        {"host": "192.0.2.1"},
        {"host": "localhost"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "user:password@127.0.0.1"},
        {"host": "0.0.0.0"},
        {"host": ""},
        {"host": None},
        {"port": "http"},
        {"port": None},
    ],
    ids=str,
)
def test_no_other_machine_is_asked(folder, other):
    with held(folder, advert()):
        assert find_server(folder) == advert()
    with held(folder, advert(**other)):
        assert find_server(folder) is None and search_served(folder, QUERY, api_key=KEY) is None
    if "host" in other and other["host"] is not None:
        with advertised(folder, advert(**other)) as said:
            assert said is False


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_file_that_others_can_read_or_write_does_not_count(folder, mode):
    with held(folder, advert(), mode):
        assert find_server(folder) is None


@pytest.mark.parametrize("text", ["", "[]", "nonsense", "[" * 4000, "\xff", '{"pid": 1}', "{}" + " " * 100_000])
def test_a_file_that_says_nothing_names_nobody(folder, text):
    with held(folder, advert()):
        (folder / ADVERT_NAME).write_text(text, encoding="latin-1")
        assert find_server(folder) is None


def say(answer: bytes) -> Callable[[socket.socket, bytes], None]:
    return lambda connection, piece: connection.sendall(answer)


def drip(connection: socket.socket, piece: bytes) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        threading.Event().wait(0.05)


FORGED = f"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{PROOF_HEADER}: {proof('guessed', '0', 9)}\r\n\r\n".encode()


@pytest.mark.parametrize(
    "answer",
    [
        say(FORGED),
        say(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        say(f"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{PROOF_HEADER}: é\r\n\r\n".encode()),
        say(b"HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n"),
        say(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000),
        say(b"\x16\x03\x01\x02\x00" * 100),
        say(b""),
        drip,
    ],
    ids=["forged", "no proof", "not ascii", "elsewhere", "endless", "garbage", "silent", "dripping"],
)
def test_a_stranger_on_the_port_is_told_nothing(folder, answer, monkeypatch):
    monkeypatch.setattr(client, "PROOF_S", 0.3)
    with stranger(answer) as (port, told), held(folder, advert(port=port)):
        assert find_server(folder).port == port
        assert search_served(folder, QUERY, api_key=KEY) is None
        assert told.startswith(b"GET /proof ")
        assert b"secret" not in told and SECRET.encode() not in told


def test_the_true_servers_proof_cannot_be_passed_on(tiny_decoder, folder):
    encoder = Encoder.load(tiny_decoder)
    with Index.create(folder / "index", encoder=encoder) as index:
        index.add([Document("a", TEXTS[0])])
    with Service(encoder, folder / "index") as service, running(create_app(service)) as address:

        def pass_on(connection: socket.socket, piece: bytes) -> None:
            nonce = piece.partition(f"{NONCE_HEADER}: ".encode())[2].partition(b"\r\n")[0].decode()
            request = urllib.request.Request(f"{address}/proof", headers={NONCE_HEADER: nonce})
            with urllib.request.urlopen(request) as response:
                given = response.headers[PROOF_HEADER]
            connection.sendall(f"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{PROOF_HEADER}: {given}\r\n\r\n".encode())

        true = advert(port=int(address.rsplit(":", 1)[1]), secret=service.secret)
        with held(folder / "index", true):
            assert len(search_served(folder / "index", QUERY, api_key=KEY)["hits"]) == 1
        with stranger(pass_on) as (port, told), held(folder / "index", true._replace(port=port)):
            assert search_served(folder / "index", QUERY, api_key=KEY) is None
            assert told and b"secret" not in told
