"""The door of a GGUF file: its head is walked through and checked against the file's size before a library believes it."""

import math
import struct
from pathlib import Path
from typing import IO, Any, NamedTuple

from ragvec.errors import Damaged, WrongInput, first_line
from ragvec.files import MOST_DESCRIBED

_VERSIONS = (2, 3)
_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _LIST = 8, 9
_MOST_KEYS, _MOST_TENSORS, _MOST_DIMENSIONS = 1 << 16, 1 << 18, 4
_MOST_LISTED = 4_000_000  # values of all lists: a vocabulary of 262,144 tokens comes with 1.3 million
_MOST_NUMBER = 1 << 31  # of what the architecture tells: layers, widths, positions
_KEPT = 1 << 16  # bytes of a text that is kept; a chat template or a tokenizer's file may be longer


class Tensor(NamedTuple):
    """A tensor's shape as torch has it, the number of its type, and where its bytes lie in the file."""

    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


class Head(NamedTuple):
    """What a GGUF file says of itself.

    values   numbers and texts by key; of a list its length
    tensors  by name
    """

    path: Path
    architecture: str
    values: dict[str, Any]
    tensors: dict[str, Tensor]

    def told(self, name: str) -> Any:
        """What the file tells under a key of its architecture's; None where it does not."""
        return self.values.get(f"{self.architecture}.{name}")


def read_head(path: Path) -> Head:
    """Read a file's head, no weights. Raises RagvecError where it is cut off or promises what the file can't hold."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            return _Reader(path, file, size).head()
    except (OSError, ValueError, struct.error) as error:
        raise Damaged(f"{path} is not a readable GGUF file: {first_line(error)}") from error


class _Reader:
    def __init__(self, path: Path, file: IO[bytes], size: int) -> None:
        self._path, self._file, self._size = path, file, size
        self._at = self._listed = 0

    def head(self) -> Head:
        if self._take(4) != b"GGUF":
            raise self._wrong("it does not begin with GGUF")
        if (version := self._number("<I")) not in _VERSIONS:
            raise self._wrong(f"its version is {version}, not 2 or 3 (little-endian)")
        tensors = self._count("tensors", _MOST_TENSORS, 24)
        keys = self._count("keys", _MOST_KEYS, 13)
        values: dict[str, Any] = {}
        for _ in range(keys):
            name = self._text() or ""
            if name in values:
                raise self._wrong(f"{name[:80]!r} comes twice")
            values[name] = self._value(self._number("<I"))
        architecture = values.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise self._wrong("it names no architecture")
        for name, value in values.items():
            if name.startswith(f"{architecture}.") and isinstance(value, int) and not 0 <= value <= _MOST_NUMBER:
                raise self._wrong(f"{name} is {value}, outside 0 … {_MOST_NUMBER}")
        return Head(self._path, architecture, values, self._tensors(tensors, values.get("general.alignment", 32)))

    def _tensors(self, count: int, alignment: Any) -> dict[str, Tensor]:
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._wrong(f"its alignment is {alignment!r}, not a power of two")
        found: dict[str, Tensor] = {}
        for _ in range(count):
            name = self._text() or ""
            dimensions = self._number("<I")
            if name in found or not 1 <= dimensions <= _MOST_DIMENSIONS:
                raise self._wrong(f"the tensor {name[:80]!r} comes twice or has {dimensions} dimensions")
            shape = tuple(self._number("<Q") for _ in range(dimensions))[::-1]
            kind, start = self._number("<I"), self._number("<Q")
            found[name] = Tensor(shape, kind, start, self._bytes(name, shape, kind))
        begin = -(-self._at // alignment) * alignment
        for name, tensor in found.items():
            if begin + tensor.start + tensor.size > self._size:
                raise self._wrong(f"the tensor {name[:80]!r} ends beyond the file: copy it again, whole")
        if sum(tensor.size for tensor in found.values()) > self._size:
            raise self._wrong("its tensors lie upon each other")
        return {name: tensor._replace(start=begin + tensor.start) for name, tensor in found.items()}

    def _bytes(self, name: str, shape: tuple[int, ...], kind: int) -> int:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        if kind not in {one.value for one in GGMLQuantizationType}:
            raise WrongInput(f"{self._path}: the tensor {name[:80]!r} is of type {kind}, which the package gguf does not know")
        values, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        if not all(shape) or shape[-1] % values:
            raise self._wrong(f"the tensor {name[:80]!r} has the shape {shape}")
        return int(math.prod(shape) // values * size)

    def _value(self, kind: int) -> Any:
        if kind in _FORMATS:
            return self._number(_FORMATS[kind])
        if kind == _STRING:
            return self._text(whole=False)
        if kind != _LIST:
            raise self._wrong(f"it holds a value of the unknown type {kind}")
        of, count = self._number("<I"), self._number("<Q")
        self._listed += count
        if self._listed > _MOST_LISTED:
            raise self._wrong(f"its lists have over {_MOST_LISTED:,} values")
        if of in _FORMATS:
            self._skip(count * struct.calcsize(_FORMATS[of]))
        elif of == _STRING:
            for _ in range(count):
                self._skip(self._number("<Q"))
        else:
            raise self._wrong(f"it holds a list of values of type {of}")
        return count

    def _count(self, what: str, most: int, least_size: int) -> int:
        count: int = self._number("<Q")
        if count > min(most, self._size // least_size):
            raise self._wrong(f"it promises {count:,} {what}")
        return count

    def _text(self, *, whole: bool = True) -> str | None:
        """A text; one too long to be kept is an error, or, where it need not be whole, passed over."""
        length = self._number("<Q")
        if length > _KEPT:
            if whole:
                raise self._wrong(f"a name in it has {length:,} bytes")
            self._skip(length)
            return None
        return self._take(length).decode("utf-8")

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _take(self, count: int) -> bytes:
        self._move(count)
        return self._file.read(count)

    def _skip(self, count: int) -> None:
        self._move(count)
        self._file.seek(count, 1)

    def _move(self, count: int) -> None:
        self._at += count
        if self._at > min(self._size, MOST_DESCRIBED):
            raise self._wrong("it ends within its own description: copy it again, whole")

    def _wrong(self, what: str) -> Damaged:
        return Damaged(f"{self._path} is no GGUF file that can be read: {what}")
