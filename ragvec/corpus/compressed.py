"""Decompressed bytes of .gz and .zst files: what comes before damage is given, and what inflates without end is refused."""

import gzip
import hashlib
import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import zstandard

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSIONS = (".gz", ".zst")
DAMAGE = (OSError, EOFError, zlib.error, zstandard.ZstdError)  # what reading a damaged stream raises
MOST_INFLATION = 1100  # gzip reaches 1,032 with zeros, text hardly 50; Zstandard would reach 30,000
FREE_BYTES = 16 << 20  # what any file may inflate to
_ZSTD_READ = 1 << 16
_ZSTD_INPUT = 1 << 10  # goes into the decompressor at once: 32 MB at most come out
_ZSTD_WINDOW = 1 << 31  # as `zstd --long=31` allows


class HashedFile(io.RawIOBase):
    """A readable file that counts and hashes what passes through, so that a corpus is read once, not twice."""

    def __init__(self, file: io.RawIOBase | BinaryIO) -> None:
        self._file: Any = file
        self.digest = hashlib.sha256()
        self.bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        count: int = self._file.readinto(buffer)
        self.digest.update(memoryview(buffer)[:count])
        self.bytes += count
        return count


def decompressed(file: HashedFile, name: str) -> io.RawIOBase:
    """The bytes that a file's name promises: decompressed, or as they are."""
    suffix = Path(name).suffix.lower()
    if suffix not in COMPRESSIONS:
        return file
    return _Bounded(_GzipFile(fileobj=file) if suffix == ".gz" else _ZstdFile(file), file)


class _Bounded(io.RawIOBase):
    """A decompressed stream that may be MOST_INFLATION times as long as what it is made of, and no longer."""

    def __init__(self, file: io.BufferedIOBase | io.RawIOBase, compressed: HashedFile) -> None:
        self._file: Any = file
        self._compressed = compressed
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        count: int = self._file.readinto(buffer)
        self._bytes += count
        if self._bytes > FREE_BYTES + MOST_INFLATION * self._compressed.bytes:
            raise zstandard.ZstdError(f"it inflates more than {MOST_INFLATION:,} times, which text never does")
        return count


class _GzipFile(gzip.GzipFile):
    """One that gives what comes before damage, and only then raises."""

    def readinto(self, buffer: "WriteableBuffer") -> int:
        return self.readinto1(buffer)


class _ZstdFile(io.RawIOBase):
    """A Zstandard stream of one or several frames.

    zstandard's own reader takes a file cut off in the middle for a complete one; this one raises EOFError.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file
        self._frame: Any = None
        self._input = self._output = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        while not self._output:
            self._input = self._input or memoryview(self._file.read(_ZSTD_READ))
            data = self._input[:_ZSTD_INPUT]
            if not data:
                if self._frame:
                    raise EOFError("compressed file ended before its end-of-stream marker")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
            self._output = memoryview(self._frame.decompress(data))
            used = len(data)
            if self._frame.eof:
                used -= len(self._frame.unused_data)
                self._frame = None
            self._input = self._input[used:]
        room = memoryview(buffer)
        count = min(len(room), len(self._output))
        room[:count] = self._output[:count]
        self._output = self._output[count:]
        return count
