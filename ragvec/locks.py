"""Locks on files, which the kernel lets go of when their holder dies, however it dies."""

from typing import IO

from ragvec.errors import RagvecError

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
