"""Asking other servers over HTTP: their addresses, keys and connections, and what they say is wrong.

Nothing is sent anywhere but to the address that was named: no redirection is followed, and so the key goes with none.
"""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson

from ragvec.errors import RagvecError, WrongUsage, first_line

CONNECT_S = 10.0


def read_address(address: str, *, what: str, example: str) -> SplitResult:
    """An address taken apart, without a slash at the end; what: it is of, example: one, for messages.

    Raises WrongUsage for one that is none, or holds what an address of an API does not.
    """
    advice = f"give it like {example}"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise WrongUsage(f"the {what}'s address is no URL ({error}): {advice}") from None
    if parts.username is not None or parts.query or parts.fragment:
        raise WrongUsage(f"the {what}'s address holds more than host and path: {advice}, and the key apart")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise WrongUsage(f"the {what}'s address is {address!r:.200}: {advice}")
    if not address.isascii() or re.search(r"[\s\x00-\x1f\x7f\\]", address):
        raise WrongUsage(f"the {what}'s address is {address!r:.200}, which holds what no URL may: {advice}")
    return parts._replace(path=parts.path.rstrip("/"))


def checked_key(key: str | None) -> str | None:
    """A key as a header may hold it; None for none. Raises WrongUsage, which does not repeat it."""
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise WrongUsage("the API key holds white space, or characters beyond ASCII: give it as the endpoint's maker does")
    return key or None


def connected(parts: SplitResult, failed: Callable[[str], RagvecError]) -> HTTPConnection:
    """A connection to an address. Raises what `failed` makes of the reason why there is none."""
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_S)
    try:
        connection.connect()
    except TimeoutError as error:
        raise failed(f"is not reached within {CONNECT_S:g} s: is this its address?") from error
    except ssl.SSLCertVerificationError as error:
        raise failed(f"has a certificate that can't be trusted ({error.verify_message})") from error
    except ssl.SSLError as error:
        raise failed(f"speaks no TLS ({error.reason}): does its address begin with http://?") from error
    except OSError as error:
        raise failed(f"does not answer ({error.strerror or first_line(error)}): start it, or name another") from error
    connection.auto_open = 0  # one that has ended must not be made again unseen
    return connection


@contextmanager
def deadline(connection: socket.socket, seconds: float) -> Iterator[None]:
    """End a connection after so many seconds, however often a byte comes meanwhile."""

    def end() -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    connection.settimeout(seconds)
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def sent_elsewhere(code: int, location: str) -> str:
    """What is said of a server that answers with a redirection."""
    target = urlsplit(location)
    place = f"{target.scheme}://{target.netloc.rpartition('@')[2]}{target.path}" if target.netloc else target.path
    return f"sends elsewhere ({code}), to {place!r:.200}, which nothing is sent to: name that address if it is right"


def told(body: bytes) -> tuple[str, str | None]:
    """What the body of an error says in one line, as OpenAI, Ollama and FastAPI write it, and which parameter it names."""
    try:
        read = orjson.loads(body)
    except ValueError:
        return "", None
    error = read.get("error", read) if isinstance(read, dict) else read
    if not isinstance(error, dict):
        return _line(error), None
    parameter = error.get("param")
    return _line(error.get("message") or error.get("detail") or ""), parameter if isinstance(parameter, str) else None


def _line(text: Any) -> str:
    """One line without control characters."""
    return first_line("".join(char if char.isprintable() else "\n" if char in "\r\n" else " " for char in str(text)))
