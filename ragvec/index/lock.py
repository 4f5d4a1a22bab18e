"""One writer at a time: an advisory lock that the kernel releases when its holder dies, however it dies."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from ragvec.errors import Busy, Unavailable

LOCK_NAME = "writer.lock"


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold the writer's lock of an index folder.

    The file stays when the lock is released: removing it would let two writers each lock a file of that name.
    Raises RagvecError, saying who holds it, if another writer lives; and if the folder can't be written.
    """
    try:
        file = open(folder / LOCK_NAME, "a+", encoding="utf-8")  # noqa: SIM115 - closed below, with the lock
    except OSError as error:
        raise Unavailable(f"can't write to index {folder}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"index {folder} is being written by {_holder(folder)}: try again when it has ended") from error
        _write_holder(file, {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()})
        try:
            yield
        finally:
            file.truncate(0)


def _write_holder(file, holder: dict) -> None:
    file.truncate(0)
    file.write(json.dumps(holder))
    file.flush()


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / LOCK_NAME).read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"  # it has the lock but has not written its name yet


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
