"""Columns that hold nothing to read: told once for all files of a corpus, and not at all where they were to go."""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragvec.corpus import read_documents
from ragvec.train.data.reading import Reading

FILES = 5


@pytest.fixture
def shards(tmp_path: Path, monkeypatch, caplog) -> Path:
    caplog.set_level(logging.WARNING, "ragvec")
    monkeypatch.chdir(tmp_path)
    folder = Path("shards")
    folder.mkdir()
    for number in range(FILES):
        table = pa.table({"text": [f"text {number}"], "Image": [b"\xff"]})
        pq.write_table(table, folder / f"{number}.parquet")
        with pa.OSFile(str(folder / f"{number}.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
        (folder / f"{number}.csv").write_text(f",text\n7,words {number}\n")
    return folder


LEFT = "columns that hold no text and nothing to filter by are left out: 'Image' ('binary')"
NAMELESS = "shards/0.csv: columns without a name are left out (1): name them in the header"


def test_a_column_is_told_once_for_all_files(shards: Path, caplog) -> None:
    assert len(list(read_documents(shards))) == 3 * FILES
    assert caplog.messages == [f"shards/0.arrow: {LEFT}", NAMELESS]
    caplog.clear()
    reading = Reading()
    assert sum(1 for path in sorted(shards.iterdir()) for _ in reading.rows(path)) == 3 * FILES
    assert caplog.messages == [f"shards/0.arrow: {LEFT}", NAMELESS]


def test_another_kind_of_the_same_name_is_told(shards: Path, caplog) -> None:
    pq.write_table(pa.table({"text": ["a"], "Image": [[b"\xff"]], "audio": [b"x"]}), shards / "z.parquet")
    list(read_documents(shards))
    assert caplog.messages[-1] == (f"shards/z.parquet: {LEFT.replace('binary', 'list<element: binary>')}, 'audio' ('binary')")


def test_a_column_that_is_dropped_is_neither_told_nor_missed(shards: Path, caplog) -> None:
    list(read_documents(shards, drop_fields=["image"]))
    assert caplog.messages == [NAMELESS]
    caplog.clear()
    list(read_documents(shards, metadata_fields=["image"]))
    assert caplog.messages == [f"shards/0.arrow: {LEFT}", NAMELESS]
