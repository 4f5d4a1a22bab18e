"""Sources: which corpus a document came from, what --sync may remove, and what stays when a run can't read or encode it all."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest
import torch

from ragvec.index import Index
from ragvec.records import Document
from tests.conftest import REPOSITORY
from tests.test_cli_index import contents, ragvec, write_corpus
from tests.test_index import CountingEncoder, words_found

CORPUS = [{"_id": name, "text": f"text of {name}"} for name in "abc"]


class FailingEncoder(CountingEncoder):
    """Can't encode a text that holds the word unspeakable."""

    int8_measured = None
    device = torch.device("cpu")

    def encode_counted(self, texts, *, instruction, normalize=True):
        if any("unspeakable" in text for text in texts):
            raise ValueError("unspeakable")
        return super().encode_counted(texts, instruction=instruction, normalize=normalize)


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> CountingEncoder:
    """What is loaded whenever an index asks for its encoder."""
    made = FailingEncoder()
    monkeypatch.setattr("ragvec.encoder.Encoder.load", lambda *_, **__: made)
    return made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAGVEC_INDEX", raising=False)
    return tmp_path


def texts(folder: str | Path = "ragvec-index") -> dict[str, str]:
    return {doc_id: text for doc_id, (text, _) in contents(Path(folder)).items()}


def files(folder: str, **named: str) -> None:
    """Files whose names are these words, with .md."""
    for name, text in named.items():
        path = Path(folder) / f"{name.replace('__', '/')}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def sources_of(folder: str = "ragvec-index") -> dict[str, int]:
    with Index.open(folder) as index:
        return {entry["source"]: entry["documents"] for entry in index.sources()}


def everything(folder: str = "ragvec-index") -> dict[str, list]:
    """All rows of all tables of our own."""
    with closing(sqlite3.connect(Path(folder) / "index.sqlite")) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names if name != "lexical"}


# --- what could not be read is not gone


def test_a_row_that_cannot_be_read_removes_nothing(here: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "c.jsonl", CORPUS)
    ragvec(capsys, "index", "c.jsonl")
    (here / "c.jsonl").write_text('{"_id": "a", "text": "text of a"}\n{"_id": "b", "te')
    code, out, err = ragvec(capsys, "index", "c.jsonl", "--sync", "--on-error", "skip")
    assert code == 0 and ", 0 removed; 3 passages" in out and err.startswith("1 row could not be read")
    line = (
        f"2 documents that did not come by were kept: 1 row or file of {here}/c.jsonl could not be read (c.jsonl, line 2): "
        "mend what is there or take it out, and do the same again\n"
    )
    assert out.endswith(line) and sorted(texts()) == ["a", "b", "c"]
    _, out, _ = ragvec(capsys, "index", "c.jsonl", "--sync", "--on-error", "skip", "--format", "json")
    report = json.loads(out)
    assert (report["removed"], report["kept"], report["rejected"], len(report["doubts"])) == (0, 2, 1, 1)
    write_corpus(here / "c.jsonl", CORPUS[:1])
    assert ", 2 removed; 1 passages" in ragvec(capsys, "index", "c.jsonl", "--sync", "--on-error", "skip")[1]


