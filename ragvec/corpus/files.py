"""Corpus files as streams: found in a folder, opened, decompressed, hashed while they are read, cut into lines."""

import codecs
import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ragvec.arguments import address_of
from ragvec.artefacts import kind_of
from ragvec.corpus.compressed import DAMAGE, HashedFile, decompressed
from ragvec.corpus.encodings import guessed, interleaved
from ragvec.corpus.found import CorpusFiles, beir_corpus, is_hidden
from ragvec.corpus.kinds import ALL_FILES, FORMATS, FileChoice, can_read, without_descriptions
from ragvec.corpus.stored import stored_files
from ragvec.errors import NoDocuments, NotFound, RagvecError, WrongInput, WrongUsage, without_controls
from ragvec.files import sha256_file
from ragvec.objects import ObjectFile, ObjectPath, as_path

STDIN = "-"
MAX_VALUE_MB = 128  # of a line, a value, or a file that must be read whole
_BUFFER = 1 << 20
_READ_PAST = 16  # times the longest line: what is longer still ends its file
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # in no encoding of text but UTF-16
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class InputFile(NamedTuple):
    """A file that was read to its end: path as given, size in bytes, SHA-256 of its bytes as stored.

    etag   instead of a SHA-256, the store's own mark of an object's version that was not read from front to back
    """

    path: str
    bytes: int
    sha256: str
    etag: str = ""

    def describe(self) -> dict[str, str | int]:
        """The file as JSON values; an empty mark is left out."""
        return {name: value for name, value in self._asdict().items() if name != "etag" or value}


def corpus_files(
    source: str | Path, choice: FileChoice = ALL_FILES, *, on_unlistable: Callable[[RagvecError], None] | None = None
) -> CorpusFiles:
    """Every readable file of a corpus: one file, or a folder's files in sorted order, subfolders included.

    A folder that holds both corpus.* and queries.* (BEIR) stands for its corpus alone. Hidden files, quarantine files, files of
    other kinds and folders that ragvec wrote (shards, indices) are passed over; the two latter are listed in `skipped`, as are
    PDF, HTML, DOCX where markitdown is not installed. A link counts only where it leads to a file of the folder that is not
    hidden.
    choice         which of a folder's files are read, and as what; those that it leaves out are listed nowhere
    on_unlistable  called for each subfolder that can't be listed, where there are files elsewhere; None = the first one raises
    Raises RagvecError if the source is missing, of an unknown kind, or a folder without a readable file.
    """
    if source == "":  # as of a variable that is not set; the folder one is in is called .
        raise WrongUsage("a corpus has an empty name: name a file, a folder, or - for standard input")
    path = as_path(source)
    shown = path_text(path)
    if isinstance(path, ObjectPath):
        return _readable(stored_files(path, choice), shown, choice)
    if os.path.isdir(path):
        if _is_ragvec_output(path):
            raise WrongInput(f"{shown} was written by ragvec and is not a corpus: name the folder or file with the documents")
        return _readable(_walk(path, choice, on_unlistable), shown, choice)
    if not os.path.exists(path):
        if address := address_of(path):
            raise WrongUsage(
                f"{address} is an address that no corpus is read from: name a file, a folder, or object storage (s3://…)"
            )
        raise NotFound(f"{shown} does not exist: name a file, a folder, or - for standard input")
    if choice.format_of(path) is None:
        known = _known_suffixes(choice)
        raise WrongInput(
            f"{shown} has an unknown suffix: use one of {known}, also with .gz or .zst, or name it in `text_suffixes`"
        )
    return CorpusFiles([path], path.parent)


def _readable(files: CorpusFiles, shown: str, choice: FileChoice) -> CorpusFiles:
    """The files of a folder. Raises NoDocuments if there are none."""
    if files.paths:
        return files
    why = f"; {len(files.outside):,} lead out of it or are no regular files" if files.outside else ""
    if unconverted := [path for path in files.skipped if choice.format_of(path) and not os.path.isdir(path)]:
        shown_one = path_text(unconverted[0].relative_to(files.root))
        why += f"; {len(unconverted):,} need markitdown ({shown_one}): pip install 'ragvec[docs]'"
    chosen = " that `include` and `exclude` leave" if choice.include or choice.exclude else ""
    known = _known_suffixes(choice)
    raise NoDocuments(f"{shown} holds no corpus file{chosen}: looked for {known}, also with .gz or .zst{why}")


def path_text(path: str | Path) -> str:
    r"""A path as one line of valid text: bytes that are not UTF-8, and control characters, become \xNN."""
    return without_controls(os.fsencode(path).decode("utf-8", "backslashreplace"))


