"""PDF, HTML, Office files and the like made to Markdown in a process of its own, with bounds of time and memory.

Their parsers have none. A few kilobytes of PDF or ZIP can decompress to gigabytes, or keep a parser busy for ever; that
process is then ended, the file is named, and another process does the next one. How much memory and time a file may take goes
by its size, so that a small one does little harm. What runs there is this module, too: `serve`.
"""

import io
import json
import logging
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any, NamedTuple

from ragvec.corpus.files import most_bytes, or_allow_more
from ragvec.corpus.mail import read_mail
from ragvec.corpus.parts import PAGE_END
from ragvec.corpus.zipped import PASSWORD, ZIPPED, TooLarge, inflated_size
from ragvec.errors import RagvecError, WrongInput, last_line

_NEEDS_PASSWORD = 4  # PDFium's FPDF_ERR_PASSWORD
SECONDS = 300  # of the processor, for one file at most
_WAITING = 10  # times as long by the clock: on a busy machine a process waits for its turn
_LEAST_SECONDS, _SECONDS_PER_MB = 60, 30
_LEAST_MEMORY = 2 << 30  # bytes, for the parsers themselves
_MEMORY_PER_BYTE = 32  # of the file, as it inflates where that is known
_LARGE = 8 << 20  # bytes of a file after which the process ends: what such a one took would count against the next
_PDF_BEGINS = 1024  # bytes that a PDF's own mark is looked for in, as readers do
_HEAD = struct.Struct("<QQ8s")  # length of the file, bytes and characters wanted at most, suffix
_LENGTH = struct.Struct("<Q")
_CONVERTERS = {
    ".html": "HtmlConverter", ".htm": "HtmlConverter", ".pdf": "PdfConverter", ".docx": "DocxConverter",
    ".pptx": "PptxConverter", ".xlsx": "XlsxConverter", ".epub": "EpubConverter", ".ipynb": "IpynbConverter",
}  # fmt: skip
_SLIDE = re.compile(r"\s*<!-- Slide number: \d+ -->\n?")
_EMPTY_SHEET = re.compile(r"^## [^\n]*\n\|\n\| *\|(?:\n+|\Z)", re.MULTILINE)
_EMPTY_CELL = re.compile(r"(?<=\|) (NaN|NaT|Unnamed: \d+) (?=\|)")  # as pandas calls what is not there
_START = "import sys; sys.path[:] = sys.argv[1].split(chr(10)); from ragvec.corpus.conversion import serve; serve()"


class Converted(NamedTuple):
    """What a file was made to: its title or "", Markdown with PAGE_END between pages, and what else it says of itself."""

    title: str
    markdown: str
    fields: dict[str, Any]


class Converter:
    """Converts files one after another. Use as a context; the process starts with the first file."""

    def __init__(self, max_value_mb: int | None = None, seconds: int = SECONDS) -> None:
        """max_value_mb: of a file, of what it inflates to, and of the text made of it. seconds: of the processor, a file."""
        self._max_value_mb, self._seconds = max_value_mb, seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Converter":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def convert(self, data: bytes, suffix: str, place: str) -> Converted:
        """The Markdown of a file. Raises RagvecError, with the place, if there is none."""
        process = self._started()
        assert process.stdin and process.stdout
        start = time.monotonic()
        try:
            process.stdin.write(_HEAD.pack(len(data), most_bytes(self._max_value_mb), suffix.encode()) + data)
            process.stdin.flush()
            answer = _received(process.stdout)
        except BrokenPipeError:
            answer = None
        if answer is None:
            raise WrongInput(f"{place} can't be converted to text: {self._why_it_ended(time.monotonic() - start)}")
        if answer.get("spent"):
            self._end()
        if answer.get("missing"):
            needed = f"{suffix} files need markitdown ({answer['missing']})"
            raise RagvecError(f"{place} can't be converted to text: {needed}: pip install 'ragvec[docs]'")
        if answer.get("error"):
            remedy = f": {or_allow_more('break it up', self._max_value_mb)}" if answer.get("over") else ""
            raise WrongInput(f"{place} can't be converted to text: {answer['error']}{remedy}")
        return Converted(answer["title"], answer["markdown"], answer.get("fields", {}))

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            path = "\n".join(folder for folder in sys.path if folder)  # what lies in the working directory is not run
            command = [sys.executable, "-c", _START, path, str(self._seconds)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return self._process

    def _why_it_ended(self, seconds: float) -> str:
        assert self._process is not None
        code = self._process.wait()
        self._end()
        if code in (-signal.SIGPROF, -signal.SIGALRM):
            return f"it took more than {int(seconds):,} seconds"
        return f"its conversion ended by itself ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin and process.stdout
        process.kill()
        process.wait()
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()


def _received(stream: IO[bytes]) -> dict[str, Any] | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    [length] = _LENGTH.unpack(head)
    body = stream.read(length)
    answer: dict[str, Any] | None = json.loads(body) if len(body) == length else None
    return answer


def serve() -> None:
    """Convert what comes on standard input until it ends: the other end of `Converter`."""
    seconds = int(sys.argv[2])
    source, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a parser prints must not pass for an answer
    _be_quiet()
    while len(head := source.read(_HEAD.size)) == _HEAD.size:
        length, most, suffix = _HEAD.unpack(head)
        body = json.dumps(_answer(source.read(length), suffix.rstrip(b"\0").decode(), most, seconds)).encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        answers.write(_LENGTH.pack(len(body)) + body)
        answers.flush()


def _bound(size: int, seconds: int) -> None:
    """Let this process take no more memory and processor time, `seconds` at most, than a file of this many bytes may."""
    with suppress(ValueError, OSError):  # not every system lets a process bound its memory
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (_LEAST_MEMORY + _MEMORY_PER_BYTE * size, hard))
    # nothing catches it: the process ends, even within a parser's C code
    most = min(_LEAST_SECONDS + _SECONDS_PER_MB * (size >> 20), seconds)
    signal.setitimer(signal.ITIMER_PROF, most)
    signal.alarm(_WAITING * most)


