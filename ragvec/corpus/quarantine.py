"""The quarantine file: what could not be read, where it stood and why, so that it can be mended and fed in again."""

import os
import reprlib
import stat
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import orjson

from ragvec.corpus.documents import Rejected
from ragvec.errors import RagvecError, WrongInput
from ragvec.files import open_at_once

_LONGEST = 1 << 20  # characters of a record that are kept
_BEGINNING = b'{"place":'  # of every line
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


class Quarantine:
    """Collects rejected rows in a JSONL file: `place`, `error`, `record`. Use as a context, and as `on_reject`.

    The file is made with the first rejected row; one that an earlier run left is then replaced, or removed if there is none.
    Raises WrongInput on entering it, before anything is read, where something lies there that no run left.
    """

    def __init__(self, path: Path | None) -> None:
        """path: None = count only."""
        self.path, self.count = path, 0
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "Quarantine":
        self._is_there()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file:
            self._file.close()
        elif kind is None:
            self._remove_old()

    def __call__(self, rejected: Rejected) -> None:
        """Keep one row."""
        self.count += 1
        if self.path is None:
            return
        try:
            if self._file is None:
                self._remove_old()
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "xb")  # noqa: SIM115 - open until the context ends; x: through no link
            self._file.write(_line(rejected))
            self._file.flush()
        except OSError as error:
            raise RagvecError(f"{self.path} cannot be written: {error.strerror}") from error

    def _remove_old(self) -> None:
        if self.path and self._is_there():
            try:
                self.path.unlink()
            except OSError as error:
                raise WrongInput(f"{self.path}, of an earlier run, cannot be removed: {error.strerror}") from error

    def _is_there(self) -> bool:
        """Whether an earlier run's file is there. Raises WrongInput for whatever else is, which is not ours to write over."""
        if self.path is None:
            return False
        try:
            descriptor = open_at_once(self.path, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return False  # making it will say what is wrong with the folder
        except OSError as error:
            raise self._not_ours() from error
        try:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            if not is_file or os.pread(descriptor, len(_BEGINNING), 0) not in (b"", _BEGINNING):
                raise self._not_ours()
        finally:
            os.close(descriptor)
        return True

    def _not_ours(self) -> WrongInput:
        return WrongInput(f"{self.path} is no quarantine file that ragvec wrote: move it away, or choose another place")


def _line(rejected: Rejected) -> bytes:
    about = {"place": rejected.place, "error": rejected.error}
    return orjson.dumps({**about, "record": _kept(rejected.record)}, option=orjson.OPT_APPEND_NEWLINE | _OPTIONS)


def _kept(record: Any) -> Any:
    """What stood there as JSON can hold it: a string of its beginning, where it is long or no JSON."""
    if isinstance(record, str):
        record = record[:_LONGEST].encode("utf-8", "backslashreplace").decode()
    try:
        line = orjson.dumps({"record": record}, option=_OPTIONS)
    except TypeError:  # a value that JSON lacks, half a surrogate pair, or nested too deeply
        return _as_text(record)
    return record if len(line) <= 4 * _LONGEST else line[:_LONGEST].decode("utf-8", "ignore")


def _as_text(record: Any) -> str:
    try:
        return ascii(record)[:_LONGEST]
    except RecursionError:
        return ascii(reprlib.repr(record))
