"""Arrow files, what `datasets` saves in folders of them, and what is made to break the reader."""

import json

import numpy as np
import pyarrow as pa
import pytest

from ragvec.corpus import read_documents
from ragvec.errors import RagvecError
from ragvec.train.data import Reading
from ragvec.train.data.reading import training_paths

ROWS = {"id": ["a", "b", "c"], "text": ["서울", "two", "three"], "year": [2001, 2002, 2003], "of": [["x"], [], ["y", "z"]]}


def saved(table: pa.Table, path, **options) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema, **options) as stream:
        stream.write_table(table)


def read(path) -> list[tuple]:
    return [(one.doc_id, one.text, one.metadata) for one in read_documents(path)]


@pytest.mark.parametrize("new", [pa.ipc.new_stream, pa.ipc.new_file])
def test_streams_and_files_of_batches(tmp_path, new):
    table = pa.table(ROWS)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, new(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    assert read(tmp_path / "a.arrow") == [
        ("a", "서울", {"year": 2001, "of": ["x"]}),
        ("b", "two", {"year": 2002, "of": []}),
        ("c", "three", {"year": 2003, "of": ["y", "z"]}),
    ]


def test_what_datasets_saved_is_its_rows_alone(tmp_path):
    datasets = pytest.importorskip("datasets")
    Dataset, DatasetDict = datasets.Dataset, datasets.DatasetDict
    Dataset.from_dict(ROWS).save_to_disk(tmp_path / "one", num_shards=2)
    assert [one[0] for one in read(tmp_path / "one")] == ["a", "b", "c"]
    both = DatasetDict(train=Dataset.from_dict(ROWS), test=Dataset.from_dict({"id": ["t"], "text": ["held out"]}))
    both.save_to_disk(tmp_path / "split")
    assert [one[0] for one in read(tmp_path / "split")] == ["t", "a", "b", "c"]
    [path] = training_paths([str(tmp_path / "split")])
    assert path.parent == tmp_path / "split" / "train"
    assert [row["text"] for _, row in Reading().rows(path)] == ROWS["text"]
    DatasetDict(dev=Dataset.from_dict(ROWS)).save_to_disk(tmp_path / "dev")
    with pytest.raises(RagvecError, match="dev has no split train: name the folder of the split to train on"):
        list(training_paths([str(tmp_path / "dev")]))


def test_a_json_file_called_as_a_description_is_read_where_nothing_was_saved(tmp_path):
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / name).write_text(json.dumps({"id": name, "text": "a state"}))
    assert [one[0] for one in read(tmp_path)] == ["dataset_info.json", "state.json"]


def test_compressed_batches_are_refused_before_they_inflate(tmp_path):
    table = pa.table({"text": ["a" * (64 << 20)]})
    saved(table, tmp_path / "a.arrow", options=pa.ipc.IpcWriteOptions(compression="zstd"))
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(RagvecError, match=r"a.arrow is compressed, as Arrow files are not read"):
        next(read_documents(tmp_path / "a.arrow"))
    assert pa.default_memory_pool().max_memory() == before


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a" * 1000] * 9).dictionary_encode(),
        pa.array([[None] * 9], pa.list_(pa.null())),
        pa.array([[{}] * 9], pa.list_(pa.struct([]))),
        pa.array(["a" * 1000], pa.string_view()),
        pa.RunEndEncodedArray.from_arrays([1 << 30], ["a"]),
        pa.array([[[]]], pa.list_(pa.list_(pa.int8(), 0))),
    ],
    ids=lambda column: str(column.type)[:12],
)
def test_columns_whose_values_may_take_no_bytes_are_left_out(tmp_path, column, caplog):
    saved(pa.table({"text": ["a"] * min(len(column), 9), "x": column[:9]}), tmp_path / "a.arrow")
    assert {(text, str(metadata)) for _, text, metadata in read(tmp_path / "a.arrow")} == {("a", "{}")}
    [told] = [record.getMessage() for record in caplog.records]
    assert "a.arrow: columns that hold no text and nothing to filter by are left out: 'x' (" in told


def test_images_that_datasets_saved_are_left_out(tmp_path, caplog):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(text=datasets.Value("string"), image={"bytes": datasets.Value("binary")})
    rows = {"text": ["a", "b"], "image": [{"bytes": b"\xff"}] * 2}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    assert [(text, metadata) for _, text, metadata in read(tmp_path / "saved")] == [("a", {}), ("b", {})]
    assert ["'image' (" in record.getMessage() for record in caplog.records] == [True]


def test_more_rows_than_bytes(tmp_path):
    saved(pa.table({"text": pa.nulls(1 << 30)}), tmp_path / "a.arrow")
    with pytest.raises(RagvecError, match="promises 1,073,741,824 rows in"):
        next(read_documents(tmp_path / "a.arrow"))


def test_damaged_bytes_are_one_line_each(tmp_path):
    saved(pa.table(ROWS), tmp_path / "whole.arrow")
    whole = (tmp_path / "whole.arrow").read_bytes()
    draw = np.random.default_rng(0)
    failed = 0
    for number in range(300):
        data = bytearray(whole[: draw.integers(len(whole))] if number % 3 == 0 else whole)
        for place in draw.integers(max(len(data), 1), size=3 if data and number % 3 else 0):
            data[place] = draw.integers(256)
        (tmp_path / "a.arrow").write_bytes(data)
        try:
            list(read_documents(tmp_path / "a.arrow"))
        except RagvecError as error:
            failed += "\n" not in str(error)
    assert failed > 100