@contextmanager
def open_input(
    path: str | Path, on_file: Callable[[InputFile], None] | None = None, *, within: Path | None = None
) -> Iterator[io.BufferedReader]:
    """A file's decompressed bytes; `-` is standard input. on_file hears its size and hash once it has been read.

    within   the folder that the file must lie in, whatever links have come up since it was found there
    """
    name = str(path)
    raw = sys.stdin.buffer if name == STDIN else open_regular(path, within)
    try:
        hashed = HashedFile(raw)
        yield io.BufferedReader(decompressed(hashed, name), _BUFFER)
        if on_file:
            while hashed.read(_BUFFER):  # what follows the last compressed frame belongs to the file too
                pass
            on_file(InputFile(path_text(name), hashed.bytes, hashed.digest.hexdigest()))
    finally:
        if name != STDIN:
            raw.close()


def open_regular(path: str | Path, within: Path | None = None) -> BinaryIO:
    """Open a file for reading, without a buffer. Raises RagvecError for what is no regular file: a pipe would wait for ever.

    within   as for `open_input`
    An object is read from its store, a few megabytes at a time.
    """
    if isinstance(path, ObjectPath):
        return ObjectFile(path)  # type: ignore[return-value]
    shown = path_text(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise WrongInput(f"{shown} is not a regular file: name one, or pass - and pipe the documents in")
        file = open(path, "rb", buffering=0, opener=_open_at_once)  # noqa: SIM115
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and (within is None or _lies_in(file, path, within)):
            return file
        file.close()
    except OSError as error:
        raise WrongInput(f"{shown} cannot be read: {error.strerror}") from error
    raise WrongInput(f"{shown} has become a link out of the folder, or no file: it is not read")


def file_size(path: Path) -> int:
    """A corpus file's bytes, as its listing says."""
    if isinstance(path, ObjectPath):
        return path.found.size if path.found else 0
    return path.stat().st_size


def describe_file(path: Path) -> InputFile:
    """Size and hash of a file that is not read from front to back (Parquet); of an object its mark, not to fetch it twice."""
    if isinstance(path, ObjectPath):
        with ObjectFile(path) as file:
            return InputFile(path_text(path), file.about.size, "", file.about.etag)
    try:
        return InputFile(path_text(path), path.stat().st_size, sha256_file(path))
    except OSError as error:
        raise WrongInput(f"{path_text(path)} cannot be read: {error.strerror}") from error


def byte_lines(
    file: BinaryIO, path: str | Path, max_value_mb: int | None = None, *, keep_place: bool = False
) -> Iterator[tuple[int, bytes | None]]:
    """Line numbers from 1 and lines with their ends, a leading byte-order mark taken off.

    max_value_mb   the longest line
    keep_place     give None for a longer one, and go on behind it; otherwise it raises
    Raises RagvecError where the file is unreadable or its compression is damaged.
    """
    most = most_bytes(max_value_mb)
    number = 0
    try:
        while line := file.readline(most + 1):
            number += 1
            if len(line) > most:
                if not keep_place:
                    raise WrongInput(too_long(f"{path}, line {number}", max_value_mb))
                line = None
                _read_past(file, f"{path}, line {number}", _READ_PAST * most)
            yield number, line.removeprefix(_BYTE_ORDER_MARK) if line and number == 1 else line
    except DAMAGE as error:
        raise WrongInput(f"{path} is damaged after line {number}: {error}") from error


def text_lines(file: BinaryIO, path: str | Path, max_value_mb: int | None = None) -> Iterator[str]:
    """Lines as text. Raises RagvecError with the line number for bytes that are not UTF-8, or a line over the limit."""
    for number, line in byte_lines(file, path, max_value_mb):
        assert line is not None
        yield decode(line, f"{path}, line {number}")


def read_bytes(file: BinaryIO, path: str | Path, size: int) -> bytes:
    """The next `size` bytes. Raises RagvecError where the file is unreadable or its compression damaged."""
    try:
        return file.read(size)
    except DAMAGE as error:
        raise WrongInput(f"{path} is damaged: {error}") from error


def read_whole(file: BinaryIO, path: str | Path, max_value_mb: int | None = None) -> bytes:
    """All bytes of a file. Raises RagvecError where they are too many, unreadable, or their compression is damaged."""
    pieces, room = [], most_bytes(max_value_mb)
    while piece := read_bytes(file, path, _BUFFER):
        pieces.append(piece)
        room -= len(piece)
        if room < 0:
            raise WrongInput(too_long(str(path), max_value_mb))
    return b"".join(pieces)


def too_long(place: str, max_value_mb: int | None) -> str:
    """What to say of a line, value or file over the limit: an argument only where whoever reads has one (not None)."""
    return f"{place}: longer than {most_bytes(max_value_mb) >> 20:,} MB: {or_allow_more('break it up', max_value_mb)}"


def or_allow_more(remedy: str, max_value_mb: int | None) -> str:
    """A remedy for what is over the limit, and the argument that raises it where whoever reads has one."""
    return remedy if max_value_mb is None else f"{remedy}, or allow more (`max_value_mb`)"


def most_bytes(max_value_mb: int | None) -> int:
    """The limit of a line, value or file in bytes; None = 128 MB, which whoever reads cannot choose."""
    return (MAX_VALUE_MB if max_value_mb is None else max_value_mb) << 20


def decode(data: bytes, place: str) -> str:
    """UTF-8 bytes as text, a byte-order mark taken off. Raises RagvecError that names the place and the first bad byte."""
    if unmarked := interleaved(data):
        raise RagvecError(f"{place}: every other byte is NUL: give the file's `encoding`, perhaps {unmarked}")
    try:
        return data.removeprefix(_BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RagvecError(
            f"{place}: byte 0x{data[error.start]:02x} at {error.start} is not UTF-8: {encoding_remedy(data)}"
        ) from error


def encoding_remedy(data: bytes) -> str:
    """What to do about bytes that are not UTF-8."""
    if _NO_TEXT.search(data) and not data.startswith(_UTF_16):
        return "it is no text: leave it out, or name it by what it is"
    return f"give the file's `encoding`, perhaps {guessed(data)}, or convert it, e.g. with iconv"


def _walk(root: Path, choice: FileChoice, on_unlistable: Callable[[RagvecError], None] | None) -> CorpusFiles:
    real = os.path.realpath(root)
    paths: list[Path] = []
    skipped: list[Path] = []
    outside: list[Path] = []
    unlistable: list[RagvecError] = []

    def note(error: OSError) -> None:
        raised = WrongInput(f"{path_text(error.filename)} cannot be listed: {error.strerror}")
        if on_unlistable is None or error.filename == os.fspath(root):
            raise raised from error
        unlistable.append(raised)

    for folder, subfolders, names in os.walk(root, onerror=note):
        here = Path(folder)
        above = "" if here == root else f"{here.relative_to(root).as_posix()}/"
        kept = sorted(name for name in subfolders if not name.startswith(".") and choice.enters(above + name))
        links = [name for name in kept if os.path.islink(here / name)]
        ours = [name for name in kept if name not in links and _is_ragvec_output(here / name)]
        outside += [here / name for name in links]
        skipped += [here / name for name in ours]
        subfolders[:] = [name for name in kept if name not in (*ours, *links)]
        shown = [name for name in names if not is_hidden(name)]
        files = without_descriptions([here / name for name in shown if choice.takes(above + name)])
        beir = beir_corpus(files)
        if beir:
            subfolders.clear()
        for path in [beir] if beir else files:
            if can_read(path, choice.format_of(path)):
                (paths if _belongs(path, real) else outside).append(path)
            else:
                skipped.append(path)
    if unlistable and not paths:
        raise unlistable[0]
    for raised in unlistable:
        assert on_unlistable is not None
        on_unlistable(raised)
    return CorpusFiles(sorted(paths), root, within=root, skipped=sorted(skipped), outside=sorted(outside))


def _belongs(path: Path, real_root: str) -> bool:
    """Whether a name in a folder is a regular file, or a link to one that the folder shows."""
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISLNK(mode):
            return stat.S_ISREG(mode)
        real = os.path.realpath(path)
        hidden = any(part.startswith(".") for part in Path(os.path.relpath(real, real_root)).parts)  # .. begins so too
        return not hidden and stat.S_ISREG(os.stat(real).st_mode)
    except OSError:
        return not os.path.islink(path)  # gone, or not to be read: whoever opens it will say


def _lies_in(file: BinaryIO, path: str | Path, folder: Path) -> bool:
    real, root = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([real, root]) == root and os.path.samestat(os.fstat(file.fileno()), os.lstat(real))


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a pipe's writer, and without making a terminal ours."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def _read_past(file: BinaryIO, place: str, most: int) -> None:
    """Go to the end of a line. Raises RagvecError if that is too far."""
    while most > 0:
        piece = file.readline(_BUFFER)
        if not piece or piece.endswith(b"\n"):
            return
        most -= len(piece)
    raise WrongInput(f"{place}: the line does not end: the rest of the file is not read")


def _is_ragvec_output(folder: Path) -> bool:
    kind = kind_of(folder)  # others call a file of theirs manifest.json, too
    return kind == "index" or (kind == "shards" and os.path.exists(folder / "part-00000.parquet"))


def _known_suffixes(choice: FileChoice) -> str:
    return ", ".join(dict.fromkeys((*FORMATS, *choice.text_suffixes)))
