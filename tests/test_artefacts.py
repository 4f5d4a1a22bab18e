"""What lies in a folder, told by names; and locks, which other systems than Linux and macOS don't have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ragvec.artefacts import kind_of
from ragvec.locks import lock
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["index.sqlite"], "index"),
        (["index.sqlite", "manifest.json", "config.json"], "index"),
        (["manifest.json", "part-00000.parquet"], "shards"),
        (["ragvec.json", "config.json"], "encoder"),
        (["modules.json"], "encoder"),
        (["llm2vec_config.json"], "encoder"),
        (["adapter_config.json"], "encoder"),
        (["docs.jsonl"], None),
        ([], None),
    ],
)
def test_what_lies_in_a_folder(tmp_path: Path, names: list[str], kind: str | None) -> None:
    for name in names:
        (tmp_path / name).write_text("")
    assert kind_of(tmp_path) == kind_of(str(tmp_path)) == kind


def test_what_is_no_folder_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "index.sqlite").mkdir()
    paths = [tmp_path / "file", tmp_path / "nowhere", tmp_path, "x" * 5000, "a\0b"]
    assert [kind_of(path) for path in paths] == [None] * 5


def test_a_lock_is_alone_or_shared(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first, path.open("w") as second:
        lock(first)
        with pytest.raises(BlockingIOError):
            lock(second)
        with pytest.raises(BlockingIOError):
            lock(second, shared=True)
    with path.open("w") as first, path.open("w") as second:
        lock(first, shared=True)
        lock(second, shared=True)
        with pytest.raises(BlockingIOError):
            lock(second)
    folder = os.open(tmp_path, os.O_RDONLY)
    lock(folder, wait=True)
    os.close(folder)


@pytest.mark.parametrize("command", [["search", "query"], ["index", "corpus.jsonl"], ["encode", "c.jsonl", "-o", "s"]])
def test_where_there_is_no_flock_one_line_says_where_there_is(tmp_path: Path, command: list[str]) -> None:
    run = f"import sys; sys.modules['fcntl'] = None; from ragvec.cli.main import main; main({command})"
    found = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run([sys.executable, "-c", run], cwd=tmp_path, capture_output=True, text=True, env=found)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "error: ragvec writes and serves indices and shards on Linux and macOS: on Windows, run it in WSL, or in a container\n"
    )
