"""Commits: what readers see while a writer works, who may write, and what is left when a process dies."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ragvec.errors import RagvecError
from ragvec.index import Index
from ragvec.index.changes import Changes
from ragvec.index.merging import merging_tail
from tests.conftest import REPOSITORY
from tests.test_index import SETTINGS, expected, found, passages_named, put, run_python, same, unit_vectors, words_found


@pytest.fixture
def index(tmp_path: Path):
    with Index.create_with(tmp_path / "index", SETTINGS) as made:
        yield made


def test_a_view_holds_its_commit_still(index: Index) -> None:
    vectors = unit_vectors(200)
    put(index, passages_named(range(100)), vectors[:100])
    put(index, passages_named(range(100, 120)), vectors[100:120])
    with Index.open(index.path) as reader, index.writing() as writer, reader.reading() as view:
        before = view.search(vectors[:3], 5)
        writer.commit([(passages_named(range(120, 200)), vectors[120:])], Changes(writer.connection))
        writer.delete(["0"])
        writer.compact()
        assert len(view) == 120
        assert np.array_equal(view.search(vectors[:3], 5).ids, before.ids)
        assert [p.doc_id for p in view.passages(before.ids[0].tolist())][0] == "0"
    assert len(index) == 199


def test_a_writer_waits_for_a_view_and_says_so_at_last(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    put(index, passages_named(range(9)), unit_vectors(9))
    index.close()
    with index.reading():
        monkeypatch.setattr("ragvec.index.connect.PATIENCE_S", 0.2)
        with pytest.raises(RagvecError, match="is being read .* for 0 s"):
            index.delete(["1"])
        monkeypatch.undo()
        writer = threading.Thread(target=index.delete, args=(["1"],))
        writer.start()
        time.sleep(0.2)
    writer.join()
    assert len(index) == 8


def test_an_open_reader_sees_the_next_commit(index: Index) -> None:
    with Index.open(index.path) as reader:
        assert len(reader) == 0
        put(index, passages_named(range(10)), unit_vectors(10))
        assert found(reader, unit_vectors(1), 1)[0][0][0] == "0"
        index.delete(["0"])
        index.compact()
        assert found(reader, unit_vectors(1), 1)[0][0][0] != "0"


def test_readers_in_threads_see_whole_commits(index: Index) -> None:
    vectors = unit_vectors(40)
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            with index.reading() as view:
                if len(view) % 10 or view.search(vectors[:1], 100).ids.shape[1] != len(view):
                    wrong.append(len(view))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    for turn in range(8):
        put(index, passages_named(range(10 * (turn % 4), 10 * (turn % 4) + 10)), vectors[:10])
        if turn % 3 == 2:
            index.compact()
    stop.set()
    for thread in readers:
        thread.join()
    assert not wrong


def test_a_second_writer_is_told_who_holds_the_lock(index: Index) -> None:
    with index.writing(), Index.open(index.path) as second:
        with pytest.raises(RagvecError, match=f"being written by process {os.getpid()} on "):
            second.delete(["a"])
        assert len(second) == 0  # readers read on
    assert Index.open(index.path).delete(["a"]) == 0


def test_at_rest_an_index_is_plain_files(index: Index) -> None:
    put(index, passages_named(range(9)), unit_vectors(9))
    assert len(index) == 9
    put(index, passages_named(range(9, 12)), unit_vectors(3))
    with closing(sqlite3.connect(index.path / "index.sqlite")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    files = sorted(str(path.relative_to(index.path)) for path in index.path.rglob("*") if path.is_file())
    words = {name for name in files if name.startswith("words/")}
    with index.reading() as view:
        assert words == {f"words/{name}" for name in view.words.record.files} and len(words) == 12
    assert [name for name in files if name not in words] == [
        "index.sqlite",
        "segments/0001/ids.i64",
        "segments/0001/vectors.f16",
        "segments/0002/ids.i64",
        "segments/0002/vectors.f16",
        "writer.lock",
    ]


def test_a_user_who_may_not_write_can_search(index: Index) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to become a user without rights")
    put(index, passages_named(range(9)), unit_vectors(9))
    index.close()
    for folder in (index.path, *index.path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    code = f"""
        import os
        from ragvec.index import Index
        from ragvec.errors import RagvecError
        len(Index.open({str(index.path)!r}))  # loads modules that the other user may not read
        os.setuid(65534)
        index = Index.open({str(index.path)!r})
        print(len(index))
        try:
            index.delete(["1"])
        except RagvecError as error:
            print(error)
    """
    lines = run_python(code).stdout.splitlines()
    assert lines == ["9", f"can't write to index {index.path}: Permission denied"]


def test_what_a_dead_writer_left_is_swept(index: Index) -> None:
    put(index, passages_named(range(9)), unit_vectors(9))
    orphan = index.path / "segments" / "0002"
    orphan.mkdir()
    (orphan / "vectors.f16").write_bytes(b"half")
    put(index, passages_named(range(9, 12)), unit_vectors(3, seed=1))
    assert same(found(index, unit_vectors(1, seed=1), 1), expected([9], unit_vectors(1, seed=1), unit_vectors(1, seed=1), 1))
    assert sorted(path.name for path in (index.path / "segments").iterdir()) == ["0001", "0002"]


def test_an_index_that_replaces_another_is_not_touched_by_its_writer(index: Index, tmp_path: Path) -> None:
    """Both are about to write, or have written, a segment of the same number."""
    put(index, passages_named(range(9)), unit_vectors(9))
    with Index.create_with(tmp_path / "other", SETTINGS) as other:
        for start in (0, 3):
            put(other, passages_named(range(start, start + 3)), unit_vectors(3, seed=start))

    def replace_it():
        yield passages_named(range(9, 12)), unit_vectors(3, seed=1)
        index.path.rename(tmp_path / "moved")
        (tmp_path / "other").rename(index.path)

    with pytest.raises(RagvecError, match="moved or replaced while it was being changed"), index.writing() as writer:
        writer.commit(replace_it(), Changes(writer.connection))
    for folder, wanted in ((index.path, 6), (tmp_path / "moved", 9)):
        with Index.open(folder) as there:
            assert sum(there.search(unit_vectors(1), 20).ids[0] >= 0) == len(there) == wanted


CHURN = """
    import itertools, sys
    from ragvec.index import Index
    from tests.test_index import passages_named, put, unit_vectors
    index = Index.open(sys.argv[1])
    for turn in itertools.count(int(sys.argv[2])):
        put(index, passages_named(range(10 * turn, 10 * turn + 10)), unit_vectors(10, seed=turn))
        print(turn, flush=True)
        if turn % 4 == 3:
            index.compact()
