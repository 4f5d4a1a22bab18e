"""Text that is not UTF-8: told by its byte-order mark or by whoever reads it, guessed for a message where neither says."""

import codecs
import io
import re
from typing import TYPE_CHECKING, BinaryIO

from ragvec.corpus.compressed import DAMAGE
from ragvec.errors import WrongInput, WrongUsage

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_PIECE = 1 << 16
_LOOKED_AT = 1 << 20
_FEWEST, _SAMPLE = 4, 256  # bytes that tell UTF-16 by its NULs
_HANGUL = re.compile("[가-힣]")
_OTHERS = re.compile(r"[^\x00-\x7f]")


def check_encoding(encoding: str | None) -> None:
    """Raises WrongInput for a name that is no encoding of text."""
    try:
        if encoding is not None:
            "".encode(encoding)
    except (LookupError, UnicodeError) as error:
        raise WrongUsage(f"`encoding` {encoding!r} is not known: try cp949, cp1252, utf-16 …") from error


def as_utf8(file: io.BufferedReader, shown: str, encoding: str | None) -> io.BufferedReader:
    """The file's text as UTF-8: as it is, unless it begins with a mark of UTF-16 or UTF-32, or is told to be something else.

    encoding   of files that are not UTF-8 by what they begin with; None = all others are UTF-8
    """
    try:
        beginning = file.peek(1)
    except DAMAGE as error:
        raise WrongInput(f"{shown} is damaged after line 0: {error}") from error
    named = next((name for mark, name in _MARKS if beginning.startswith(mark)), None)
    if named is None and encoding is not None and not _is_utf8(beginning[:_LOOKED_AT]):
        named = encoding
    if named is None or codecs.lookup(named).name == "utf-8":
        return file
    return io.BufferedReader(_Transcoded(file, shown, named), _LOOKED_AT)


def guessed(data: bytes) -> str:
    """What bytes that are not UTF-8 seem to be, as the name of an encoding."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    try:
        text = codecs.getincrementaldecoder("cp949")().decode(data)  # the last character may be cut
        if len(_HANGUL.findall(text)) * 2 > len(_OTHERS.findall(text)):
            return "cp949"
    except UnicodeDecodeError:
        pass
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def interleaved(data: bytes) -> str | None:
    """The UTF-16 without a mark that bytes seem to be which spell ASCII with a NUL beside each; they are valid UTF-8, too."""
    halves = [data[first:_SAMPLE:2] for first in (0, 1)] if len(data) >= _FEWEST else []
    for of_text, of_nuls, name in zip(halves, halves[::-1], ("utf-16-le", "utf-16-be"), strict=False):
        if 0 not in of_text and not any(of_nuls):
            return name
    return None


def _is_utf8(beginning: bytes) -> bool:
    """Whether it is UTF-8 and says so, by characters beyond ASCII."""
    try:
        # the last character may be cut; what is ASCII but for that says nothing
        return not codecs.getincrementaldecoder("utf-8")().decode(beginning).isascii()
    except UnicodeDecodeError:
        return False


class _Transcoded(io.RawIOBase):
    """A file's text, made to UTF-8 while it is read."""

    def __init__(self, file: BinaryIO, shown: str, encoding: str) -> None:
        self._file, self._shown, self._encoding = file, shown, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        while not self._ready and not self._ended:
            piece = self._file.read(_PIECE)
            self._ended = not piece
            try:
                self._ready = self._decoder.decode(piece, final=self._ended).encode("utf-8", "surrogatepass")
            except UnicodeError as error:
                raise WrongInput(f"{self._shown} is not {self._encoding}: {error}") from error
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count
