"""The file that tells other processes on this machine that an index is being served, and where.

The server holds a lock on it for as long as it lives, however it dies; what the file says counts only while that lock is held,
and only to the user who wrote it. It also holds a secret that nobody else can read: by it the server proves, before a query
or a key is sent, that it and not a stranger on the same port answers.
"""

import hashlib
import hmac
import ipaddress
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ragvec.artefacts import DATABASE_NAME
from ragvec.artefacts import SERVER_LOCK_NAME as ADVERT_NAME
from ragvec.files import open_at_once
from ragvec.locks import lock

INDEX_HEADER = "x-ragvec-index"  # of an answer: the identity of the index it comes from
PROOF_PATH = "/proof"
NONCE_HEADER, PROOF_HEADER = "x-ragvec-nonce", "x-ragvec-proof"
MOST_BYTES = 4096  # of the file
_PRIVATE = 0o600
_TRIES = 5  # one who looks for a server holds the lock for an instant
_PAUSE_S = 0.02


class Advert(NamedTuple):
    """A server on this machine, as its file describes it; host is an address of the loopback, secret is hexadecimal."""

    pid: int
    host: str
    port: int
    needs_key: bool
    secret: str


def index_identity(folder: Path) -> str:
    """What tells an index from one that has come to lie in its place. Raises OSError if there is none."""
    status = (folder / DATABASE_NAME).stat()
    return f"{status.st_dev}-{status.st_ino}"


def proof(secret: str, nonce: str, port: int) -> str:
    """What only a server that knows the secret can answer to a nonce; for its own port, so that none can be passed on."""
    return hmac.new(secret.encode(), f"ragvec {port} {nonce}".encode(), hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether a host is an address that only this machine reaches; a name is none."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def advertised(folder: Path, advert: Advert) -> Iterator[bool]:
    """Say in an index folder that a server serves it; yields whether that worked.

    It does not where the folder can't be written, the file is someone else's, the server can't be reached by the loopback, or
    another server is named there already: none is a reason not to serve.
    """
    descriptor = _hold(folder / ADVERT_NAME) if is_loopback(advert.host) else None
    if descriptor is None:
        yield False
        return
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({**advert._asdict(), "machine": socket.gethostname()}).encode(), 0)
        yield True
    finally:
        with suppress(OSError):
            os.truncate(descriptor, 0)
        os.close(descriptor)


def _hold(path: Path) -> int | None:
    """A descriptor of the file, locked, ours, and readable by nobody else, now or since it was made."""
    for _ in range(_TRIES):
        try:
            descriptor = open_at_once(path, os.O_RDWR | os.O_CREAT, _PRIVATE)
        except OSError:
            return None
        kept = False
        try:
            lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                if not _is_advert(descriptor):
                    break
                kept = _is_private(descriptor)
                if kept:
                    return descriptor
                os.unlink(path)  # others may hold it open: a new one takes its place
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        except OSError:
            break
        finally:
            if not kept:
                os.close(descriptor)
    return None


def _is_advert(descriptor: int) -> bool:
    """Whether a file is empty or holds what a server wrote: no other is emptied or removed."""
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and (not status.st_size or os.pread(descriptor, 1, 0) == b"{")


def _is_private(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    ours = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return ours and stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def find_server(folder: Path) -> Advert | None:
    """The living server of an index folder on this machine, if there is one and the user's own private file says so."""
    try:
        descriptor = open_at_once(folder / ADVERT_NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        return _read(descriptor)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> Advert | None:
    if not _is_private(descriptor):
        return None
    try:
        lock(descriptor, shared=True)
        return None  # who held it is dead
    except BlockingIOError:
        said = json.loads(os.read(descriptor, MOST_BYTES))
    if said["machine"] != socket.gethostname() or said["pid"] == os.getpid() or not is_loopback(str(said["host"])):
        return None
    return Advert(
        pid=int(said["pid"]),
        host=str(said["host"]),
        port=int(said["port"]),
        needs_key=bool(said["needs_key"]),
        secret=str(said["secret"]),
    )