def _answer(data: bytes, suffix: str, most: int, seconds: int) -> dict[str, Any]:
    """What became of a file: `title` and `markdown`, or `error` (`over`: a limit may be raised), or `missing`.

    spent   this process should convert no other file
    """
    size = len(data)
    try:
        if not data:
            raise WrongInput("it is empty")
        _bound(size, seconds)
        if suffix in ZIPPED:
            size = inflated_size(data, most, suffix)
            _bound(size, seconds)
        answer = _converted(data, suffix)
    except TooLarge as error:
        answer = {"error": str(error), "over": True}
    except Exception as error:  # whatever many parsers raise, the file is at fault
        spent = _ran_out(error)
        why = f"it is no {suffix} file, or damaged" if _is_no(suffix, data) else last_line(error)
        answer = {"error": "it needs more memory than a file of its size may" if spent else why, "spent": spent}
    if len(answer.get("markdown", "")) > most:
        answer = {"error": f"it makes more than {most >> 20:,} MB of text", "over": True}
    return answer if size < _LARGE else {**answer, "spent": True}


def _converted(data: bytes, suffix: str) -> dict[str, Any]:
    try:
        if suffix == ".eml":
            return read_mail(data, lambda page: _markdown(page, ".html")["markdown"])
        return _markdown(data, suffix)
    except ImportError as error:
        return {"missing": str(error)}


def _is_no(suffix: str, data: bytes) -> bool:
    """Whether what no parser could read is no PDF or notebook at all: they say so in words of their own."""
    if suffix == ".pdf":
        return b"%PDF" not in data[:_PDF_BEGINS]
    return suffix == ".ipynb" and not (data.lstrip().startswith(b"{") and b'"cells"' in data)


def _markdown(data: bytes, suffix: str) -> dict[str, Any]:
    """What markitdown makes of a file. Raises ImportError where it, or what it needs for this kind, is not installed."""
    from markitdown import MissingDependencyException, StreamInfo, converters

    # chosen by name, as markitdown's own choice takes any damaged file for plain text
    converter = getattr(converters, _CONVERTERS[suffix])()
    try:
        results = [converter.convert(io.BytesIO(page), StreamInfo(extension=suffix)) for page in _pages(data, suffix)]
    except MissingDependencyException as error:
        raise ImportError(f"without what reads {suffix}") from error
    markdown = PAGE_END.join(result.markdown.strip() for result in results)
    if suffix == ".pptx":
        markdown = _SLIDE.sub(PAGE_END, markdown).removeprefix(PAGE_END)
    if suffix == ".xlsx":
        markdown = _EMPTY_SHEET.sub("", _EMPTY_CELL.sub("  ", markdown)).strip()
    return {"title": str(results[0].title or "").strip(), "markdown": markdown}


def _pages(data: bytes, suffix: str) -> Iterator[bytes]:
    """A PDF's pages as files of their own, for markitdown does not say where one ends; all else as it is."""
    if suffix != ".pdf":
        yield data
        return
    try:
        import pypdfium2

        document = pypdfium2.PdfDocument(data)
        count = len(document)
    except Exception as error:  # what this reader cannot read, another may
        if getattr(error, "err_code", None) == _NEEDS_PASSWORD:
            raise WrongInput(PASSWORD) from error
        count = 1
    if count == 1:
        yield data
        return
    for number in range(count):
        page, file = pypdfium2.PdfDocument.new(), io.BytesIO()
        page.import_pages(document, [number])
        page.save(file)
        page.close()
        yield file.getvalue()


def _ran_out(error: BaseException | None) -> bool:
    """Whether memory ran out, even where cleaning up after that raised something else."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def _be_quiet() -> None:
    """Parsers warn of each font and stray tag, and of tools for sound and video that are not there."""
    logging.getLogger("pdfminer").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
