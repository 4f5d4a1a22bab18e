"""What is told of a corpus' files: once, or a few times with a count of the rest, however many files have it."""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragvec.corpus import read_documents
from ragvec.index import Index
from ragvec.train.data.reading import Reading
from tests.test_index import CountingEncoder

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


def test_front_matter_that_cannot_be_read_is_told_of_the_first_files_and_counted(tmp_path: Path, monkeypatch, caplog) -> None:
    caplog.set_level(logging.WARNING, "ragvec")
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        Path(f"{number}.md").write_text("---\ntitle: a: b\n---\nbody")
    why = "its front matter stays in the text, for it cannot be read: mapping values are not allowed here in line 2"
    wanted = [*(f"{number}.md: {why}" for number in range(5)), "and 3 more files whose front matter stays in the text"]
    assert len(list(read_documents("."))) == 8 and caplog.messages == wanted
    caplog.clear()
    reading = Reading()
    for path in sorted(Path().iterdir()):
        assert len(list(reading.rows(path))) == 1
    reading.close()
    assert caplog.messages == wanted


def test_files_that_python_passes_over_are_told_of_the_first_and_counted(tmp_path: Path, monkeypatch, caplog) -> None:
    caplog.set_level(logging.WARNING, "ragvec")
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    Path("docs/a.md").write_text("words")
    for number in range(7):
        Path(f"docs/{number}.json").write_text('{"name": "x"}')
    with Index.create("i", encoder=CountingEncoder()) as index:
        index.add_folder("docs")
    assert [message.partition(",")[0] for message in caplog.messages[:-1]] == [
        f"passed over: docs/{number}.json" for number in range(5)
    ]
    assert caplog.messages[-1] == "and 2 more files or rows passed over"
