"""`ragvec index --watch`, and folders that Python brings into an index."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ragvec.cli.index import _try
from ragvec.cli.main import main
from ragvec.corpus.kinds import FileChoice
from ragvec.corpus.passages import CorpusOptions
from ragvec.encoder import Encoder
from ragvec.errors import NotFound, RagvecError, WrongInput, WrongUsage
from ragvec.index import Index
from ragvec.index.lock import writer_lock
from ragvec.ingest.watch import _Wanted, watched
from ragvec.retrieve.lookup import stored_documents


def folder_of(path: Path, **texts: str) -> Path:
    path.mkdir(exist_ok=True)
    for name, text in texts.items():
        (path / f"{name}.md").write_text(text)
    return path


def test_a_folder_comes_into_an_index_and_is_kept_up(tmp_path: Path, caplog) -> None:
    folder = folder_of(tmp_path / "docs", a="one", b="two")
    (folder / "package.json").write_text('{"name": "x"}')
    with Index.create(tmp_path / "i", encoder=Encoder.load()) as index:
        assert index.add_folder(folder) == (2, 0, 0, 0)
        assert "passed over: " in caplog.text and "package.json" in caplog.text
        folder_of(folder, a="one more", c="three")
        (folder / "b.md").unlink()
        unread = []
        assert index.add_folder(folder, sync=True, on_unread=unread.append) == (1, 1, 0, 1) and len(unread) == 1
        assert [document.doc_id for document in stored_documents(index)] == ["a.md", "c.md"]
        assert [source["source"] for source in index.sources()] == [str(folder)]
        assert index.add_folder(folder_of(tmp_path / "more", a="other")) == (1, 0, 0, 0)
        assert [document.doc_id for document in stored_documents(index)] == ["a.md", "c.md", "more/a.md"]
        with pytest.raises(NotFound):
            index.add_folder(tmp_path / "none")
        (tmp_path / "more" / "a.md").unlink()
        with pytest.raises(
            WrongInput, match="holds no corpus file: .* nothing was removed from .*: if its documents are to go, `r"
        ):
            index.add_folder(tmp_path / "more", sync=True)
        with pytest.raises(WrongInput, match=r"also with .gz or .zst$"):
            index.add_folder(tmp_path / "more")
        assert len(index) == 3


def test_files_of_a_folder_are_cut_as_from_the_command_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "docs", long="A sentence of some words. " * 200)
    for name, reading, passages in (("cut", None, True), ("whole", CorpusOptions(passage_tokens=0), False)):
        with Index.create(tmp_path / name, encoder=Encoder.load()) as index:
            index.add_folder(folder, reading=reading)
            assert (len(index) > 1) is passages
        with Index.open(tmp_path / name) as index:
            assert (index.settings.passage_tokens is not None) is passages
            folder_of(folder, second="A sentence of some words. " * 200)
            before = len(index)
            index.add_folder(folder)
            assert len(index) == 2 * before
        (folder / "second.md").unlink()


def test_changes_of_what_is_read_are_told_and_no_others(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    folder, stop = folder_of(tmp_path / "docs", a="one"), threading.Event()
    changes = watched([folder], FileChoice(), [folder / "i"], stop=stop)
    assert next(changes)
    (folder / "i").mkdir()
    (folder / "i" / "index.sqlite").write_text("x")
    (folder / ".hidden.md").write_text("x")
    (folder / "b.md").write_text("two")
    assert any(changed for _, changed in zip(range(5), changes, strict=False))
    stop.set()
    assert not any(changes)


@pytest.mark.parametrize(
    ("name", "told"),
    [("a.md", True), ("sub/a.pdf", True), ("README", True), ("a.png", False), ("sub/.git/a.md", False), ("i/a.md", False),
     ("drafts/a.md", False), ("x.quarantine.jsonl", False), ("~$a.docx", False), ("../else.md", False)],
)  # fmt: skip
def test_which_paths_count(tmp_path: Path, name: str, told: bool) -> None:
    (tmp_path / "docs").mkdir()
    wanted = _Wanted([tmp_path / "docs"], FileChoice(exclude=("drafts/",)), [tmp_path / "docs" / "i"])
    assert wanted(None, os.path.normpath(tmp_path / "docs" / name)) is told


def test_a_single_file_counts_alone(tmp_path: Path) -> None:
    wanted = _Wanted([tmp_path / "a.md"], FileChoice(), [])
    assert wanted(None, str(tmp_path / "a.md")) and not wanted(None, str(tmp_path / "b.md"))


def test_what_cannot_be_watched_is_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    with pytest.raises(WrongInput, match="standard input can't be watched"):
        next(watched(["-"], FileChoice(), []))
    with pytest.raises(NotFound):
        next(watched([tmp_path / "none"], FileChoice(), []))
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(RagvecError, match=r"watching needs watchfiles .*: pip install 'ragvec\[watch\]'"):
        next(watched([tmp_path], FileChoice(), []))
    with pytest.raises(SystemExit) as end:
        main(["index", str(folder_of(tmp_path / "docs", a="one")), "-o", str(tmp_path / "i"), "--watch"])
    assert end.value.code == 1 and "watching needs watchfiles" in capsys.readouterr().err and not (tmp_path / "i").exists()


def test_a_watch_outlives_what_a_change_can_mend(tmp_path: Path, monkeypatch, capsys) -> None:
    """The folder is real, and so is every build; the changes come at once instead of from the file system."""
    folder, index = folder_of(tmp_path / "docs", a="one"), tmp_path / "i"

    def changes(*_: object) -> Iterator[bool]:
        yield True
        yield False
        (folder / "b.jsonl").write_text('{"_id": "x", "text": "b"}\n')
        (folder / "c.jsonl").write_text('{"_id": "x", "text": "c"}\n')
        yield True
        (folder / "c.jsonl").unlink()
        shutil.move(index / "index.sqlite", index / "away")
        yield True
        shutil.move(index / "away", index / "index.sqlite")
        yield True
        for path in folder.iterdir():
            path.unlink()
        yield True
        folder_of(folder, d="four")
        yield True

    monkeypatch.setattr("ragvec.ingest.watch.watched", changes)
    with pytest.raises(SystemExit) as end:
        main(["index", str(folder), "-o", str(index), "--watch"])
    out, err = capsys.readouterr()
    assert end.value.code == 0
    assert [line.split(": ")[1].split(", ")[0] for line in out.splitlines()] == ["1 documents added"] * 3
    watching, same_id, no_index, empty = err.splitlines()
    assert "(--id-field)" in same_id and "`" not in same_id and "used before" in same_id
    assert no_index.startswith(f"error: no index in {index}") and empty.startswith(f"error: {folder} holds no corpus file")
    assert "nothing was removed" in empty and watching.startswith("watching")


def test_a_watch_waits_for_the_first_file_of_an_emptied_folder(tmp_path: Path, monkeypatch, capsys) -> None:
    pytest.importorskip("watchfiles")
    folder, index, really = folder_of(tmp_path / "docs", a="one"), tmp_path / "i", watched
    command = ["index", str(folder), "-o", str(index)]
    with pytest.raises(SystemExit):
        main(command)
    (folder / "a.md").unlink()
    capsys.readouterr()

    def changes(*which: object) -> Iterator[bool]:
        told = really(*which)
        yield next(told)
        told.close()
        folder_of(folder, b="two")
        yield True

    monkeypatch.setattr("ragvec.ingest.watch.watched", changes)
    with pytest.raises(SystemExit) as end:
        main([*command, "--watch"])
    out, err = capsys.readouterr()
    assert end.value.code == 0 and "1 documents added, 0 replaced, 0 unchanged, 1 removed" in out
    empty, watching = err.splitlines()
    assert empty.startswith(f"error: {folder} holds no corpus file") and f"nothing was removed from {index}" in empty
    assert watching.startswith("watching for changes")
    (folder / "b.md").unlink()
    with pytest.raises(SystemExit) as end:
        main(["index", str(folder), "-o", str(tmp_path / "new"), "--watch"])
    assert end.value.code == 1 and "watching" not in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_a_change_waits_for_another_writer_to_end(tmp_path: Path, monkeypatch, capsys) -> None:
    folder, index = folder_of(tmp_path / "docs", a="one"), tmp_path / "i"

    def changes(*_: object) -> Iterator[bool]:
        yield True
        folder_of(folder, b="two")
        with writer_lock(index):
            yield True
            yield False
        yield False
        yield False

    monkeypatch.setattr("ragvec.ingest.watch.watched", changes)
    with pytest.raises(SystemExit) as end:
        main(["index", str(folder), "-o", str(index), "--watch"])
    out, err = capsys.readouterr()
    assert end.value.code == 0 and [line.split(": ")[1][:17] for line in out.splitlines()] == ["1 documents added"] * 2
    watching, busy = err.splitlines()
    assert watching.startswith("watching") and busy.startswith(f"error: index {index} is being written by process")


def test_which_faults_end_a_watch(capsys) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full, a disk that is full")
    _try(lambda _: full.write_text("x"), [], dict)
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"
    with pytest.raises(WrongUsage):
        _try(lambda _: CorpusOptions(max_value_mb=0), [], dict)
    with pytest.raises(ZeroDivisionError):
        _try(lambda _: 1 / 0, [], dict)


@pytest.mark.slow
def test_the_command_follows_its_folder_until_it_is_interrupted(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    folder = folder_of(tmp_path / "docs", a="one", b="two")
    command = [sys.executable, "-c", "from ragvec.cli.main import main; main()", "index", ".", "--watch"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stderr
    try:
        assert "2 documents added, 0 replaced, 0 unchanged, 0 removed" in process.stdout.readline()
        while "watching for changes" not in process.stderr.readline():
            pass
        folder_of(folder, c="three")
        assert "1 documents added, 0 replaced, 2 unchanged, 0 removed" in process.stdout.readline()
        (folder / "a.md").unlink()
        assert "0 documents added, 0 replaced, 2 unchanged, 1 removed" in process.stdout.readline()
        folder_of(folder, b="two is other")
        assert "0 documents added, 1 replaced, 1 unchanged, 0 removed" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
        assert (process.returncode, rest) == (0, "") and said.endswith("no longer watching\n")
    finally:
        process.kill()
