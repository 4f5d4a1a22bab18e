"""The rows of Parquet files. A few hundred bytes can promise billions of rows or gigabytes of text: both are measured first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragvec.corpus.compressed import FREE_BYTES, MOST_INFLATION
from ragvec.corpus.files import most_bytes, open_regular, path_text, too_long
from ragvec.corpus.remarks import Remarks
from ragvec.corpus.rows import BadRow, Row
from ragvec.corpus.values import json_value
from ragvec.errors import RagvecError, WrongInput, first_line

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_ROWS = 1024  # decoded together
_ROWS_OF_PREFIXES = 16  # the same where each value may repeat the one before (DELTA_BYTE_ARRAY)
_VALUES_IN_MEMORY = 4  # values of the greatest length that fit into what is decoded together
_FREE_ROWS, _ROWS_PER_BYTE = 100_000, 10


def parquet_rows(
    path: Path,
    max_value_mb: int | None = None,
    *,
    within: Path | None = None,
    vector_field: str | None = None,
    remarks: Remarks | None = None,
) -> Iterator[Row]:
    """The rows of a Parquet file; nulls and NaN are left out, values become JSON's, see `json_value`.

    vector_field  a column, letter case aside, whose lists of numbers come as arrays (d,), nulls in them as NaN
    Columns of bytes, and of images as `datasets` keeps them, are left out, with a warning; remarks: what was warned of before.
    Raises RagvecError for what is no Parquet file, and for files that hold far more than their size allows.
    """
    import pyarrow.parquet as pq

    shown = path_text(path)
    with open_regular(path, within) as raw:
        size = raw.seek(0, 2)
        with readable(shown, "Parquet"), pq.ParquetFile(raw) as file:
            schema = file.schema_arrow
            places = columns_of(schema, shown, has_no_binary, remarks or Remarks())
            columns = None if len(places) == len(schema) else [schema.names[place] for place in places]
            _check_size(file.metadata, size, shown)
            number = decoded = 0
            for group in range(file.metadata.num_row_groups):
                rows = _rows_together(file.metadata.row_group(group), most_bytes(max_value_mb))
                for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=columns):
                    decoded += sum(map(bytes_spelled_out, batch.columns))
                    if decoded > FREE_BYTES + MOST_INFLATION * size:
                        raise WrongInput(f"{shown} holds far more than its {size:,} bytes can mean: it is not read on")
                    yield from batch_rows(batch, number, shown, max_value_mb=max_value_mb, vector_field=vector_field)
                    number += len(batch)


def parquet_length(path: Path) -> int:
    """How many rows a Parquet file says it holds. Raises RagvecError if it is none."""
    import pyarrow.parquet as pq

    with open_regular(path) as raw, readable(path_text(path), "Parquet"), pq.ParquetFile(raw) as file:
        return int(file.metadata.num_rows)


@contextmanager
def readable(shown: str, kind: str) -> Iterator[None]:
    """Around reading a file by Arrow: whatever it raises, the file is at fault. Raises WrongInput; what is ours passes."""
    try:
        yield
    except RagvecError:
        raise
    except Exception as error:
        raise WrongInput(f"{shown} is not a readable {kind} file: {first_line(error)}") from error


def columns_of(schema: "pa.Schema", shown: str, can_read: Callable[["pa.DataType"], bool], remarks: Remarks) -> list[int]:
    """The places of the columns that are read. The others are left out, and told."""
    remarks.unreadable(shown, {field.name: str(field.type) for field in schema if not can_read(field.type)})
    return [place for place, field in enumerate(schema) if can_read(field.type)]


def has_no_binary(kind: "pa.DataType") -> bool:
    """Whether no value of a type holds bytes, which JSON metadata cannot carry, however deep inside it."""
    import pyarrow as pa

    types = pa.types
    binary = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    if any(is_of(kind) for is_of in binary):
        return False
    if types.is_dictionary(kind):
        return has_no_binary(kind.value_type)
    return all(has_no_binary(kind.field(place).type) for place in range(kind.num_fields))


def _check_size(metadata: "pq.FileMetaData", size: int, shown: str) -> None:
    """Refuse a file that promises more rows, values or bytes than anything written honestly does."""
    chunks = [
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]
    rows = max(metadata.num_rows, sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)))
    values = sum(max(chunk.num_values, 0) for chunk in chunks)
    inflated = sum(max(chunk.total_uncompressed_size, 0) for chunk in chunks)
    if rows > _FREE_ROWS + _ROWS_PER_BYTE * size or max(values, inflated) > FREE_BYTES + MOST_INFLATION * size:
        raise WrongInput(
            f"{shown} promises {rows:,} rows, {values:,} values and {inflated:,} bytes, far more than its {size:,} bytes "
            "can mean: it is not read"
        )


def _rows_together(group: "pq.RowGroupMetaData", most: int) -> int:
    """How many rows of a row group are decoded at once, so that its longest values fit into memory as often."""
    chunks = [group.column(column) for column in range(group.num_columns)]
    if any("DELTA_BYTE_ARRAY" in chunk.encodings for chunk in chunks):
        return _ROWS_OF_PREFIXES
    longest = sum(_dictionary_bytes(chunk) for chunk in chunks)
    return int(max(1, min(_ROWS, _VALUES_IN_MEMORY * most // max(longest, 1))))


def _dictionary_bytes(chunk: "pq.ColumnChunkMetaData") -> float:
    """About how long a column's dictionary is, decompressed: a value of this length may stand in every row."""
    if not chunk.has_dictionary_page or not chunk.dictionary_page_offset:
        return 0
    compressed = chunk.data_page_offset - chunk.dictionary_page_offset
    return float(max(compressed, 0) * chunk.total_uncompressed_size / max(chunk.total_compressed_size, 1))


