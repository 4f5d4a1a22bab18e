"""Several sources in one index: their documents live together, and an id that two of them share is an error."""

import json
import shutil
from pathlib import Path

import pytest

from ragvec.errors import RagvecError
from ragvec.index import Index
from ragvec.ingest.build import build
from ragvec.records import Document
from tests.test_cli_index import ragvec, write_corpus
from tests.test_index_sources import CORPUS, FailingEncoder, files, sources_of, texts


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, where indices load an encoder of no weights."""
    monkeypatch.setattr("ragvec.encoder.Encoder.load", lambda *_, **__: FailingEncoder())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAGVEC_INDEX", raising=False)
    return tmp_path


def test_two_folders_with_files_of_one_name_are_both_found(here: Path, capsys: pytest.CaptureFixture) -> None:
    files("A", README="readme of A", x="only in A")
    files("B", README="readme of B")
    assert ragvec(capsys, "index", "A")[0] == 0
    code, out, _ = ragvec(capsys, "index", "B")
    assert code == 0 and "1 documents added, 0 replaced" in out
    wanted = {"README.md": "readme of A", "x.md": "only in A", "B/README.md": "readme of B"}
    assert texts() == wanted
    assert "0 documents added, 0 replaced, 1 unchanged, 0 removed; 3 passages" in ragvec(capsys, "index", "B", "--sync")[1]
    Path("A/x.md").unlink()
    assert "1 unchanged, 1 removed; 2 passages" in ragvec(capsys, "index", "A", "--sync")[1]
    assert sources_of() == {f"{here}/A": 1, f"{here}/B": 1}
    assert ragvec(capsys, "index", "A", "B", "-o", "both")[0] == 0
    assert texts("both") == texts()
    assert "2 unchanged, 0 removed" in ragvec(capsys, "index", "B", "A", "-o", "both", "--sync")[1]


def test_folders_of_one_name_and_files_one_by_one(here: Path, capsys: pytest.CaptureFixture) -> None:
    for folder in ("x/docs", "y/docs", "z/docs"):
        files(folder, a=f"in {folder}")
    ragvec(capsys, "index", "x/docs", "y/docs", "z/docs")
    assert texts() == {"a.md": "in x/docs", "docs/a.md": "in y/docs", "z/docs/a.md": "in z/docs"}
    files(".", one="1", two="2")
    ragvec(capsys, "index", "one.md", "two.md", "x/docs/a.md", "y/docs/a.md", "-o", "single")
    assert texts("single") == {"one.md": "1", "two.md": "2", "a.md": "in x/docs", "docs/a.md": "in y/docs"}


def test_rows_without_ids_of_two_files_may_be_the_same(here: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("one.csv", "two.csv"):
        (here / name).write_text("text\nthe same\n")
    code, out, _ = ragvec(capsys, "index", "one.csv", "two.csv")
    assert code == 0 and "2 documents added" in out
    made, other = sorted(texts())
    assert other == f"two.csv/{made}"


def test_a_csv_beside_a_folder_outlives_the_folders_sync(here: Path, capsys: pytest.CaptureFixture) -> None:
    files("docs", a="one", b="two")
    (here / "faq.csv").write_text("id,text\n1,question\n2,answer\n")
    ragvec(capsys, "index", "docs")
    ragvec(capsys, "index", "faq.csv")
    with Index.open("ragvec-index") as index:
        index.add([Document("by hand", "hand")])
    Path("docs/b.md").unlink()
    assert "1 unchanged, 1 removed; 4 passages" in ragvec(capsys, "index", "docs", "--sync")[1]
    assert sorted(texts()) == ["1", "2", "a.md", "by hand"]
    told = json.loads(ragvec(capsys, "info", "ragvec-index", "--format", "json")[1])
    assert told["sources"] == [
        {"source": f"{here}/docs", "documents": 1},
        {"source": f"{here}/faq.csv", "documents": 2},
        {"source": "Python or HTTP", "documents": 1},
    ]


@pytest.mark.parametrize("together", [False, True])
def test_an_id_that_clashes_is_an_error_that_names_both_sources(here: Path, capsys, together: bool) -> None:
    write_corpus(here / "one.jsonl", CORPUS)
    write_corpus(here / "two.jsonl", [{"_id": "z", "text": "z"}, {"_id": "b", "text": "another b"}])
    if together:
        code, out, err = ragvec(capsys, "index", "one.jsonl", "two.jsonl")
        assert not Path("ragvec-index").exists()
        ragvec(capsys, "index", "one.jsonl")
    else:
        ragvec(capsys, "index", "one.jsonl")
        code, out, err = ragvec(capsys, "index", "two.jsonl")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(
        f"error: the id 'b' of {here}/two.jsonl belongs to a document from {here}/one.jsonl: nothing was changed"
    )
    assert "--id-prefix" in err and f"--source {here}/one.jsonl" in err
    assert texts() == {row["_id"]: row["text"] for row in CORPUS}
    assert "2 documents added, 0 replaced" in ragvec(capsys, "index", "two.jsonl", "--id-prefix", "two-")[1]
    assert sorted(texts()) == ["a", "b", "c", "two-b", "two-z"]
    assert "2 unchanged" in ragvec(capsys, "index", "two.jsonl")[1], "the prefix is remembered"
    code, _, err = ragvec(capsys, "index", "two.jsonl", "--id-prefix", "other-")
    assert code == 1 and "begin with 'two-' in this index, not 'other-'" in err
    assert (
        "2 documents added, 0 replaced, 0 unchanged, 2 removed"
        in ragvec(capsys, "index", "two.jsonl", "--id-prefix", "other-", "--sync")[1]
    )


def test_a_corpus_that_moved_is_the_same_source_by_name(here: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "old.jsonl", CORPUS)
    ragvec(capsys, "index", "old.jsonl")
    (here / "old.jsonl").rename(here / "new.jsonl")
    assert ragvec(capsys, "index", "new.jsonl")[0] == 1
    write_corpus(here / "new.jsonl", CORPUS[:2])
    _, out, _ = ragvec(capsys, "index", "new.jsonl", "--source", "old.jsonl", "--sync")
    assert "2 unchanged, 1 removed" in out and sources_of() == {f"{here}/old.jsonl": 2}
    (here / "link.jsonl").symlink_to("new.jsonl")
    ragvec(capsys, "index", "link.jsonl", "-o", "other")
    (here / "link.jsonl").unlink()
    write_corpus(here / "newer.jsonl", CORPUS[1:])
    (here / "link.jsonl").symlink_to("newer.jsonl")
    assert (
        "1 documents added, 0 replaced, 1 unchanged, 1 removed"
        in ragvec(capsys, "index", "link.jsonl", "-o", "other", "--sync")[1]
    )


def test_by_hand_any_document_is_replaced_and_stays_its_sources(here: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "c.jsonl", CORPUS)
    ragvec(capsys, "index", "c.jsonl")
    with Index.open("ragvec-index") as index:
        assert index.add([Document("a", "by hand"), Document("h", "hand")]) == (1, 1, 0, 0)
        assert index.add([Document("i", "hand too")], sync=True) == (1, 0, 0, 1)
    assert texts() == {"a": "by hand", "b": "text of b", "c": "text of c", "i": "hand too"}
    assert "0 documents added, 1 replaced, 2 unchanged, 0 removed" in ragvec(capsys, "index", "c.jsonl", "--sync")[1]
    write_corpus(here / "d.jsonl", [{"_id": "i", "text": "i"}])
    code, _, err = ragvec(capsys, "index", "d.jsonl")
    assert code == 1 and "belongs to a document from Python or HTTP" in err and "--source" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["c.jsonl", "d.jsonl", "--source", "x"], "--source and --id-prefix are for one corpus at a time, here are 2"),
        (["c.jsonl", "./c.jsonl"], "c.jsonl is named twice"),
        (["c.jsonl", "--source", " "], "the source's name is ' '"),
        (["c.jsonl", "shards"], "encoded shards are indexed by themselves"),
    ],
)
def test_what_makes_no_source_is_one_line(here: Path, capsys: pytest.CaptureFixture, words: list[str], message: str) -> None:
    write_corpus(here / "c.jsonl", CORPUS)
    write_corpus(here / "d.jsonl", [{"_id": "d", "text": "d"}])
    ragvec(capsys, "encode", "d.jsonl", "-o", "shards")
    code, out, err = ragvec(capsys, "index", *words)
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err and not Path("ragvec-index").exists()


def test_a_part_of_a_source_is_no_source(here: Path, capsys: pytest.CaptureFixture) -> None:
    files("docs", a="one", sub__b="two")
    ragvec(capsys, "index", "docs")
    for part in ("docs/a.md", "docs/sub"):
        code, out, err = ragvec(capsys, "index", part, "--sync")
        assert (code, out) == (1, "")
        assert err == f"error: {part} lies in {here}/docs, which is a source of this index: index {here}/docs again instead\n"
    assert texts() == {"a.md": "one", "sub/b.md": "two"}


def test_a_quarantine_file_is_no_corpus(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "a.jsonl").write_text('{"_id": "a", "text": "a"}\n{oops\n')
    (here / "z.jsonl").write_text('{"_id": "z", "text": "z"}\n')
    for _ in range(2):
        code, _, err = ragvec(capsys, "index", ".", "--on-error", "skip")
        assert code == 0 and "1 row could not be read" in err
    assert len((here / "ragvec-index.quarantine.jsonl").read_text().splitlines()) == 1
    words = ["index", ".", "--on-error", "skip", "--quarantine", "z.jsonl"]
    assert "the quarantine file z.jsonl is part of the corpus ." in ragvec(capsys, *words)[2]
    assert json.loads((here / "z.jsonl").read_text())["_id"] == "z" and sorted(texts()) == ["a", "z"]


def test_build_in_python_takes_several_corpora(here: Path) -> None:
    write_corpus(here / "c.jsonl", CORPUS)
    files("docs", a="one")
    report = build("c.jsonl", here / "index", others=["docs"])
    assert (report.added, report.passages, report.kept, report.doubts) == (4, 4, 0, ())
    assert sorted(texts("index")) == ["a", "b", "c", "docs/a.md"]
    with pytest.raises(RagvecError, match="one corpus at a time"):
        build("c.jsonl", here / "index", others=["docs"], id_prefix="x")


@pytest.mark.parametrize("emptied", ["A", "B", "c.jsonl"])
def test_one_that_has_become_empty_keeps_its_documents_and_the_others_go_on(
    here: Path, capsys: pytest.CaptureFixture, emptied: str
) -> None:
    words = ["index", "A", "B", "c.jsonl", "--sync"]
    files("A", a="in A", b="of A")
    files("B", x="in B", y="of B")
    write_corpus(here / "c.jsonl", CORPUS)
    ragvec(capsys, *words)
    before = texts()
    if emptied.endswith("l"):
        (here / emptied).write_text("")
        said = f"{emptied} holds no documents"
    else:
        shutil.rmtree(here / emptied)
        (here / emptied).mkdir()
        said = f"{emptied} holds no corpus file: "
    gone = "y" if emptied == "A" else "b"
    Path("B/y.md" if emptied == "A" else "A/b.md").unlink()
    code, out, err = ragvec(capsys, *words)
    assert (code, err) == (0, "") and ", 1 removed; " in out
    told = out.splitlines()[1]
    assert told.startswith(f"{3 if emptied == 'c.jsonl' else 2} documents that did not come by were kept: {said}")
    assert told.endswith("; if its documents are to go, `ragvec delete` removes them by id or filter")
    assert before.keys() - texts().keys() == {f"B/{gone}.md" if emptied == "A" else f"{gone}.md"}
    assert ragvec(capsys, "index", "A", "B", "c.jsonl")[0] == 1, "without --sync nobody asked what is gone"


def test_where_all_have_become_empty_nothing_happens(here: Path, capsys: pytest.CaptureFixture) -> None:
    files("A", a="in A")
    files("B", x="in B")
    (here / "none").mkdir()
    assert ragvec(capsys, "index", "A", "none", "--sync", "-o", "new")[0] == 1 and not Path("new").exists()
    ragvec(capsys, "index", "A", "B")
    Path("A/a.md").unlink()
    Path("B/x.md").unlink()
    code, out, err = ragvec(capsys, "index", "A", "B", "--sync")
    assert (code, out, err.count("\n")) == (1, "", 1) and err.startswith("error: A holds no corpus file: ")
    assert "; B holds no corpus file: " in err and "nothing was removed from ragvec-index" in err and len(texts()) == 2


def test_rows_of_a_folder_that_are_half_written_are_named_with_what_to_do(here: Path, capsys: pytest.CaptureFixture) -> None:
    files("docs", a="one", b="two")
    Path("docs/r.jsonl").write_text('{"_id": "r", "text": "row"}\n')
    ragvec(capsys, "index", "docs")
    Path("docs/b.md").unlink()
    Path("docs/r.jsonl").write_text('{"_id": "s", "text": "row"}\n{"_id": "t", "te\n{"_id": "u\n')
    code, out, err = ragvec(capsys, "index", "docs", "--sync")
    assert code == 0 and "docs/r.jsonl, line 2: bad JSON" in err and "docs/r.jsonl, line 3: bad JSON" in err
    assert out.splitlines()[1] == (
        f"2 documents that did not come by were kept: 2 rows or files of {here}/docs could not be read "
        "(the first: docs/r.jsonl, line 2): mend what is there or take it out, and do the same again"
    )
