"""One value after another out of a long JSON text, which is never held whole."""

import json
import math
import re
from codecs import getincrementaldecoder
from pathlib import Path
from typing import Any, BinaryIO

from ragvec.corpus.files import encoding_remedy, most_bytes, read_bytes, too_long
from ragvec.corpus.values import LEAST_INTEGER, MOST_INTEGER
from ragvec.errors import WrongInput

_CHUNK = 1 << 20
_DIGITS = 20  # of the largest of them


class JsonValues:
    """A window that slides over a JSON text: value() parses one value and asks for more text only when it must.

    Numbers are read as JSON Lines' are: integers beyond 64 bits become floats, NaN is null, what no float can hold is refused.
    """

    def __init__(self, file: BinaryIO, path: str | Path, max_value_mb: int | None = None) -> None:
        self._file, self._path, self._max_value_mb = file, path, max_value_mb
        self._decoder = getincrementaldecoder("utf-8-sig")()
        self._refused: list[str] = []
        decoder = json.JSONDecoder(parse_int=self._integer, parse_float=self._float, parse_constant=self._constant)
        self._parse = decoder.raw_decode
        self.window, self.start, self.line = "", 0, 1

    def skip(self, pattern: re.Pattern[str]) -> str:
        """Step over what the pattern matches, and return the character after it; "" at the end of the file.

        pattern  one that also matches the empty string
        """
        while True:
            match = pattern.match(self.window, self.start)
            assert match is not None
            end = match.end()
            self._step(end)
            if end < len(self.window):
                return self.window[end]
            if not self._more(_CHUNK):
                return ""

    def value(self) -> tuple[Any, str]:
        """Parse the value that begins here; and what is wrong with one that is JSON but can't be used, or "".

        Raises RagvecError with its line for what is no JSON, or too long.
        """
        while True:
            self._refused.clear()
            try:
                value, end = self._parse(self.window, self.start)
                if end - self.start > most_bytes(self._max_value_mb):
                    raise WrongInput(too_long(f"{self._path}, line {self.line}", self._max_value_mb))
                self._step(end)
                return value, self._refused[0] if self._refused else ""
            except json.JSONDecodeError as error:
                cut_off = error.msg.startswith("Unterminated string") or error.pos >= len(self.window) - 16
                if not (cut_off and self._grow()):
                    line = self.line + self.window.count("\n", self.start, error.pos)
                    raise WrongInput(f"{self._path}, line {line}: bad JSON: {error.msg}") from error
            except RecursionError as error:
                raise WrongInput(f"{self._path}, line {self.line}: bad JSON: nested too deeply") from error

    def _integer(self, digits: str) -> int | float:
        if len(digits.lstrip("-")) <= _DIGITS and LEAST_INTEGER <= (number := int(digits)) <= MOST_INTEGER:
            return number
        return self._float(digits)

    def _constant(self, name: str) -> float | None:
        return None if name == "NaN" else self._float(name)

    def _float(self, digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            self._refused.append(f"bad JSON: {digits:.40}{'…' * (len(digits) > 40)} is no finite number")
        return number

    def _step(self, end: int) -> None:
        self.line += self.window.count("\n", self.start, end)
        self.start = end

    def _grow(self) -> bool:
        """Make the window about twice as long, if there is more and the value may be longer."""
        held = len(self.window) - self.start
        if held > most_bytes(self._max_value_mb):
            raise WrongInput(too_long(f"{self._path}, line {self.line}", self._max_value_mb))
        return self._more(max(_CHUNK, held))

    def _more(self, size: int) -> bool:
        chunk = read_bytes(self._file, self._path, size)
        try:
            text = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line = self.line + self.window.count("\n", self.start) + chunk.count(b"\n", 0, error.start)
            raise WrongInput(f"{self._path}, line {line}: not UTF-8: {encoding_remedy(chunk)}") from error
        self.window, self.start = self.window[self.start :] + text, 0
        return bool(chunk)
