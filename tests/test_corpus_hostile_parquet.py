"""Parquet files made to break the reader: more rows, longer values and other types than their bytes should hold."""

import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragvec.corpus import read_documents
from ragvec.errors import RagvecError
from tests.test_corpus_hostile import LAST, MEGABYTE, rejected_from


def parquet_bomb(path, rows: int) -> None:
    """A file of one column `text`, whose footer promises so many rows of the one value in its dictionary."""
    pq.write_table(pa.table({"text": ["a"] * 1000}), path, compression="none", use_dictionary=True)
    data = path.read_bytes()
    footer_length = struct.unpack("<I", data[-8:-4])[0]
    footer = data[-8 - footer_length : -8]
    promised = footer.replace(_zigzag(1000), _zigzag(rows))
    assert promised != footer
    path.write_bytes(data[: -8 - footer_length] + promised + struct.pack("<I", len(promised)) + b"PAR1")


def _zigzag(number: int) -> bytes:
    number, out = number << 1, bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


@pytest.mark.parametrize("rows", [200_000, 2**31, 2**50])
def test_a_parquet_file_that_promises_more_rows_than_its_bytes_can_mean(tmp_path, rows):
    parquet_bomb(tmp_path / "a.parquet", rows)
    (tmp_path / "b.jsonl").write_bytes(LAST)
    documents, errors, _ = rejected_from(tmp_path)
    assert documents == ["last"] and len(errors) == 1
    assert errors[0].startswith(f"{tmp_path / 'a.parquet'} promises {rows:,} rows")


def test_a_parquet_file_of_few_bytes_and_very_many_real_rows(tmp_path):
    pq.write_table(pa.table({"text": ["a"] * 3_000_000}), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(RagvecError, match="promises 3,000,000 rows"):
        next(read_documents(tmp_path / "a.parquet"))


def test_a_parquet_list_that_inflates_within_a_row(tmp_path):
    column = pa.ListArray.from_arrays([0, 30_000_000], pa.array(np.zeros(30_000_000, np.int8)))
    pq.write_table(pa.table({"text": ["a"], "n": column}), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(RagvecError, match="promises 1 rows, 30,000,001 values"):
        next(read_documents(tmp_path / "a.parquet"))


def test_a_parquet_dictionary_whose_one_long_value_stands_in_every_row(tmp_path):
    long = "x" * (4 * MEGABYTE)
    column = pa.DictionaryArray.from_arrays(np.zeros(5000, np.int32), [long])
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet", compression="zstd", dictionary_pagesize_limit=1 << 24)
    before = pa.total_allocated_bytes()
    stream = read_documents(tmp_path / "a.parquet", max_value_mb=1)
    with pytest.raises(RagvecError, match="row 1: longer than 1 MB"):
        next(stream)
    assert pa.total_allocated_bytes() - before < 16 * MEGABYTE
    rejects = []
    with pytest.raises(RagvecError, match="holds no documents that can be read"):
        list(read_documents(tmp_path / "a.parquet", max_value_mb=1, on_reject=rejects.append))
    assert "holds far more than its" in rejects[-1].error and len(rejects) < 20


@pytest.mark.parametrize("nested", [False, True])
def test_a_parquet_dictionary_is_counted_as_often_as_it_is_pointed_to(tmp_path, nested):
    """Arrow says that a batch of a thousand rows that share a text is as large as the text."""
    column = pa.DictionaryArray.from_arrays(np.zeros(5000, np.int32), ["x" * (MEGABYTE // 8)])
    column = pa.ListArray.from_arrays(np.arange(5001, dtype=np.int32), column) if nested else column
    pq.write_table(pa.table({"text": ["a"] * 5000, "n": column}), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 50_000
    stream = read_documents(tmp_path / "a.parquet")
    with pytest.raises(RagvecError, match="holds far more than its"):
        for _ in range(1000):
            next(stream)


def test_parquet_values_that_python_lacks_are_one_bad_row_each(tmp_path):
    texts = pa.array([b"good", b"caf\xe9", b"x", b"y"]).view(pa.string())
    days = pa.array([1, 2, 10**9, 3], pa.int32()).view(pa.date32())
    pq.write_table(pa.table({"text": texts, "day": days}), tmp_path / "a.parquet")
    rejects = []
    documents = list(read_documents(tmp_path / "a.parquet", on_reject=rejects.append))
    assert [document.text for document in documents] == ["good", "y"]
    assert [reject.place.rpartition(", ")[2] for reject in rejects] == ["row 2", "row 3"]
    assert all("a value can't be read: " in reject.error and "\n" not in reject.error for reject in rejects)


def test_parquet_files_damaged_anywhere_end_in_a_line_of_error(tmp_path):
    table = pa.table({"_id": [str(n) for n in range(50)], "text": ["a b"] * 50, "n": [[1, 2]] * 50, "day": [{"x": 1}] * 50})
    pq.write_table(table, tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    draw = np.random.default_rng(0)
    failed = 0
    for _ in range(300):
        data = bytearray(whole)
        for place in draw.integers(4, len(data) - 8, 3):
            data[place] = draw.integers(256)
        (tmp_path / "a.parquet").write_bytes(data)
        try:
            list(read_documents(tmp_path / "a.parquet"))
        except RagvecError as error:
            failed += 1
            assert str(tmp_path / "a.parquet") in str(error) and "\n" not in str(error)
    assert failed > 50