@pytest.mark.parametrize("damage", ["empty", "binary", "gone", "unmounted", "hidden by queries"])
def test_a_file_that_gives_nothing_now_is_not_gone(here: Path, capsys: pytest.CaptureFixture, damage: str) -> None:
    files("docs", a="one", b="two", share__c="three")
    (here / "docs/share/rows.jsonl").write_text('{"_id": "r", "text": "row"}\n')
    ragvec(capsys, "index", "docs")
    lost = {"b.md"}
    if damage == "empty":
        Path("docs/b.md").write_bytes(b"")
        said = "docs/b.md is there but gave no document"
    elif damage == "binary":
        Path("docs/b.md").write_bytes(b"\xff\xfe\x00")
        said = "1 row or file of "
    elif damage == "gone":
        Path("docs/b.md").unlink()
        said = None
    elif damage == "unmounted":
        shutil.rmtree("docs/share")
        Path("docs/share").mkdir()
        lost, said = {"share/c.md", "r"}, "docs/share is empty: remove it if its documents are to go"
    else:
        Path("docs/corpus.jsonl").write_text('{"_id": "z", "text": "z"}\n')
        Path("docs/queries.jsonl").write_text('{"_id": "q", "text": "q"}\n')
        lost, said = {"a.md", "b.md"}, "docs/a.md is there but gave no document"
    code, out, _ = ragvec(capsys, "index", "docs", "--sync", "--on-error", "skip")
    assert code == 0
    if said is None:
        assert ", 1 removed; " in out and lost.isdisjoint(texts())
    else:
        assert ", 0 removed; " in out and " were kept: " in out and said in out and lost <= texts().keys()
    if damage == "unmounted":
        Path("docs/share").rmdir()
        assert ", 2 removed; " in ragvec(capsys, "index", "docs", "--sync")[1]


@pytest.mark.parametrize("left", ["no file", "an empty file", "an image"])
def test_a_folder_without_any_document_keeps_those_of_before(here: Path, capsys: pytest.CaptureFixture, left: str) -> None:
    files("docs", a="one", b="two")
    ragvec(capsys, "index", "docs")
    before = texts()
    Path("docs/a.md").unlink()
    Path("docs/b.md").unlink()
    if left != "no file":
        Path("docs", "c.md" if left == "an empty file" else "c.png").touch()
    code, out, err = ragvec(capsys, "index", "docs", "--sync")
    *_, told = err.splitlines()
    assert (code, out) == (1, "") and told.startswith("error: docs holds no ") and texts() == before
    assert told.endswith(
        "; nothing was removed from ragvec-index: if its documents are to go, `ragvec delete` removes them by id or filter"
    )
    code, _, err = ragvec(capsys, "index", "docs", "--sync", "-o", "other")
    assert code == 1 and "ragvec delete" not in err and not Path("other").exists()


def test_what_always_was_empty_stops_no_sync(here: Path, capsys: pytest.CaptureFixture) -> None:
    files("docs", a="one", b="two", empty="")
    Path("docs/drafts").mkdir()
    ragvec(capsys, "index", "docs")
    Path("docs/b.md").unlink()
    _, out, _ = ragvec(capsys, "index", "docs", "--sync")
    assert ", 1 removed; " in out and "kept" not in out and list(texts()) == ["a.md"]


@pytest.mark.parametrize("state", ["missing", "empty", "all bad"])
def test_a_corpus_that_reads_as_empty_removes_nothing(here: Path, capsys: pytest.CaptureFixture, state: str) -> None:
    files("docs", a="one", b="two")
    ragvec(capsys, "index", "docs")
    before = everything()
    shutil.rmtree("docs")
    if state != "missing":
        Path("docs").mkdir()
    if state == "all bad":
        Path("docs/a.md").write_bytes(b"\xff\xff")
    code, out, err = ragvec(capsys, "index", "docs", "--sync", "--on-error", "skip")
    assert (code, out) == (1, "") and err.startswith("error: docs ") and everything() == before


def test_sync_of_a_pipe_is_refused(here: Path, capsys: pytest.CaptureFixture) -> None:
    code, out, err = ragvec(capsys, "index", "-", "--sync")
    assert (code, out) == (2, "") and "a pipe that broke looks like one that ended" in err


def test_a_document_that_cannot_be_encoded_keeps_its_older_version(here: Path, capsys: pytest.CaptureFixture) -> None:
    text = "One sentence stands here. Another follows it."
    write_corpus(here / "c.jsonl", [{"_id": "a", "text": text}, *CORPUS[1:]])
    ragvec(capsys, "index", "c.jsonl")
    write_corpus(here / "c.jsonl", [{"_id": "a", "text": "unspeakable"}, CORPUS[1], {"_id": "new", "text": "new"}])
    code, out, err = ragvec(capsys, "index", "c.jsonl", "--sync")
    assert code == 1 and "1 documents added, 0 replaced, 1 unchanged, 1 removed; 3 passages" in out
    assert "1 documents stay as they were: their new text could not be encoded" in err
    assert texts() == {"a": text, "b": "text of b", "new": "new"}
    with Index.open("ragvec-index") as index:
        assert {name for name, _ in words_found(index, "sentence")} == {"a"}
    write_corpus(here / "c.jsonl", [{"_id": "a", "text": "mended"}, CORPUS[1]])
    assert ragvec(capsys, "index", "c.jsonl", "--sync")[1].count("0 documents added, 1 replaced, 1 unchanged, 1 removed") == 1


