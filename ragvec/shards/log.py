"""What is added to an unfinished manifest: a line for each part, so that a run of n parts writes n records, not n²."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from ragvec.checked import Mismatch, check_value
from ragvec.files import fsync_folder, is_own_file, read_described

LOG = "parts.log"
_HEAD = "manifest"


class PartLog:
    """Records of parts, each on disk when `append` returns. The first line names the one manifest that they add to.

    Whatever manifest.json is replaced by, the log of the one before is void from then on: no kill leaves records that count
    for another manifest. A line that a kill has cut short is passed over.
    """

    def __init__(self, folder: Path, manifest: bytes) -> None:
        """Begin an empty log for a manifest that is on disk; of an older log nothing is left. Raises OSError."""
        path = folder / LOG
        is_own_file(path)
        with suppress(FileNotFoundError):
            path.unlink()  # never written through, wherever it leads by now
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - open for as long as the run goes on
        self._write({_HEAD: _digest(manifest)})
        fsync_folder(folder)

    def append(self, number: int, part: dict[str, Any]) -> None:
        """Note that this is now the part of this number. Raises OSError."""
        self._write({"number": number, "part": part})

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        line = memoryview(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        while line:  # an unbuffered write may take only some of it
            line = line[self._file.write(line) :]
        os.fsync(self._file.fileno())


def logged_parts(folder: Path, manifest: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """The numbers and records of parts that a log adds to this manifest, in order; none where it belongs to another.

    Raises Mismatch for a line that is no such record, OSError, and Damaged for what is no file of ours.
    """
    path = folder / LOG
    if not is_own_file(path):
        return
    head, *lines = (read_described(path).rpartition(b"\n")[0] or b"{}").split(b"\n")
    if _parsed(head).get(_HEAD) != _digest(manifest):
        return
    for line in lines:
        record = _parsed(line)
        yield check_value("number", record.get("number"), int), check_value("part", record.get("part"), dict[str, Any])


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = check_value(LOG, orjson.loads(line), dict[str, Any])
    except orjson.JSONDecodeError as error:
        raise Mismatch(f"{LOG} holds a line that is no JSON") from error
    return record


def _digest(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()
