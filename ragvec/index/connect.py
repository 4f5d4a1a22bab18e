"""Connections to index.sqlite, opened only after what lies there was found to be an index's own; and its errors in one line.

A writer works in write-ahead mode, so that readers keep reading the last commit while it works. It leaves a plain single file
behind if nobody has the index open then: one that opens on a shared or read-only disk too, and by a user who may not write.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from ragvec.artefacts import DATABASE_NAME
from ragvec.errors import Busy, Damaged, RagvecError, Unavailable, WrongInput
from ragvec.files import is_own_file
from ragvec.index.layout import check_layout
from ragvec.index.store import SCHEMAS
from ragvec.index.validity import check_schema

_SQLITE_BUSY, _SQLITE_LOCKED = 5, 6  # the sqlite3 module names them from Python 3.11 on
WAIT_S = 30.0  # for a lock that another connection holds for a moment
PATIENCE_S = 60.0  # of a writer, for readers who began before it: write-ahead mode begins between two reads


@contextmanager
def readable_errors(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors into one line that says which index, and what to do."""
    try:
        yield
    except (sqlite3.DatabaseError, UnicodeEncodeError) as error:
        raise readable_error(folder, error) from error


def readable_error(folder: Path, error: sqlite3.DatabaseError | UnicodeEncodeError) -> RagvecError:
    """What to say instead of an error of SQLite's, or of handing it a text that can't be written down."""
    if isinstance(error, UnicodeEncodeError):
        return WrongInput(f"{error.object[:60]!a} is no Unicode text: check the terminal's or the file's encoding")
    if isinstance(error, sqlite3.OperationalError):
        return (Busy if is_locked(error) else Unavailable)(f"index {folder} can't be used now: {error}")
    return Damaged(f"index {folder} is damaged ({error}): restore it, or remove it and build it again")


def is_locked(error: sqlite3.Error) -> bool:
    """Whether another connection is in the way."""
    # Python 3.10 keeps the code to itself: there any error is taken for it
    code = getattr(error, "sqlite_errorcode", _SQLITE_BUSY)
    return code & 0xFF in (_SQLITE_BUSY, _SQLITE_LOCKED)  # the other bits say more of the same


def connect_to_read(folder: Path) -> sqlite3.Connection:
    """A connection that can't change the index, also where the folder can't be written."""
    path = folder / DATABASE_NAME
    check_layout(folder)
    # mode=rw, not ro: after a crash the first reader must be allowed to roll back or recover. SQLite itself falls back to
    # reading where the file may not be written.
    connection = _connect(path, "mode=rw")
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        log = path.with_name(f"{DATABASE_NAME}-wal")
        if log.exists() and log.stat().st_size:
            raise
        connection = _connect(path, "mode=ro&immutable=1")  # left in write-ahead mode, now in a folder that can't be written
    connection.execute("PRAGMA query_only = ON")
    try:
        check_schema(connection, SCHEMAS)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def connection_to_write(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection in write-ahead mode; the file returns to a plain one at the end if no reader has it open."""
    check_layout(folder)
    is_own_file(folder / DATABASE_NAME, alone=True)
    connection = _connect(folder / DATABASE_NAME, "mode=rw")
    try:
        check_schema(connection, SCHEMAS)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, not only forgotten
        if not _switch_journal(connection, "WAL", patience_s=PATIENCE_S):
            raise Busy(f"index {folder} is being read without a pause for {PATIENCE_S:.0f} s: try again when that has ended")
        try:
            yield connection
        finally:
            # What was committed is safe in the log: where a reader or a full disk is in the way, the next writer does it.
            with suppress(sqlite3.OperationalError):
                _switch_journal(connection, "DELETE", patience_s=0.0)
    finally:
        connection.close()


def _connect(path: Path, options: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{options}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=WAIT_S, check_same_thread=False)


def _switch_journal(connection: sqlite3.Connection, mode: str, patience_s: float) -> bool:
    """Whether the journal could be switched: no reader may be in the way."""
    connection.execute("PRAGMA busy_timeout = 50")
    deadline = time.monotonic() + patience_s
    while True:
        try:
            connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.execute(f"PRAGMA busy_timeout = {int(WAIT_S * 1000)}")
            return True
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)


class Connections:
    """Connections of one index, lent to any thread that reads; never carried over a fork."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._idle: list[sqlite3.Connection] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def lent(self) -> "_Lent":
        """A context with a connection for one reader. At its end the transaction ends; SQLite's errors become one line."""
        return _Lent(self)

    def take(self) -> sqlite3.Connection:
        """A connection that is idle, or a new one."""
        with self._lock:
            if self._pid != os.getpid():
                self._idle, self._pid = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        with readable_errors(self.folder):
            return connect_to_read(self.folder)

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Keep a connection for the next reader."""
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        """Close every idle connection."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()


class _Lent:
    """A class, because a function with @contextmanager takes 10 µs of a search's 300."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> sqlite3.Connection:
        self._connection = self._connections.take()
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._connections.give_back(self._connection)
        if isinstance(error, (sqlite3.DatabaseError, UnicodeEncodeError)):
            raise readable_error(self._connections.folder, error) from error
