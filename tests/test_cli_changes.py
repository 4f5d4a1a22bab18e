"""`ragvec index`, `delete` and `compact` on an index that is there: what is removed, who writes, how it is searched."""

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ragvec.cli.search_settings import parse_size
from ragvec.index import Index
from tests.conftest import REPOSITORY
from tests.test_cli_index import ROWS, contents, ragvec, write_corpus
from tests.test_index import CountingEncoder, run_python


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAGVEC_INDEX", raising=False)
    return tmp_path


SLOW_BUILD = """
    import sys, time
    from ragvec.ingest import encode_corpus
    from ragvec.corpus import read_documents, to_passages
    from ragvec.index import Index
    from ragvec.ingest import build
    from tests.test_index import CountingEncoder

    class SlowEncoder(CountingEncoder):
        def encode_counted(self, texts, **options):
            time.sleep(0.05)
            with open(sys.argv[3], "a") as log:
                log.writelines(text + "\\n" for text in texts)
            return super().encode_counted(texts, **options)

    build.encode_corpus = lambda *arguments, **options: encode_corpus(*arguments, **options, part_rows=8)
    encoder = SlowEncoder()
    index = Index.open(sys.argv[2], encoder=encoder)
    print(build.index_passages(index, to_passages(read_documents(sys.argv[1]))).added)
"""


