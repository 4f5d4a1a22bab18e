"""PDF, HTML and DOCX made to Markdown in a process of its own, with bounds of time and memory: their parsers have none.

A few kilobytes of PDF or DOCX can decompress to gigabytes, or keep a parser busy for ever; that process is then ended, the
file is named, and another process does the next one. What runs there is this module, too: `serve`.
"""

import io
import json
import logging
import os
import resource
import signal
import struct
import subprocess
import sys
import warnings
from contextlib import suppress
from typing import IO, Any

from ragvec.errors import RagvecError, WrongInput, last_line

SECONDS = 300  # for one file
_LEAST_MEMORY = 2 << 30  # bytes, for the parsers themselves
_MEMORY_PER_BYTE = 32  # of the longest file
_HEAD = struct.Struct("<QQ8s")  # length of the file, characters wanted at most, suffix
_LENGTH = struct.Struct("<Q")
_START = "import sys; sys.path[:] = sys.argv[1].split(chr(10)); from ragvec.corpus.conversion import serve; serve()"


class Converter:
    """Converts files one after another. Use as a context; the process starts with the first file."""

    def __init__(self, max_value_mb: int, seconds: int = SECONDS) -> None:
        """max_value_mb: of a file, and of the text made of it. seconds: for one file."""
        self._most, self._seconds = max_value_mb << 20, seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Converter":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def convert(self, data: bytes, suffix: str, place: str) -> tuple[str, str]:
        """The title, "" if there is none, and the Markdown of a file. Raises RagvecError, with the place, if there is none."""
        process = self._started()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(_HEAD.pack(len(data), self._most, suffix.encode()) + data)
            process.stdin.flush()
            answer = _received(process.stdout)
        except BrokenPipeError:
            answer = None
        if answer is None:
            raise WrongInput(f"{place} can't be converted to text: {self._why_it_ended()}")
        if answer.get("spent"):
            self._end()
        if answer.get("missing"):
            raise RagvecError(f"PDF, HTML and DOCX need markitdown ({answer['missing']}): pip install 'ragvec[docs]'")
        if answer.get("error"):
            raise WrongInput(f"{place} can't be converted to text: {answer['error']}")
        return answer["title"], answer["markdown"]

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            path = "\n".join(folder for folder in sys.path if folder)  # what lies in the working directory is not run
            memory = str(_LEAST_MEMORY + _MEMORY_PER_BYTE * self._most)
            command = [sys.executable, "-c", _START, path, memory, str(self._seconds)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return self._process

    def _why_it_ended(self) -> str:
        assert self._process is not None
        code = self._process.wait()
        self._end()
        if code == -signal.SIGALRM:
            return f"it took more than {self._seconds:,} seconds"
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
    memory, seconds = int(sys.argv[2]), int(sys.argv[3])
    source, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a parser prints must not pass for an answer
    _be_quiet()
    with suppress(ValueError, OSError):  # not every system lets a process bound its memory
        resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    while len(head := source.read(_HEAD.size)) == _HEAD.size:
        length, most, suffix = _HEAD.unpack(head)
        signal.alarm(seconds)  # nothing catches it: the process ends, even within a parser's C code
        body = json.dumps(_answer(source.read(length), suffix.rstrip(b"\0").decode(), most)).encode()
        signal.alarm(0)
        answers.write(_LENGTH.pack(len(body)) + body)
        answers.flush()


def _answer(data: bytes, suffix: str, most: int) -> dict[str, Any]:
    try:
        from markitdown import StreamInfo
        from markitdown.converters import DocxConverter, HtmlConverter, PdfConverter
    except ImportError as error:
        return {"missing": str(error)}
    # chosen by name, as markitdown's own choice takes any damaged file for plain text
    kinds = {".html": HtmlConverter, ".htm": HtmlConverter, ".pdf": PdfConverter, ".docx": DocxConverter}
    try:
        result = kinds[suffix]().convert(io.BytesIO(data), StreamInfo(extension=suffix))
    except Exception as error:  # whatever its many parsers raise, the file is at fault
        if _ran_out(error):
            return {"error": "it needs more memory than a file may (`max_value_mb` raises that too)", "spent": True}
        return {"error": last_line(error)}
    if len(result.markdown) > most:
        return {"error": f"it makes more than {most >> 20:,} MB of text: break it up, or allow more (`max_value_mb`)"}
    return {"title": (result.title or "").strip(), "markdown": result.markdown}


def _ran_out(error: BaseException | None) -> bool:
    """Whether memory ran out, even where cleaning up after that raised something else."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def _be_quiet() -> None:
    """Parsers warn of each font and stray tag, and of tools for sound and video that are not there."""
    logging.getLogger("pdfminer").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