def test_shards_that_lack_documents_remove_none(here: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "c.jsonl", CORPUS)
    ragvec(capsys, "encode", "c.jsonl", "-o", "shards")
    ragvec(capsys, "index", "shards")
    write_corpus(here / "c.jsonl", [{"_id": "a", "text": "unspeakable"}, CORPUS[1]])
    ragvec(capsys, "encode", "c.jsonl", "-o", "shards")
    code, out, err = ragvec(capsys, "index", "shards", "--sync")
    assert code == 1 and "0 replaced, 1 unchanged, 1 removed" in out and "not encoded: passage 'a'" in err
    assert texts() == {"a": "text of a", "b": "text of b"}
    (here / "c.jsonl").write_text(json.dumps(CORPUS[0]) + "\n{oops\n")
    ragvec(capsys, "encode", "c.jsonl", "-o", "shards", "--on-error", "skip")
    assert json.loads(ragvec(capsys, "info", "shards", "--format", "json")[1])["rejected"] == 1
    code, out, _ = ragvec(capsys, "index", "shards", "--sync")
    assert ", 0 removed; 2 passages" in out and f"kept: 1 row or file of {here}/shards could not be read" in out
    assert sorted(texts()) == ["a", "b"]


# --- one transaction, or nothing


@pytest.mark.parametrize(
    "words", [["--passage-tokens", "32"], ["--passage-tokens", "32", "--sync"], ["--id-prefix", "x/", "--sync"]]
)
def test_a_failed_run_changes_nothing(here: Path, capsys: pytest.CaptureFixture, words: list[str], encoder) -> None:
    encoder.prompts = type("Prompts", (), {"room": staticmethod(lambda _: 100)})
    encoder.count_tokens = lambda texts: [len(text.split()) for text in texts]
    write_corpus(here / "c.jsonl", CORPUS)
    ragvec(capsys, "index", "c.jsonl")
    before = everything()
    (here / "bad.jsonl").write_text('{"_id": "x", "text": "x"}\n{"_id": "y", "text": "y"}\n{oops\n')
    code, _, err = ragvec(capsys, "index", "bad.jsonl", *words)
    assert code == 1 and "bad.jsonl, line 3" in err and everything() == before
    (here / "c.jsonl").write_text((here / "bad.jsonl").read_text())
    assert ragvec(capsys, "index", "c.jsonl", *words)[0] == 1 and everything() == before


def test_of_several_corpora_all_or_none_are_taken_in(here: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "c.jsonl", CORPUS)
    (here / "bad.jsonl").write_text("{oops\n")
    assert ragvec(capsys, "index", "c.jsonl", "bad.jsonl")[0] == 1 and not Path("ragvec-index").exists()
    assert ragvec(capsys, "index", "c.jsonl", "nowhere.jsonl")[0] == 1 and not Path("ragvec-index").exists()


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from ragvec.encoder import Encoder
    from ragvec.index import store
    from ragvec.index.writer import Writer
    from ragvec.ingest import build
    from tests.test_index import CountingEncoder
    encoder = CountingEncoder()
    encoder.prompts = type("Prompts", (), {"room": staticmethod(lambda _: 100)})
    encoder.count_tokens = lambda texts: [len(text.split()) for text in texts]
    Encoder.load = lambda *_, **__: encoder
    check = Writer.check_place
    def die(self):
        if self.connection.in_transaction and store.read_value(self.connection, 'next_id') > 4:
            os.kill(os.getpid(), signal.SIGKILL)
        check(self)
    Writer.check_place = die
    reading = build.CorpusOptions(passage_tokens=50, overlap=5)
    build.build("c.jsonl", Path("ragvec-index"), others=["d.jsonl"], reading=reading, sync=True)
