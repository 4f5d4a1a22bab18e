"""The rows of Arrow's own files, as `datasets.save_to_disk` writes them: streams of record batches, or files of them.

What such a file says of itself is not believed: only types whose values take bytes of their own are read, and none compressed.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ragvec.corpus.files import open_regular, path_text
from ragvec.corpus.parquet import batch_rows, columns_of, readable
from ragvec.corpus.remarks import Remarks
from ragvec.corpus.rows import Row
from ragvec.errors import WrongInput

if TYPE_CHECKING:
    import pyarrow as pa

_MAGIC, _MAGIC_LENGTH = b"ARROW1", 8  # of a file of batches, before what a stream has too
_ROWS = 1024  # made into Python's values together
_HEADER, _COMPRESSION = 2, 3  # places in the tables of Arrow's flatbuffers Message and RecordBatch


def arrow_rows(
    path: Path,
    max_value_mb: int | None = None,
    *,
    within: Path | None = None,
    vector_field: str | None = None,
    remarks: Remarks | None = None,
) -> Iterator[Row]:
    """The rows of an Arrow file; values, vector_field and remarks as in `parquet_rows`.

    Columns of types beside numbers, texts, times, lists and objects of these are left out, with a warning.
    Raises RagvecError for what is no Arrow file, and for compressed files.
    """
    import pyarrow as pa

    shown = path_text(path)
    with open_regular(path, within) as raw:
        size = raw.seek(0, 2)
        with readable(shown, "Arrow"):
            start = _after_magic(raw)
            _check_messages(raw, shown)
            raw.seek(start)
            number = 0
            with pa.ipc.open_stream(raw) as stream:
                places = columns_of(stream.schema, shown, _is_read, remarks or Remarks())
                for every in stream:
                    whole = every.select(places)
                    whole.validate(full=True)  # offsets that point elsewhere
                    if len(whole) > size:
                        raise WrongInput(f"{shown} promises {len(whole):,} rows in {size:,} bytes: it is not read")
                    for first in range(0, len(whole), _ROWS):
                        batch = whole.slice(first, _ROWS)
                        yield from batch_rows(batch, number, shown, max_value_mb=max_value_mb, vector_field=vector_field)
                        number += len(batch)


def _after_magic(raw: BinaryIO) -> int:
    """Go to where the messages begin."""
    raw.seek(0)
    return raw.seek(_MAGIC_LENGTH if raw.read(len(_MAGIC)) == _MAGIC else 0)


def _check_messages(raw: BinaryIO, shown: str) -> None:
    """Refuse compressed batches, which inflate without a limit as soon as Arrow opens them."""
    import pyarrow as pa

    for message in pa.ipc.MessageReader.open_stream(raw):
        if message.type == "record batch" and _field(_header(message.metadata.to_pybytes()), _COMPRESSION):
            raise WrongInput(f"{shown} is compressed, as Arrow files are not read: save it uncompressed, or as Parquet")


def _header(message: bytes) -> tuple[bytes, int]:
    """A message's flatbuffer, and where the table of its header begins."""
    table = struct.unpack_from("<I", message)[0]
    place = _field((message, table), _HEADER)
    return message, place + struct.unpack_from("<I", message, place)[0]


def _field(table: tuple[bytes, int], number: int) -> int:
    """Where a field of a flatbuffer's table lies; 0 if it is left out."""
    data, start = table
    fields = start - struct.unpack_from("<i", data, start)[0]
    length = struct.unpack_from("<H", data, fields)[0]
    slot = 4 + 2 * number
    offset = struct.unpack_from("<H", data, fields + slot)[0] if slot < length else 0
    return start + offset if offset else 0


def _is_read(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_null(kind)) or _has_bytes(kind)


def _has_bytes(kind: "pa.DataType") -> bool:
    """Whether values of a type take bytes of their own, so that no file holds more than it is long."""
    import pyarrow as pa

    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind):
        return _has_bytes(kind.value_type)
    if types.is_fixed_size_list(kind):
        return kind.list_size > 0 and _has_bytes(kind.value_type)
    if types.is_struct(kind):
        return kind.num_fields > 0 and all(_has_bytes(field.type) for field in kind)
    if types.is_map(kind):
        return _has_bytes(kind.key_type) and _has_bytes(kind.item_type)
    numbers = types.is_primitive(kind) or types.is_decimal(kind)  # times and truth values among them
    return bool(numbers or types.is_string(kind) or types.is_large_string(kind))