"""


@pytest.mark.parametrize("kills", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_at_any_moment_the_index_holds_exactly_its_commits(index: Index, kills: int) -> None:
    dice = random.Random(3)
    turn = 0
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHURN), str(index.path), str(turn)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        process.stdout.readline()
        time.sleep(dice.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.stdout.read()
        process.stdout.close()
        process.wait()
        with Index.open(index.path) as reader:
            rows = len(reader)
            assert rows % 10 == 0 and rows >= 10 * (turn + 1)
            turn = rows // 10
            vectors = np.vstack([unit_vectors(10, seed=number) for number in range(turn)])
            queries = unit_vectors(2, seed=99)
            assert same(found(reader, queries, 10), expected(range(rows), vectors, queries, 10))
            assert words_found(reader, str(rows - 1)) and len(words_found(reader, "text")) == rows
    index.compact()
    assert len(list((index.path / "segments").iterdir())) == 1
    with closing(sqlite3.connect(index.path / "index.sqlite")) as check:
        assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with index.reading() as view:
        assert len(view.words) == len(view) == rows


@pytest.mark.parametrize(
    ("rows", "newest"),
    [
        ([], 0),
        ([1] * 15, 0),
        ([1] * 16, 16),
        ([300, *[15] * 16], 16),
        ([*[16] * 16, 3], 17),  # newer ones go with them, for ids ascend from segment to segment
        ([*[16] * 15, *[1] * 15], 0),
        ([*[16] * 15, 256, 16], 0),
        ([256] * 16, 16),
        ([*[4096] * 30], 0),  # 122,880
        ([*[256] * 15, *[16] * 15, *[1] * 16], 46),  # what comes of one merge is due for the next: once, not three times
        # from here on 125,000 rows are searched exactly at most
        ([100_000], 0),
        ([100_000] * 2, 2),
        ([200_000, 100_000], 0),
        ([200_000, 100_000, 25_000], 0),
        ([200_000, 100_000, 25_001], 2),
        ([*[200_000] * 3, 100_000, 100_000], 5),
        ([1_000_000, *[200_000] * 3, 4_000], 0),
        ([1_000_000, *[200_000] * 4, 4_000], 5),
        ([*[1_000_000] * 3, 130_000, *[200_000] * 3], 7),
        ([*[4_000_000] * 4], 4),
        ([*[4_000_000] * 3, 6_000_000], 0),  # more than is merged without being asked
        ([126_000], 0),
    ],
)
def test_segments_become_one_when_there_are_many_of_a_size(rows: list[int], newest: int) -> None:
    assert merging_tail(rows, 128, "auto") == newest


def test_segments_searched_exactly_as_one_wishes_are_merged_while_they_are_small() -> None:
    assert merging_tail([100_000] * 9, 128, "exact") == 0
    assert merging_tail([*[100_000] * 9, *[1] * 16], 128, "exact") == 16


def test_segments_that_are_slow_together_become_one_with_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragvec.index.ann.choice.EXACT_VALUES", 150 * 16)
    monkeypatch.setattr("ragvec.index.ann.approximate._is_faster", lambda index, queries: True)  # so few rows: a toss-up
    random = np.random.default_rng(3)
    vectors = random.standard_normal((20, 16))[random.integers(0, 20, 2_000)] + 0.1 * random.standard_normal((2_000, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
    index = Index.create(tmp_path / "large", dimension=16, fingerprint="f")
    for start in range(0, 2_000, 100):
        put(index, passages_named(range(start, start + 100)), vectors[start : start + 100])
        if start == 100:
            index.delete([str(row) for row in range(20)])
    rows = [segment["rows"] for segment in index.describe()["segments"]]
    assert rows == [780, 800, 200, 200]  # without the deleted ones
    assert all(segment["faiss_key"] != "exact" for segment in index.describe()["segments"])
    kept = np.arange(20, 2_000)
    hits = [{doc_id for doc_id, _ in line} for line in found(index, vectors[200:300], 10)]
    truth = [{doc_id for doc_id, _ in line} for line in expected(kept, vectors[kept], vectors[200:300], 10)]
    assert np.mean([len(one & other) for one, other in zip(hits, truth, strict=True)]) > 9


def test_many_small_commits_leave_few_segments(index: Index) -> None:
    vectors, names = unit_vectors(300), passages_named(range(300))
    put(index, names[:20], vectors[:20])
    for row in range(20, 300):
        put(index, [names[row]], vectors[row : row + 1])
        if row % 7 == 0:
            index.delete([str(row - 3)])
    gone = {row - 3 for row in range(20, 300) if row % 7 == 0}
    kept = np.array([row for row in range(300) if row not in gone])
    segments = index.describe()["segments"]
    assert len(segments) < 35 and sum(segment["rows"] for segment in segments) < 300, "deleted rows go when segments merge"
    assert len(list((index.path / "segments").iterdir())) == len(segments)
    assert same(found(index, vectors[:9], 10), expected(kept, vectors[kept], vectors[:9], 10))
    assert len(index) == len(kept)


def test_a_merge_that_fails_costs_no_commit(index: Index, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    vectors, names = unit_vectors(17), passages_named(range(17))
    for row in range(15):
        put(index, [names[row]], vectors[row : row + 1])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ragvec.index.writer._live_blocks", full)
    put(index, [names[15]], vectors[15:16])
    assert "segments stay apart for now" in caplog.text and "No space left" in caplog.text
    assert (len(index), len(index.describe()["segments"])) == (16, 16)
    monkeypatch.undo()
    put(index, [names[16]], vectors[16:])
    assert (len(index), len(index.describe()["segments"])) == (17, 1)