def test_an_interrupted_build_is_taken_up_again(here: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [{"_id": str(number), "text": f"document number {number}"} for number in range(60)]
    write_corpus(here / "corpus.jsonl", rows)
    Index.create(here / "index", encoder=CountingEncoder()).close()
    arguments = [here / "corpus.jsonl", here / "index", here / "encoded.txt"]
    command = [sys.executable, "-c", textwrap.dedent(SLOW_BUILD), *map(str, arguments)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (here / "index/encoding/part-00001.parquet").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.communicate()[0] == b""
    code, _, err = ragvec(capsys, "search", "document", "--mode", "lexical", "-i", here / "index")
    assert code == 1 and "is empty: fill it with `ragvec index" in err
    assert run_python(SLOW_BUILD, *arguments).stdout == "60\n"
    assert sorted(path.name for path in (here / "index").iterdir()) == ["index.sqlite", "segments", "words", "writer.lock"]
    encoded = (here / "encoded.txt").read_text().splitlines()
    assert set(encoded) == {row["text"] for row in rows}
    assert len(encoded) <= 60 + 16  # nothing twice but the part that was being written, and the one encoded meanwhile
    assert len(contents(here / "index")) == 60


def test_sync_delete_and_compact(here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "corpus.jsonl", ROWS)
    ragvec(capsys, "index", "corpus.jsonl", "-e", tiny_decoder)
    write_corpus(here / "corpus.jsonl", [ROWS[0], {"_id": "d", "text": "new", "year": 1999}])
    _, out, _ = ragvec(capsys, "index", "corpus.jsonl", "--sync")
    assert out.startswith("ragvec-index: 1 documents added, 0 replaced, 1 unchanged, 2 removed; 2 passages, 32-d")
    assert sorted(contents(here / "ragvec-index")) == ["a", "d"]
    assert ragvec(capsys, "delete", "a", "nobody")[:2] == (0, "1 documents deleted, 1 not found, 1 passages left\n")
    assert ragvec(capsys, "delete", "--where", "year = 1999")[:2] == (0, "1 documents deleted, 0 passages left\n")
    write_corpus(here / "corpus.jsonl", ROWS)
    ragvec(capsys, "index", "corpus.jsonl")
    code, out, _ = ragvec(capsys, "compact")
    assert code == 0 and out.startswith("ragvec-index: segments 3 → 1, 4 deleted rows dropped, ")
    assert sorted(contents(here / "ragvec-index")) == ["a", "b", "서울"]


def test_delete_reads_ids_from_stdin(here: Path, tiny_decoder: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(here / "corpus.jsonl", ROWS)
    ragvec(capsys, "index", "corpus.jsonl", "-e", tiny_decoder)
    monkeypatch.setattr("sys.stdin", io.StringIO("서울\nb\n"))
    assert ragvec(capsys, "delete", "-")[:2] == (0, "2 documents deleted, 1 passages left\n")


@pytest.mark.parametrize("words", [["delete"], ["delete", "a", "--where", "year = 1"]])
def test_delete_needs_one_thing_to_delete(here: Path, capsys: pytest.CaptureFixture, words: list[str]) -> None:
    message = "error: say what to delete: ids of documents, or --where with a filter, not both\n"
    assert ragvec(capsys, *words) == (2, "", message)


def test_interrupted_from_the_keyboard_nothing_is_half_written(here: Path, tiny_decoder: Path) -> None:
    """SIGINT while encoding: exit code 130, no half index, and the next run ends as if nothing had happened."""
    rows = [{"_id": str(number), "text": f"document number {number}"} for number in range(2000)]
    write_corpus(here / "corpus.jsonl", rows)
    arguments = ["index", "corpus.jsonl", "-e", str(tiny_decoder)]
    command = [sys.executable, "-c", "from ragvec.cli.main import main; main()", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        command,
        cwd=here,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    deadline = time.monotonic() + 60
    while not (here / "ragvec-index/encoding").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "") and "Traceback" not in err, err
    assert err.splitlines()[-1] == "interrupted: the same command goes on where it stopped"
    assert not (here / "ragvec-index").exists()  # no part of the encoding was finished: nothing to take up
    result = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
    assert result.stdout.startswith("ragvec-index: 2,000 documents added"), result.stderr
    assert len(contents(here / "ragvec-index")) == 2000


def test_a_second_writer_is_told_who_is_writing(here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "corpus.jsonl", ROWS)
    ragvec(capsys, "index", "corpus.jsonl", "-e", tiny_decoder)
    write_corpus(here / "corpus.jsonl", ROWS[:1])
    holder = f"error: index ragvec-index is being written by process {os.getpid()} on "
    with Index.open(here / "ragvec-index").writing():
        for words in (["index", "corpus.jsonl", "--sync"], ["delete", "a"], ["compact"]):
            code, out, err = ragvec(capsys, *words)
            assert (code, out, err.count("\n")) == (1, "", 1)
            assert err.startswith(holder) and err.endswith("try again when it has ended\n")
    assert len(contents(here / "ragvec-index")) == 3


def test_how_an_index_is_searched_can_be_chosen_and_changed(
    here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture
) -> None:
    write_corpus(here / "corpus.jsonl", [{"_id": str(number), "text": f"document {number}"} for number in range(1100)])
    options = ["--index-key", "IVF4,SQ8", "--recall", "0.9", "--max-memory", "1.5GB"]
    assert ragvec(capsys, "index", "corpus.jsonl", "-e", tiny_decoder, *options)[0] == 0
    described = json.loads(ragvec(capsys, "info", "ragvec-index")[1])
    assert [described[name] for name in ("faiss_key", "recall_target", "max_memory")] == ["IVF4,SQ8", 0.9, 1_500_000_000]
    (segment,) = described["segments"]
    assert segment["faiss_key"] == "IVF4,SQ8" and 0.9 <= segment["recall@10"] <= 1 and "nprobe=" in segment["search_parameters"]
    assert ragvec(capsys, "compact", "--index-key", "exact")[0] == 0
    (segment,) = json.loads(ragvec(capsys, "info", "ragvec-index")[1])["segments"]
    assert (segment["faiss_key"], segment["recall@10"], segment["rows"]) == ("exact", None, 1100)


@pytest.mark.parametrize("size", ["2 parsecs", "GB", "-1GB"])
def test_a_size_that_is_none_is_a_usage_error(here: Path, capsys: pytest.CaptureFixture, size: str) -> None:
    code, out, err = ragvec(capsys, "index", "corpus.jsonl", f"--max-memory={size}")
    assert (code, out) == (2, "") and "is no size: write it like 800MB or 2GiB" in " ".join(err.replace("│", " ").split())


def test_sizes() -> None:
    assert [parse_size(text) for text in ("10", "1kB", "2 MB", "1.5g", "1GiB")] == [10, 1000, 2 * 10**6, 1_500_000_000, 2**30]
