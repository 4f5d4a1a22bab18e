"""The file that tells other processes on this machine that an index is being served, and where.

The server holds a lock on it for as long as it lives, however it dies; what the file says counts only while that lock is held.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

ADVERT_NAME = "server.lock"


class Advert(NamedTuple):
    """A server on this machine, as its file describes it."""

    pid: int
    port: int
    needs_key: bool


@contextmanager
def advertised(folder: Path, advert: Advert) -> Iterator[bool]:
    """Say in an index folder that a server serves it; yields whether that worked.

    It does not where the folder can't be written, or another server is named there already: both are no reason not to serve.
    """
    file = _open(folder)
    if file is None:
        yield False
        return
    with file:
        file.truncate(0)
        file.write(json.dumps({**advert._asdict(), "host": socket.gethostname()}))
        file.flush()
        try:
            yield True
        finally:
            file.truncate(0)


def _open(folder: Path) -> IO | None:
    try:
        file = open(folder / ADVERT_NAME, "a+", encoding="utf-8")  # noqa: SIM115 - the caller closes it, and the lock with it
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def find_server(folder: Path) -> Advert | None:
    """The living server of an index folder on this machine, if there is one."""
    with suppress(OSError, ValueError, KeyError, TypeError), open(folder / ADVERT_NAME, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            said = json.load(file)
            if said["host"] == socket.gethostname() and said["pid"] != os.getpid():
                return Advert(int(said["pid"]), int(said["port"]), bool(said["needs_key"]))
    return None
