"""Values of every format as JSON has them, and fields within fields."""

import datetime
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragvec.corpus import read_documents
from ragvec.corpus.values import json_value
from ragvec.errors import RagvecError, WrongInput

NANOSECONDS = 1_700_000_000_123_456_789
COLUMNS = {
    "ns": ([NANOSECONDS], pa.timestamp("ns"), "2023-11-14T22:13:20.123456"),
    "zone": ([NANOSECONDS], pa.timestamp("ns", "Asia/Seoul"), "2023-11-15T07:13:20.123456+09:00"),
    "time": ([1_123_456_789], pa.time64("ns"), "00:00:01.123456"),
    "duration": ([1_123_456_789], pa.duration("ns"), 1.123456),
    "times": ([[NANOSECONDS]], pa.list_(pa.timestamp("ns")), ["2023-11-14T22:13:20.123456"]),
    "map": ([[("k", 1), ("l", 2)]], pa.map_(pa.string(), pa.int64()), {"k": 1, "l": 2}),
    "maps": ([[[(1, NANOSECONDS)]]], pa.list_(pa.map_(pa.int8(), pa.timestamp("ns"))), [{"1": "2023-11-14T22:13:20.123456"}]),
    "object": ([{"at": NANOSECONDS}], pa.struct([("at", pa.timestamp("ns"))]), {"at": "2023-11-14T22:13:20.123456"}),
    "price": ([Decimal("12.50")], pa.decimal128(10, 2), 12.5),
    "whole": ([Decimal("9007199254740993")], pa.decimal128(38, 0), 9007199254740993),
    "beyond": ([Decimal(10**30)], pa.decimal128(38, 0), 1e30),
    "unsigned": ([2**64 - 1], pa.uint64(), 2**64 - 1),
    "half": (np.array([1.5], np.float16), pa.float16(), 1.5),
    "list": ([[1.0, float("nan")]], pa.list_(pa.float64()), [1.0, None]),
}


def read(source, **options):
    return list(read_documents(source, **options))


def test_parquets_values_are_jsons(tmp_path: Path) -> None:
    columns = {name: pa.array(values, kind) for name, (values, kind, _) in COLUMNS.items()}
    pq.write_table(pa.table({"id": ["1"], "text": ["x"], "nan": [float("nan")], **columns}), tmp_path / "a.parquet")
    [document] = read(tmp_path / "a.parquet")
    assert document.metadata == {name: value for name, (_, _, value) in COLUMNS.items()}
    json.dumps(document.metadata, allow_nan=False)


def test_a_row_with_an_infinity_is_rejected_alone(tmp_path: Path) -> None:
    times = pa.array([NANOSECONDS, 0], pa.timestamp("ns"))
    pq.write_table(pa.table({"text": ["x", "y"], "at": times, "n": [float("inf"), 1.0]}), tmp_path / "a.parquet")
    rejects = []
    [document] = read(tmp_path / "a.parquet", on_reject=rejects.append)
    assert document.metadata == {"at": "1970-01-01T00:00:00", "n": 1.0}
    assert [one.error.rpartition("a.parquet, ")[2] for one in rejects] == [
        "row 1: a value can't be read: inf is no finite number"
    ]


def test_nan_is_no_value_in_every_format(tmp_path: Path) -> None:
    row = '{"id": "1", "text": "x", "n": NaN, "l": [1, NaN], "ok": 1}'
    (tmp_path / "a.jsonl").write_text(row + "\n")
    (tmp_path / "a.json").write_text(f"[{row}]")
    (tmp_path / "a.csv").write_text("id,text,n,m,ok\n1,x,NaN,nan,1\n")
    (tmp_path / "a.md").write_text("---\nn: .nan\nok: 1\n---\nx")
    pq.write_table(pa.table({"id": ["1"], "text": ["x"], "n": [float("nan")], "ok": [1]}), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.csv", "a.md", "a.parquet"):
        [document] = read(tmp_path / name)
        assert document.metadata.get("n") is None and document.metadata["ok"] == 1, name
        assert document.metadata.get("l", [1, None]) == [1, None]
    (tmp_path / "b.jsonl").write_text('{"id": "1", "text": "x", "n": Infinity, "m": NaN}\n')
    with pytest.raises(RagvecError, match="b.jsonl, line 1: bad JSON: Infinity is no finite number"):
        read(tmp_path / "b.jsonl")
    (tmp_path / "b.jsonl").write_text('{"id": "1", "text": "x", "m": NaN} x\n{"id": "2", "text": "NaN"}\n')
    rejects = []
    assert [document.text for document in read(tmp_path / "b.jsonl", on_reject=rejects.append)] == ["NaN"] and len(rejects) == 1


def test_numbers_beyond_64_bits_are_floats() -> None:
    assert json_value([2**64 - 1, 2**64, -(2**63) - 1, Decimal("1e400").copy_abs() * 0]) == [2**64 - 1, 2.0**64, -(2.0**63), 0]
    assert json_value({1: datetime.date(2020, 1, 2), "b": True}) == {"1": "2020-01-02", "b": True}
    for number in (10**400, Decimal("1e400"), float("-inf")):
        with pytest.raises(WrongInput, match="is no finite number"):
            json_value(number)


def test_text_fields_reach_into_objects_and_lists_of_them(tmp_path: Path) -> None:
    rows = [
        {"doc": {"Id": 7, "Text": "in", "sub": {"n": 1}}, "parts": [{"body": "a", "n": 1}, {"body": "b"}, {"n": 3}], "k": 1},
        {"doc.text": "flat", "doc": {"text": "other", "id": 8}, "parts": None},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = read(tmp_path / "a.jsonl", text_fields=["doc.text", "parts.body"], id_field="doc.id")
    assert (first.doc_id, first.text) == ("7", "in\n\na\n\nb")
    assert first.metadata == {"doc": {"sub": {"n": 1}}, "parts": [{"n": 1}, {}, {"n": 3}], "k": 1}
    assert (second.doc_id, second.text) == ("8", "flat") and second.metadata["doc"] == {"text": "other"}
    pq.write_table(pa.table({"doc": [{"text": "in", "n": 1}], "id": ["p"]}), tmp_path / "a.parquet")
    [document] = read(tmp_path / "a.parquet", text_fields=["doc.text"])
    assert (document.doc_id, document.text, document.metadata) == ("p", "in", {"doc": {"n": 1}})
    with pytest.raises(RagvecError, match="line 1: no text in the fields doc.none; fields seen: doc, parts, k"):
        read(tmp_path / "a.jsonl", text_fields=["doc.none"])
    with pytest.raises(RagvecError, match="line 1: field 'doc.sub' must be a string"):
        read(tmp_path / "a.jsonl", text_fields=["doc.sub"])
    with pytest.raises(RagvecError, match="line 1: no id in field 'doc.key'"):
        read(tmp_path / "a.jsonl", text_fields=["doc.text"], id_field="doc.key")