def bytes_spelled_out(column: "pa.Array") -> int:
    """How many bytes a column's values take one by one. Arrow counts a text that many rows point to once."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        return int(column.dictionary_decode().nbytes)
    if "dictionary<" in str(column.type):  # inside a list or an object
        return int(pa.array(column.to_pylist()).nbytes)
    return int(column.nbytes)


def _vectors_apart(
    batch: "pa.RecordBatch", vector_field: str | None
) -> tuple[tuple[str, list[np.ndarray | None]] | None, "pa.RecordBatch"]:
    """The name and the values of the column of vectors, which would take long as lists of Python's; and the other columns."""
    names = batch.schema.names
    place = next((place for place, name in enumerate(names) if vector_field and name.lower() == vector_field.lower()), None)
    arrays = None if place is None else _as_arrays(batch.column(place))
    if place is None or arrays is None:
        return None, batch
    return (names[place], arrays), batch.select([other for other in range(len(names)) if other != place])


def _as_arrays(column: "pa.Array") -> list[np.ndarray | None] | None:
    """A column of lists of numbers as arrays, None for null; None for a column of anything else."""
    import pyarrow as pa

    kinds, kind = pa.types, column.type
    fixed = kinds.is_fixed_size_list(kind)
    if not (fixed or kinds.is_list(kind) or kinds.is_large_list(kind)):
        return None
    if not (kinds.is_floating(kind.value_type) or kinds.is_integer(kind.value_type)):
        return None
    values = column.values.to_numpy(zero_copy_only=False)
    edges = (column.offset + np.arange(len(column) + 1)) * kind.list_size if fixed else column.offsets.to_numpy()
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    return [values[edges[row] : edges[row + 1]] if valid[row] else None for row in range(len(column))]


def _with_vectors(rows: Iterator[Row], name: str, vectors: list[np.ndarray | None]) -> Iterator[Row]:
    for (place, fields), vector in zip(rows, vectors, strict=True):
        yield place, fields if isinstance(fields, BadRow) or vector is None else {**fields, name: vector}


def batch_rows(
    batch: "pa.RecordBatch", number: int, shown: str, *, max_value_mb: int | None, vector_field: str | None
) -> Iterator[Row]:
    """A batch's rows with their places; number: of rows before it; vector_field: as for `parquet_rows`."""
    numbers, others = _vectors_apart(batch, vector_field)
    rows = _plain_rows(others, number, shown, max_value_mb)
    yield from rows if numbers is None else _with_vectors(rows, *numbers)


def _plain_rows(batch: "pa.RecordBatch", number: int, shown: str, max_value_mb: int | None) -> Iterator[Row]:
    """A batch's rows; where one of its values can't be taken over, row by row, so that the others are."""
    try:
        batch = _in_microseconds(batch)
        rows: list[dict[str, Any] | Callable[[], dict[str, Any]]] = batch.to_pylist()
    except Exception:  # a date after the year 9999, text that is not UTF-8, an unknown time zone
        rows = [partial(_row, batch, row) for row in range(len(batch))]
    for row in rows:
        number += 1
        place = f"{shown}, row {number}"
        try:
            fields = row() if callable(row) else row
            values = {name: json_value(value) for name, value in fields.items()}
        except Exception as error:
            yield place, BadRow(f"{place}: a value can't be read: {first_line(error)}", None)
            continue
        present = {name: value for name, value in values.items() if value is not None}
        if any(isinstance(value, str) and len(value) > most_bytes(max_value_mb) for value in present.values()):
            yield place, BadRow(too_long(place, max_value_mb), None)
        else:
            yield place, present


def _in_microseconds(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """Times cut to microseconds, which is all that Python's hold."""
    import pyarrow as pa

    kinds = [_without_nanoseconds(kind) for kind in batch.schema.types]
    if kinds == batch.schema.types:
        return batch
    columns = [column.cast(kind, safe=False) for column, kind in zip(batch.columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _without_nanoseconds(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    types, inner = pa.types, _without_nanoseconds
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz) if kind.unit == "ns" else kind
    if types.is_time64(kind):
        return pa.time64("us")
    if types.is_duration(kind):
        return pa.duration("us") if kind.unit == "ns" else kind
    if types.is_list(kind):
        return pa.list_(inner(kind.value_type))
    if types.is_large_list(kind):
        return pa.large_list(inner(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, inner(field.type)) for field in kind])
    return pa.map_(inner(kind.key_type), inner(kind.item_type)) if types.is_map(kind) else kind


def _row(batch: "pa.RecordBatch", row: int) -> dict[str, Any]:
    fields: dict[str, Any] = batch.slice(row, 1).to_pylist()[0]
    return fields
