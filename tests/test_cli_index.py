"""`ragvec index`: from a corpus or shards to an index folder, again and again."""

import gzip
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ragvec.cli.main import main
from ragvec.corpus import read_documents, to_passages
from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.ingest import encode_corpus
from ragvec.ingest.build import build
from ragvec.records import Document
from ragvec.retrieve import open_retriever
from tests.test_index import run_python
from tests.tiny import save_tiny_decoder

ROWS = [
    {"_id": "a", "title": "Nutrition", "text": "Women need 46 grams of protein a day.", "year": 2020},
    {"_id": "b", "text": "The quick brown fox jumps over the lazy dog."},
    {"_id": "서울", "text": "서울은 대한민국의 수도이다."},
]


def write_corpus(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def ragvec(capsys: pytest.CaptureFixture, *words: str | Path) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    output = capsys.readouterr()
    return end.value.code, output.out, output.err


def contents(folder: Path) -> dict[str, tuple[str, dict]]:
    """Text and metadata of every passage, by doc_id."""
    with Index.open(folder) as index, index.reading() as view:
        ids = [row[0] for row in view.connection.execute("SELECT id FROM passages")]
        return {p.doc_id: (p.text, p.metadata) for p in view.passages(ids)}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAGVEC_INDEX", raising=False)
    return tmp_path


def test_index_again_adds_replaces_and_keeps(here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "corpus.jsonl", ROWS)
    code, out, err = ragvec(capsys, "index", "corpus.jsonl", "--encoder", tiny_decoder)
    assert (code, err) == (0, "")
    assert out.startswith("ragvec-index: 3 documents added, 0 replaced, 0 unchanged; 3 passages, 32-d, in ")
    assert sorted(path.name for path in (here / "ragvec-index").iterdir()) == [
        "index.sqlite",
        "segments",
        "words",
        "writer.lock",
    ]
    changed = [ROWS[0], {**ROWS[1], "text": "A slow fox."}, {"_id": "d", "text": "new"}]
    write_corpus(here / "corpus.jsonl", changed)
    code, out, _ = ragvec(capsys, "index", "corpus.jsonl")  # the encoder is the index's own
    assert out.startswith("ragvec-index: 1 documents added, 1 replaced, 1 unchanged; 4 passages")
    assert contents(here / "ragvec-index") == {
        "a": (ROWS[0]["text"], {"year": 2020}),
        "b": ("A slow fox.", {}),
        "서울": (ROWS[2]["text"], {}),
        "d": ("new", {}),
    }


def test_unchanged_corpus_loads_no_encoder(here: Path, tiny_decoder: Path) -> None:
    write_corpus(here / "corpus.jsonl", ROWS)
    build("corpus.jsonl", here / "index", encoder=str(tiny_decoder))
    code = """
        import sys
        from pathlib import Path
        from ragvec.ingest.build import build
        print(build(sys.argv[1], Path(sys.argv[2])).unchanged, "torch" in sys.modules)
    """
    assert run_python(code, here / "corpus.jsonl", here / "index").stdout == "3 False\n"


def test_the_index_folder_comes_from_the_environment(
    here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGVEC_INDEX", "elsewhere")
    write_corpus(here / "corpus.jsonl", ROWS)
    assert ragvec(capsys, "index", "corpus.jsonl", "-e", tiny_decoder)[0] == 0
    assert sorted(contents(here / "elsewhere")) == ["a", "b", "서울"]


def test_folders_lines_and_what_is_passed_over(here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "notes").mkdir()
    (here / "notes" / "a.txt").write_text("first line\nsecond line\n")
    (here / "notes" / "scan.png").write_bytes(b"PNG")
    code, out, err = ragvec(capsys, "index", "notes", "-e", tiny_decoder, "--text-lines")
    assert code == 0 and out.startswith("ragvec-index: 2 documents added")
    assert err.startswith("passed over 1 that hold no documents: ") and err.endswith("scan.png\n")


def test_a_hostile_folder_is_indexed_all_the_same(here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "secret.txt", ROWS)
    (here / "c").mkdir()
    write_corpus(here / "c" / "a.jsonl", [*ROWS[:1], {"text": "x" * (1 << 20)}, *ROWS[1:]])
    (here / "c" / "b.json").write_text('[{"text": ' + "9" * 100_000 + "}]")
    (here / "c" / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "' + bytes(20 << 20)))
    (here / "c" / "link.txt").symlink_to("../secret.txt")
    os.mkfifo(here / "c" / "pipe.txt")
    words = ["index", "c", "-e", tiny_decoder, "--max-value-mb", 1]
    code, out, err = ragvec(capsys, *words, "-o", "other")
    assert code == 0 and out.startswith("other: 3 documents added") and "passed over 2 files" in err and "over 1 row" in err
    code, out, err = ragvec(capsys, *words, "--on-error", "skip")
    assert code == 0 and out.startswith("ragvec-index: 3 documents added")
    assert err.splitlines() == [
        "passed over 2 that are links out of the folder or to a folder, or no regular files: c/link.txt, c/pipe.txt",
        "3 rows could not be read and were skipped: see ragvec-index.quarantine.jsonl",
    ]
    assert sorted(contents(here / "ragvec-index")) == ["a", "b", "서울"]


def passage_ids(folder: str) -> list[str]:
    with Index.open(folder) as index, index.reading() as view:
        ids = [row[0] for row in view.connection.execute("SELECT id FROM passages")]
        return sorted(passage.passage_id for passage in view.passages(ids))


def test_files_are_cut_where_nobody_says_how_and_rows_are_not(
    here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragvec.corpus.passages.PASSAGE_TOKENS", 40)
    long = "Water boils at a hundred degrees. " * 4
    (here / "docs").mkdir()
    (here / "docs" / "water.txt").write_text(long)
    write_corpus(here / "rows.jsonl", [{"_id": "row", "text": long}])
    ragvec(capsys, "index", "docs", "-o", "cut", "-e", tiny_decoder)
    ragvec(capsys, "index", "rows.jsonl", "-o", "rows", "-e", tiny_decoder)
    ragvec(capsys, "index", "docs", "-o", "whole", "-e", tiny_decoder, "--passage-tokens", 0)
    ragvec(capsys, "index", "docs", "-o", "lines", "-e", tiny_decoder, "--text-lines")
    ragvec(capsys, "encode", "docs", "-o", "shards", "-e", tiny_decoder)
    ragvec(capsys, "index", "shards", "-o", "encoded")
    cut = passage_ids("cut")
    assert len(cut) > 1 and cut[0] == "water.txt#0" and passage_ids("encoded") == cut
    assert passage_ids("rows") == ["row"] and passage_ids("whole") == ["water.txt"] and len(passage_ids("lines")) == 1
    assert ragvec(capsys, "index", "docs", "rows.jsonl", "-o", "rows")[0] == 0  # goes on as it began
    assert passage_ids("rows") == ["docs/water.txt", "row"]
    ragvec(capsys, "index", "docs", "-o", "cut", "--passage-tokens", 0)
    assert passage_ids("cut") == ["water.txt"]
    with Index.open("cut") as index:
        assert index.settings.passage_tokens is None


def test_passages_fields_and_rows_that_cannot_be_read(here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [{"pmid": i, "abstract": f"Plant {i} makes food. It grows in the light. Then it rests."} for i in range(3)]
    (here / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    words = ["index", "c.jsonl", "-e", tiny_decoder, "--text-fields", "abstract", "--id-field", "pmid", "--passage-tokens", 40]
    code, _, err = ragvec(capsys, *words)
    assert code == 1 and "line 4: bad JSON" in err and not (here / "ragvec-index").exists()
    code, out, err = ragvec(capsys, *words, "--on-error", "skip")
    assert code == 0 and out.startswith("ragvec-index: 3 documents added") and " 6 passages" in out
    assert err == "1 row could not be read and was skipped: see ragvec-index.quarantine.jsonl\n"
    with Index.open(here / "ragvec-index") as index:
        assert len(index) == 6
    assert ragvec(capsys, *words, "--on-error", "skip")[1].startswith(
        "ragvec-index: 0 documents added, 0 replaced, 3 unchanged"
    )


def test_how_documents_are_cut_is_remembered(here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture) -> None:
    document = {"_id": "plant", "text": "The plant makes food. It grows in the light. Then it rests."}
    write_corpus(here / "corpus.jsonl", [document])
    ragvec(capsys, "index", "corpus.jsonl", "-e", tiny_decoder, "--passage-tokens", 40)
    code, out, _ = ragvec(capsys, "index", "corpus.jsonl")
    assert code == 0 and out.startswith("ragvec-index: 0 documents added, 0 replaced, 1 unchanged; 2 passages")
    with Index.open(here / "ragvec-index") as index:
        assert index.add([Document("plant", document["text"])]).unchanged == 1
        index.add([Document("again", document["text"])])
        ids = [passage.passage_id for passage in index.passages(range(1, len(index) + 1))]
        assert ids == ["plant#0", "plant#1", "again#0", "again#1"]
        assert ragvec(capsys, "index", "corpus.jsonl", "--passage-tokens", 999)[0] == 2
        assert ragvec(capsys, "index", "corpus.jsonl", "--passage-tokens", 60)[1].count("1 replaced") == 1
        index.add([Document("again", document["text"])])
        assert len(index) == 2, "another process' choice counts from its commit on"
        assert json.loads(ragvec(capsys, "info", "ragvec-index", "--format", "json")[1])["passage_tokens"] == 60


def test_an_index_made_before_that_was_remembered_is_not_cut(
    here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture
) -> None:
    write_corpus(here / "corpus.jsonl", ROWS)
    ragvec(capsys, "index", "corpus.jsonl", "-e", tiny_decoder)
    with closing(sqlite3.connect(here / "ragvec-index" / "index.sqlite", isolation_level=None)) as connection:
        connection.execute("DELETE FROM settings WHERE key IN ('passage_tokens', 'overlap')")
    assert ragvec(capsys, "index", "corpus.jsonl")[1].count("3 unchanged") == 1
    assert ragvec(capsys, "index", "corpus.jsonl", "--passage-tokens", 12, "--overlap", 3)[0] == 0
    with Index.open(here / "ragvec-index") as index:
        assert (index.settings.passage_tokens, index.settings.overlap) == (12, 3)


def test_another_encoder_is_refused_with_the_remedy(
    here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    other = save_tiny_decoder(tmp_path / "other", hidden_size=48)
    capsys.readouterr()
    write_corpus(here / "corpus.jsonl", ROWS)
    ragvec(capsys, "index", "corpus.jsonl", "-e", tiny_decoder)
    code, out, err = ragvec(capsys, "index", "corpus.jsonl", "-e", other)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: the index was built with encoder {tiny_decoder} (32-d, ")
    assert f"this is {other} (48-d, " in err
    assert f"build a new index with `ragvec index … -o NEW_INDEX --encoder {other}`" in err
    code, _, err = ragvec(capsys, "index", "corpus.jsonl", "--index-key", "SQ8")
    assert err == (
        "error: the index in ragvec-index was made with --index-key auto, not SQ8: leave --index-key out, "
        "or change the index by `ragvec compact` with --index-key SQ8\n"
    )
    assert len(contents(here / "ragvec-index")) == 3


def test_the_language_is_chosen_recorded_and_changed(here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "corpus.jsonl", ROWS)
    code, _, err = ragvec(capsys, "index", "corpus.jsonl", "-e", tiny_decoder, "--language", "klingon")
    assert code == 2 and err.startswith("error: no stemmer for the language 'klingon': choose one of arabic, ")
    assert ragvec(capsys, "index", "corpus.jsonl", "-e", tiny_decoder, "--language", "german")[0] == 0
    code, _, err = ragvec(capsys, "index", "corpus.jsonl", "--language", "french")
    assert (code, err) == (
        1,
        "error: the index in ragvec-index was made with --language german, not french: leave --language out, "
        "or change the index by `ragvec compact` with --language french\n",
    )
    for option, value, message in (
        ("--language", "klingon", "no stemmer for the language 'klingon': choose one of arabic, "),
        ("--recall", "7", "the target recall is 7.0: "),
    ):
        code, _, err = ragvec(capsys, "index", "corpus.jsonl", option, value)
        assert code == 2 and err.startswith(f"error: {message}")
    assert ragvec(capsys, "compact", "--language", "french")[0] == 0
    assert json.loads(ragvec(capsys, "info", "ragvec-index", "--format", "json")[1])["language"] == "french"


def test_from_shards_equals_from_the_corpus(here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "corpus.jsonl", ROWS)
    encoder = Encoder.load(tiny_decoder)
    encode_corpus(to_passages(read_documents("corpus.jsonl")), encoder, "shards")
    assert ragvec(capsys, "index", "corpus.jsonl", "-e", tiny_decoder)[0] == 0
    code, out, _ = ragvec(capsys, "index", "shards", "-o", "second")
    assert out.startswith("second: 3 documents added, 0 replaced, 0 unchanged; 3 passages, 32-d")
    assert contents(here / "second") == contents(here / "ragvec-index")
    first, second = (open_retriever(folder).retrieve("fox and protein", 3) for folder in ("ragvec-index", "second"))
    assert first == second
    code, out, _ = ragvec(capsys, "index", "shards", "-o", "second")
    assert out.startswith("second: 0 documents added, 0 replaced, 3 unchanged")
    other = save_tiny_decoder(here / "other", hidden_size=48)
    capsys.readouterr()
    encode_corpus(to_passages(read_documents("corpus.jsonl")), Encoder.load(other), "shards48")
    code, _, err = ragvec(capsys, "index", "shards48", "-o", "second")
    assert code == 1 and "(32-d, " in err and "this is shards48, made by" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"_id": "a", "text": "x"}\n{oops\n', "corpus.jsonl, line 2"),
        ("", "corpus.jsonl holds no documents"),
        ('{"_id": "a", "txet": "x"}\n', "no text field"),
        ('{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n', "'a' was used before"),
    ],
)
def test_a_bad_corpus_leaves_nothing_behind(
    here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture, content: str, message: str
) -> None:
    (here / "corpus.jsonl").write_text(content)
    code, out, err = ragvec(capsys, "index", "corpus.jsonl", "-e", tiny_decoder)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err
    assert [path.name for path in here.iterdir()] == ["corpus.jsonl"]


def test_a_bad_corpus_leaves_an_index_as_it_was(here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture) -> None:
    write_corpus(here / "corpus.jsonl", ROWS)
    ragvec(capsys, "index", "corpus.jsonl", "-e", tiny_decoder)
    before = contents(here / "ragvec-index")
    (here / "corpus.jsonl").write_text('{"_id": "new", "text": "x"}\n{oops\n')
    assert ragvec(capsys, "index", "corpus.jsonl")[0] == 1
    assert contents(here / "ragvec-index") == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.jsonl"], "missing.jsonl"),
        (["corpus.jsonl", "-e", "nowhere/at/all"], "nowhere/at/all"),
        (["corpus.jsonl", "-o", "corpus.jsonl"], "corpus.jsonl"),
        (["corpus.jsonl", "-o", "corpus.jsonl/below"], "corpus.jsonl/below"),
        (["corpus.jsonl", "-o", "."], "holds other files (corpus.jsonl …) and no index"),
        (["corpus.jsonl", "--index-key", "Bogus"], "--index-key 'Bogus'"),
        (["corpus.jsonl", "--recall", "1.2"], "the target recall is 1.2: choose above 0 and up to 1, such as 0.95"),
        (["corpus.jsonl", "--max-memory", "0"], "the most memory is 0 bytes"),
    ],
)
def test_what_cannot_be_indexed_is_one_line(
    here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture, words: list[str], message: str
) -> None:
    write_corpus(here / "corpus.jsonl", ROWS)
    words = words if "-e" in words else [*words, "-e", str(tiny_decoder)]
    code, out, err = ragvec(capsys, "index", *words)
    wrong_usage = {"--index-key", "--recall", "--max-memory"} & set(words)
    assert (code, out, err.count("\n")) == (2 if wrong_usage else 1, "", 1)
    assert err.startswith("error: ") and message in err
    assert [path.name for path in here.iterdir()] == ["corpus.jsonl"]
