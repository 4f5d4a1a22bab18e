"""Corpus files as streams: found in a folder, opened, decompressed, hashed while they are read, cut into lines."""

import gzip
import hashlib
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

from ragvec.errors import RagvecError
from ragvec.files import sha256_file

STDIN = "-"
FORMATS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".parquet": "parquet", ".csv": "csv", ".tsv": "tsv",
    ".txt": "text", ".text": "text", ".md": "markdown", ".markdown": "markdown",
    ".html": "converted", ".htm": "converted", ".pdf": "converted", ".docx": "converted",
}  # fmt: skip
COMPRESSIONS = (".gz", ".zst")
_BEIR_CORPUS, _BEIR_QUERIES = "corpus", "queries"
_BUFFER = 1 << 20
_ZSTD_INPUT = 1 << 14  # small, because a block of zeros inflates a thousandfold
_ZSTD_WINDOW = 1 << 31  # as `zstd --long=31` allows
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DAMAGE = (OSError, EOFError, zlib.error, zstandard.ZstdError)


class InputFile(NamedTuple):
    """A file that was read to its end: path as given, size in bytes, SHA-256 of its bytes as stored."""

    path: str
    bytes: int
    sha256: str


class CorpusFiles(NamedTuple):
    """The files of a corpus in reading order, the folder their names count from, and what was passed over in it."""

    paths: list[Path]
    root: Path
    skipped: list[Path]


def corpus_files(source: str | Path) -> CorpusFiles:
    """Every readable file of a corpus: one file, or a folder's files in sorted order, subfolders included.

    A folder that holds both corpus.* and queries.* (BEIR) stands for its corpus alone. Hidden files, files of other kinds and
    folders that ragvec wrote (shards, indices) are passed over; the two latter are listed in `skipped`, as are PDF, HTML,
    DOCX where markitdown is not installed.
    Raises RagvecError if the source is missing, of an unknown kind, or a folder without a readable file.
    """
    path = Path(source)
    if path.is_dir():
        if _is_ragvec_output(path):
            raise RagvecError(f"{path} was written by ragvec and is not a corpus: name the folder or file with the documents")
        paths, skipped = _walk(path)
        if not paths:
            raise RagvecError(f"{path} holds no corpus file: looked for {_known_suffixes()}, also with .gz or .zst")
        return CorpusFiles(paths, path, skipped)
    if not path.exists():
        raise RagvecError(f"{path} does not exist: name a file, a folder, or - for standard input")
    if format_of(path) is None:
        raise RagvecError(f"{path} has an unknown suffix: use one of {_known_suffixes()}, also with .gz or .zst")
    return CorpusFiles([path], path.parent, [])