"""


def test_killed_before_the_commit_settings_sources_and_files_are_as_before(here: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "c.jsonl", CORPUS)
    ragvec(capsys, "index", "c.jsonl")
    before = everything()
    write_corpus(here / "c.jsonl", [*CORPUS[:2], {"_id": "new", "text": "new"}])
    write_corpus(here / "d.jsonl", [{"_id": "d", "text": "d"}])
    command = [sys.executable, "-c", textwrap.dedent(KILLED)]
    ended = subprocess.run(command, cwd=here, env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert everything() == before
    _, out, _ = ragvec(capsys, "index", "c.jsonl", "d.jsonl", "--sync")
    assert "2 documents added, 0 replaced, 2 unchanged, 1 removed; 4 passages" in out


# --- indices from before sources were kept


def old_format(folder: str) -> None:
    """Make of an index what an earlier ragvec would have written."""
    with closing(sqlite3.connect(Path(folder) / "index.sqlite", isolation_level=None)) as connection:
        connection.executescript("""
            DROP INDEX passages_doc_id;
            ALTER TABLE passages DROP COLUMN source;
            CREATE INDEX passages_doc_id ON passages (doc_id);
            DROP TABLE sources; DROP TABLE source_files; DROP TABLE filter_values;
            DELETE FROM settings WHERE key IN ('words', 'language', 'near', 'filter_fields');
            UPDATE settings SET value = '3' WHERE key = 'format';
        """)
        tokens = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
        connection.execute(f"CREATE VIRTUAL TABLE lexical USING fts5 (\n    terms, content='', tokenize=\"{tokens}\"\n)")
    shutil.rmtree(Path(folder) / "words")


def test_an_older_index_says_so_and_is_brought_up_to_date_by_a_commit(here: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "c.jsonl", CORPUS)
    ragvec(capsys, "index", "c.jsonl")
    fresh = {row[0]: " ".join(row[1].split()) for row in schema_of("ragvec-index")}
    old_format("ragvec-index")
    before = everything()
    assert sources_of() == {"an earlier ragvec, which kept no sources": 3}
    code, _, err = ragvec(capsys, "search", "text", "--mode", "lexical")
    assert code == 1 and "bring it up to date with `ragvec compact -i ragvec-index`" in err and everything() == before
    (here / "bad.jsonl").write_text('{"_id": "x", "text": "x"}\n{oops\n')
    assert ragvec(capsys, "index", "bad.jsonl")[0] == 1 and everything() == before
    write_corpus(here / "c.jsonl", [CORPUS[0], {"_id": "b", "text": "changed"}])
    assert ragvec(capsys, "index", "c.jsonl", "--sync")[0] == 1 and everything() == before
    assert ragvec(capsys, "compact")[0] == 0 and {name for name, _ in words_found(Index.open("ragvec-index"), "text")} == set(
        "abc"
    )
    _, out, _ = ragvec(capsys, "index", "c.jsonl", "--sync")
    assert "0 documents added, 1 replaced, 1 unchanged, 0 removed; 3 passages" in out
    assert "1 documents that did not come by were kept: 1 documents are from an earlier ragvec" in out
    assert sources_of() == {f"{here}/c.jsonl": 2, "an earlier ragvec, which kept no sources": 1}
    assert {row[0]: " ".join(row[1].split()) for row in schema_of("ragvec-index")} == fresh
    write_corpus(here / "c.jsonl", CORPUS[:1])
    assert ", 1 removed; 2 passages" in ragvec(capsys, "index", "c.jsonl", "--sync")[1]
    assert sorted(texts()) == ["a", "c"]


def schema_of(folder: str) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(Path(folder) / "index.sqlite")) as connection:
        query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'lexical_%'"
        return connection.execute(query).fetchall()


# --- what is deleted leaves the file


def raw(folder: str = "ragvec-index") -> bytes:
    return b"".join(path.read_bytes() for path in sorted(Path(folder).glob("index.sqlite*")))


def spelled(index: Index, beginning: str) -> list[str]:
    """The words on disk that begin so, of deleted passages too."""
    with index.reading() as view:
        return [word for word, _ in view.words.searcher.terms_with_prefix("words", beginning)]


@pytest.mark.parametrize("merged", [False, True])
def test_what_is_deleted_leaves_no_text_and_after_compact_no_word(here: Path, merged: bool) -> None:
    """merged: many small segments became one meanwhile, so that no deleted row is left for compact to drop."""
    secret = "Zanzibarium kwyjibotron " + "filling words that take a page of their own " * 200
    with Index.create("ragvec-index", encoder=CountingEncoder()) as index:
        index.add([Document("keep", "harmless"), Document("s", secret, title="Grumbletitle", metadata={"key": "Metasecret"})])
        index.add([Document("t", secret[:200], title="Grumbletitle"), Document("u", "Quuxfoobar one", metadata={"m": 1})])
        assert b"Zanzibarium" in raw() and b"Metasecret" in raw()
        index.delete(["s"])
        index.delete_where('doc_id = "t"')
        index.add([Document("u", "another text", metadata={"m": 1})])
        held = raw()
        assert b"Zanzibarium" not in held and b"Grumbletitle" not in held and b"Metasecret" not in held
        assert b"Quuxfoobar" not in held and b"filling words that take" not in held
        if merged:
            for number in range(13):  # with those before sixteen commits, which become one segment
                index.add([Document(str(number), f"number {number}")])
            assert len(index.describe()["segments"]) == 1 and index.describe()["deleted_rows"] == 0
        assert merged or spelled(index, "zanzib") == ["zanzibarium"]
        index.compact()
        for word in ("zanzib", "kwyj", "grumblet", "quux"):
            assert word.encode() not in raw().lower() and spelled(index, word) == []
        assert {name for name, _ in words_found(index, "harmless")} == {"keep"}
        generation = everything()["settings"]
        index.compact()
        assert everything()["settings"] == generation, "nothing is left to do"


# --- a deletion says what it does


def test_a_filter_with_an_escape_deletes_what_it_names(here: Path, capsys: pytest.CaptureFixture) -> None:
    names = ["my_dir/a", "my-dir/b", "MY_DIR/c", "my_dir", "100%", "1000"]
    for where, gone in (
        (r'doc_id like "my\_dir/%"', 1),
        ('doc_id starts with "my_dir/"', 1),
        (r'doc_id like "100\%"', 1),
        ('doc_id like "my_dir/%"', 2),
    ):
        shutil.rmtree("ragvec-index", ignore_errors=True)
        with Index.create("ragvec-index", encoder=CountingEncoder()) as index:
            index.add([Document(name, name) for name in names])
        before = everything()
        code, out, _ = ragvec(capsys, "delete", "--where", where, "--dry-run")
        assert code == 0 and out.startswith(f"{gone} documents would be deleted: ") and everything() == before
        assert ragvec(capsys, "delete", "--where", where)[:2] == (0, f"{gone} documents deleted, {6 - gone} passages left\n")
        assert "MY_DIR/c" in texts() and "1000" in texts()


def test_a_dry_run_of_ids_names_those_that_are_there(here: Path, capsys: pytest.CaptureFixture) -> None:
    with Index.create("ragvec-index", encoder=CountingEncoder()) as index:
        index.add([Document(name, name) for name in "abcdefgh"])
    out = ragvec(capsys, "delete", "b", "nobody", "--dry-run")[1]
    assert out == "1 documents would be deleted: b\n"
    assert ragvec(capsys, "delete", "--where", "doc_id != 'a'", "--dry-run")[1] == (
        "7 documents would be deleted: b, c, d, e, f and 2 more\n"
    )
    assert ragvec(capsys, "delete", "--where", "doc_id = 'z'", "--dry-run")[1] == "0 documents would be deleted\n"
    assert len(texts()) == 8
