"""Clients that cost little, so that a server is measured and not what asks it: bare sockets, one connection a client.

    python -m tests.bench.load PORT [PATH] < BODIES

BODIES: one JSON request a line, taken in turns; prints the seconds of each answer as JSON. Run in a process of its own.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from functools import partial
from itertools import cycle
from typing import cast

WARM_UP_S = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("path", nargs="?", default="/v1/embeddings")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    requests = [request(options.path, line.rstrip(b"\n")) for line in sys.stdin.buffer]
    import uvloop

    left = memoryview(json.dumps(uvloop.run(ask(options.port, requests, options.clients, options.seconds))).encode())
    while left:  # print loses some of a line that is longer than the pipe
        left = left[os.write(sys.stdout.fileno(), left) :]


def request(path: str, body: bytes) -> bytes:
    """A whole HTTP request."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def ask(port: int, requests: list[bytes], clients: int, seconds: float) -> list[float]:
    """Seconds of each answer to so many clients, each asking as soon as it was answered; the first second is warm-up."""
    loop = asyncio.get_running_loop()
    begin = time.perf_counter() + WARM_UP_S
    end = begin + seconds
    taken: list[float] = []
    made = [
        await loop.create_connection(partial(Client, requests[number::clients], begin, end, taken), "127.0.0.1", port)
        for number in range(clients)
    ]
    await asyncio.gather(*(client.done for _, client in made))
    return taken


class Client(asyncio.Protocol):
    """One connection on which one request after another is asked."""

    def __init__(self, requests: list[bytes], begin: float, end: float, taken: list[float]) -> None:
        self._requests = cycle(requests)
        self._begin, self._end, self._taken = begin, end, taken
        self._answer, self._wanted, self._started = bytearray(), 0, 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask the first."""
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Note an answer once it is whole, and ask the next."""
        self._answer += data
        if not self._wanted:
            head, found, _ = self._answer.partition(b"\r\n\r\n")
            if not found:
                return
            assert head.startswith(b"HTTP/1.1 200"), bytes(self._answer[:1000])
            self._wanted = len(head) + 4 + int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._answer) < self._wanted:
            return
        now = time.perf_counter()
        if self._begin < self._started and now < self._end:
            self._taken.append(now - self._started)
        if now < self._end:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """The end; before its time it is the server's failure."""
        if time.perf_counter() < self._end:
            self.done.set_exception(error or ConnectionError("the server hung up"))
        else:
            self.done.set_result(None)

    def _ask(self) -> None:
        self._answer, self._wanted = bytearray(), 0
        self._started = time.perf_counter()
        self._transport.write(next(self._requests))


if __name__ == "__main__":
    main()