def format_of(path: Path) -> str | None:
    """The format that a file's name promises, compression aside; None if it promises none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
    if compressed:
        suffixes.pop()
    found = FORMATS.get(suffixes[-1]) if suffixes else None
    return None if compressed and found == "parquet" else found


def can_convert() -> bool:
    """Whether what reads PDF, HTML and DOCX (the extra `docs`) is installed."""
    return find_spec("markitdown") is not None


@contextmanager
def open_input(path: str | Path, on_file: Callable[[InputFile], None] | None = None) -> Iterator[BinaryIO]:
    """A file's decompressed bytes; `-` is standard input. on_file hears its size and hash once it has been read."""
    name = str(path)
    try:
        raw = sys.stdin.buffer if name == STDIN else open(path, "rb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise RagvecError(f"{path} cannot be read: {error.strerror}") from error
    try:
        hashing = _HashingFile(raw)
        yield io.BufferedReader(_decompressed(hashing, name), _BUFFER)
        if on_file:
            hashing.readall()  # what follows the last compressed frame belongs to the file too
            on_file(InputFile(name, hashing.bytes, hashing.digest.hexdigest()))
    finally:
        if name != STDIN:
            raw.close()


def describe_file(path: Path) -> InputFile:
    """Size and hash of a file that is not read from front to back (Parquet)."""
    return InputFile(str(path), path.stat().st_size, sha256_file(path))


def byte_lines(file: BinaryIO, path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers from 1 and lines with their ends, a leading byte-order mark taken off.

    Raises RagvecError where the file is unreadable or its compression is damaged.
    """
    number = 0
    try:
        for number, line in enumerate(file, 1):
            yield number, line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
    except _DAMAGE as error:
        raise RagvecError(f"{path} is damaged after line {number}: {error}") from error


def text_lines(file: BinaryIO, path: str | Path) -> Iterator[str]:
    """Lines as text. Raises RagvecError with the line number for bytes that are not UTF-8."""
    for number, line in byte_lines(file, path):
        yield decode(line, f"{path}, line {number}")


def read_bytes(file: BinaryIO, path: str | Path, size: int = -1) -> bytes:
    """The next `size` bytes, or all that follow. Raises RagvecError where the file is unreadable or its compression damaged."""
    try:
        return file.read(size)
    except _DAMAGE as error:
        raise RagvecError(f"{path} is damaged: {error}") from error


def decode(data: bytes, place: str) -> str:
    """UTF-8 bytes as text, a byte-order mark taken off. Raises RagvecError that names the place and the first bad byte."""
    try:
        return data.removeprefix(_BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        hint = " (it begins like UTF-16)" if utf16 else ""
        raise RagvecError(
            f"{place}: byte 0x{data[error.start]:02x} at {error.start} is not UTF-8{hint}: convert the file, e.g. with iconv"
        ) from error


def _walk(root: Path) -> tuple[list[Path], list[Path]]:
    paths, skipped = [], []
    for folder, subfolders, names in os.walk(root, onerror=_unlistable):
        here = Path(folder)
        kept = sorted(name for name in subfolders if not name.startswith("."))
        ours = [name for name in kept if _is_ragvec_output(here / name)]
        skipped += [here / name for name in ours]
        subfolders[:] = [name for name in kept if name not in ours]
        files = [here / name for name in names if not name.startswith(".")]
        beir = _beir_corpus(files)
        if beir:
            paths.append(beir)
            subfolders.clear()
            continue
        for path in files:
            kind = format_of(path)
            readable = kind is not None and (kind != "converted" or can_convert())
            (paths if readable else skipped).append(path)
    return sorted(paths), sorted(skipped)


def _unlistable(error: OSError) -> None:
    raise RagvecError(f"{error.filename} cannot be listed: {error.strerror}") from error


def _beir_corpus(files: list[Path]) -> Path | None:
    """A BEIR folder's corpus, if these are the files of one."""
    stems = {path.name.split(".")[0]: path for path in files if format_of(path) in ("jsonl", "parquet")}
    return stems.get(_BEIR_CORPUS) if _BEIR_QUERIES in stems else None


def _is_ragvec_output(folder: Path) -> bool:
    shards = (folder / "manifest.json").exists() and (folder / "part-00000.parquet").exists()
    return shards or (folder / "index.sqlite").exists()


def _known_suffixes() -> str:
    return ", ".join(FORMATS)


def _decompressed(file: io.RawIOBase, name: str) -> io.RawIOBase:
    suffix = Path(name).suffix.lower()
    if suffix == ".gz":
        return _GzipFile(fileobj=file)
    return _ZstdFile(file) if suffix == ".zst" else file


class _HashingFile(io.RawIOBase):
    """A readable file that hashes what passes through, so that a corpus is read once, not twice."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self._file.readinto(buffer)
        self.digest.update(memoryview(buffer)[:count])
        self.bytes += count
        return count


class _GzipFile(gzip.GzipFile):
    """One that gives what comes before damage, and only then raises."""

    def readinto(self, buffer) -> int:
        return self.readinto1(buffer)


class _ZstdFile(io.RawIOBase):
    """A Zstandard stream of one or several frames.

    zstandard's own reader takes a file cut off in the middle for a complete one; this one raises EOFError.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file
        self._frame = None
        self._input = self._output = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._output:
            data = self._input or self._file.read(_ZSTD_INPUT)
            self._input = b""
            if not data:
                if self._frame:
                    raise EOFError("compressed file ended before its end-of-stream marker")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
            self._output = self._frame.decompress(data)
            if self._frame.eof:
                self._input, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._output))
        buffer[:count] = self._output[:count]
        self._output = self._output[count:]
        return count
