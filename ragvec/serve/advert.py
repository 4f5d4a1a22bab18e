"""The file that tells other processes on this machine that an index is being served, and where.

The server holds a lock on it for as long as it lives, however it dies; what the file says counts only while that lock is held,
and only to the user who wrote it: nobody's queries and keys go where a stranger's file says.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from ragvec.errors import Damaged
from ragvec.files import open_lock

DATABASE_NAME = "index.sqlite"  # as ragvec.index.store has it, which loads more than a search through a server needs

ADVERT_NAME = "server.lock"
INDEX_HEADER = "x-ragvec-index"  # of an answer: the identity of the index it comes from
_TRIES = 5  # one who looks for a server holds the lock for an instant
_PAUSE_S = 0.02


class Advert(NamedTuple):
    """A server on this machine, as its file describes it."""

    pid: int
    host: str
    port: int
    needs_key: bool


def index_identity(folder: Path) -> str:
    """What tells an index from one that has come to lie in its place. Raises OSError if there is none."""
    status = (folder / DATABASE_NAME).stat()
    return f"{status.st_dev}-{status.st_ino}"


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
        file.write(json.dumps({**advert._asdict(), "machine": socket.gethostname()}))
        file.flush()
        try:
            yield True
        finally:
            file.truncate(0)


def _open(folder: Path) -> IO | None:
    try:
        file = open_lock(folder / ADVERT_NAME)  # the caller closes it, and the lock with it
    except (OSError, Damaged):
        return None
    for _ in range(_TRIES):
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        time.sleep(_PAUSE_S)
    file.close()
    return None


def find_server(folder: Path) -> Advert | None:
    """The living server of an index folder on this machine, if there is one."""
    with suppress(OSError, ValueError, KeyError, TypeError, Damaged), open_lock(folder / ADVERT_NAME, write=False) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            said = json.load(file)
            here = said["machine"] == socket.gethostname() and os.fstat(file.fileno()).st_uid == os.getuid()
            if here and said["pid"] != os.getpid():
                return Advert(int(said["pid"]), str(said["host"]), int(said["port"]), bool(said["needs_key"]))
    return None
