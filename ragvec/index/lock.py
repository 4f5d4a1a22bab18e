"""One writer at a time: an advisory lock that the kernel releases when its holder dies, however it dies."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from ragvec.errors import Busy, Damaged, Unavailable
from ragvec.files import open_lock
from ragvec.index.layout import LOCK_NAME, check_layout
from ragvec.locks import lock


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold the writer's lock of an index folder.

    The file stays when the lock is released: removing it would let two writers each lock a file of that name.
    Raises Busy, saying who holds it, if another writer lives; Damaged for an index whose files lead elsewhere; Unavailable if
    the folder can't be written.
    """
    check_layout(folder)
    try:
        file = open_lock(folder / LOCK_NAME)
    except OSError as error:
        raise Unavailable(f"can't write to index {folder}: {error.strerror}") from error
    with file:
        try:
            lock(file)
        except BlockingIOError as error:
            raise Busy(f"index {folder} is being written by {_holder(folder)}: try again when it has ended") from error
        try:
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}))
            file.flush()
        except OSError as error:
            raise Unavailable(f"can't write to index {folder}: {error.strerror}") from error
        try:
            yield
        finally:
            file.truncate(0)


def _holder(folder: Path) -> str:
    try:
        with open_lock(folder / LOCK_NAME, write=False) as file:
            holder = json.load(file)
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError, Damaged):
        return "another process"  # it has the lock but has not written its name yet


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
