"""Locks on files, which the kernel lets go of when their holder dies, however it dies."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ragvec.errors import Busy, RagvecError

try:
    import fcntl
except ImportError as error:  # Windows, whose locks are of another kind
    raise RagvecError(
        "ragvec writes and serves indices and shards on Linux and macOS: on Windows, run it in WSL, or in a container"
    ) from error


def lock(file: int | IO[str], *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file or folder for as long as it is open in this process.

    shared  with others who lock it so; else alone
    wait    until those who hold it let go
    Raises BlockingIOError if others hold it and it is not to wait; OSError where the file system has no locks.

    Not by the package filelock: it opens the file itself, by its path, whereas here what is locked is what was checked (no
    link, nothing of someone else's) and is then written; and it locks neither folders nor shared.
    """
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the folder for one writer; the system lets go of it when the process ends, however it ends.

    Raises RagvecError if another process holds it, unless it is to wait. A file system that cannot lock folders (some network
    ones) is left unlocked.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            lock(descriptor, wait=wait)
        except BlockingIOError:
            raise Busy(f"{folder} is being written by another run: wait for it, or write to another folder") from None
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                raise
        yield
    finally:
        os.close(descriptor)
