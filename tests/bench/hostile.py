"""Clients of a server that mean it ill, each kind in a thread; in a process of its own, so that it is the server that is slow.

    python -m tests.bench.hostile PORT [--seconds 20] [--most 8388608]

Bodies of the wrong kind up to the limit, readers that don't read, unfinished bodies and trailers without end, requests piled up
on one connection, clients that leave while their hits are scored again. Prints as JSON how often each status was the answer.
"""

import argparse
import contextlib
import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import cycle

MIB = 1 << 20
SMALL = 60_000  # bytes of a body that is read at once
JSON = {"content-type": "application/json"}
Client = Callable[[int, bytes, Counter[str], random.Random], None]  # port, a body, what was answered
PATHS = ["/v1/embeddings", "/v1/rerank", "/search", "/embed", "/documents", "/", "/nothing"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--most", type=int, default=8 * MIB, help="bytes of a body")
    options = parser.parse_args()
    statuses: Counter[str] = Counter()
    until = time.monotonic() + options.seconds
    threads = [
        threading.Thread(target=repeat, args=(kind, options, until, statuses, random.Random(seed)), daemon=True)
        for seed, kind in enumerate([bad_bodies, bad_bodies, small_bodies, unread, unfinished, trailers, piled_up, leaving])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(options.seconds + 60)
    print(json.dumps(statuses))


def repeat(kind: Client, options: argparse.Namespace, until: float, statuses: Counter[str], draw: random.Random) -> None:
    """One kind of client, again and again."""
    bodies = cycle(hostile_bodies(options.most if kind is bad_bodies else SMALL))
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            kind(options.port, next(bodies), statuses, draw)


def hostile_bodies(most: int) -> list[bytes]:
    """Bodies of about so many bytes, each of which costs something else to read."""

    def fill(start: bytes, piece: bytes, end: bytes) -> bytes:
        return start + piece * ((most - len(start) - len(end)) // len(piece)) + end

    return [
        fill(b'{"input":[', b"0.5,", b"1]}"),
        fill(b'{"query":"x","documents":[', b"{},", b"1]}"),
        fill(b'{"input":[', b"[],", b"1]}"),
        fill(b'{"inputs":[', b'"",', b"1]}"),
        fill(b'{"input":"', b"\\n", b'"}'),
        fill(b'{"input":"', b"a", "😀".encode() + b'"}'),
        fill(b'{"input":"', b"\\ud55c", b'"}'),
        fill(b'{"input":["x"],"user":"', b"word, ", b'"}'),
        fill(b'{"documents":[', b'{"doc_id":"a","text":5},', b"1]}"),
        fill(b"{", b'"a":1,', b'"a":2}'),
        fill(b"", b"[", b""),
        fill(b'{"vector":[', b"1" * 400 + b",", b"1]}"),
        fill(b'{"input":', b"9", b"}"),
        fill(b"", b"\xff\x00", b""),
    ]


def bad_bodies(port: int, body: bytes, statuses: Counter[str], draw: random.Random) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        try:
            connection.request("POST", draw.choice(PATHS), body, JSON)
            statuses[str(connection.getresponse().status)] += 1
        except OSError:
            statuses["hung up on"] += 1  # an answer that came before the whole body was sent


def small_bodies(port: int, body: bytes, statuses: Counter[str], draw: random.Random) -> None:
    bad_bodies(port, body, statuses, draw)


def unread(port: int, body: bytes, statuses: Counter[str], draw: random.Random) -> None:
    question = json.dumps({"input": ["a quick brown fox"] * 500}).encode()
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(_connect(port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(_head("/v1/embeddings", f"content-length: {len(question)}") + question)
        time.sleep(2)


def unfinished(port: int, body: bytes, statuses: Counter[str], draw: random.Random) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(_connect(port))
            with contextlib.suppress(OSError):
                client.sendall(_head(draw.choice(PATHS), "content-length: 8000000") + b'{"input":"' + b"x" * MIB)
        time.sleep(1)


def trailers(port: int, body: bytes, statuses: Counter[str], draw: random.Random) -> None:
    with _connect(port) as client:
        client.sendall(_head(draw.choice(PATHS), "transfer-encoding: chunked") + b"2\r\n{}\r\n0\r\n")
        for _ in range(64):
            client.sendall(b"a: b\r\n" * 10_000)


def piled_up(port: int, body: bytes, statuses: Counter[str], draw: random.Random) -> None:
    with _connect(port) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n" * 20_000)
        time.sleep(0.1)


def leaving(port: int, body: bytes, statuses: Counter[str], draw: random.Random) -> None:
    question = json.dumps({"query": "a quick brown fox", "k": 50, "rerank": "maxsim", "rerank_depth": 200}).encode()
    with _connect(port) as client:
        client.sendall(_head("/search", f"content-length: {len(question)}") + question)
        time.sleep(draw.random() / 5)


def _connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.settimeout(1)
    return client


def _head(path: str, length: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{length}\r\n\r\n".encode()


if __name__ == "__main__":
    main()
