"""Tables of one folder that are numbered alike: `--id-prefix "{file}/"` puts the file before the id of a row."""

from pathlib import Path

import pytest

from ragvec.errors import WrongUsage
from ragvec.index import Index
from ragvec.retrieve.lookup import stored_documents
from tests.test_index_sources import files, here, ragvec, texts

__all__ = ["here"]
IDS = ["2026-01.csv/1", "2026-01.csv/2", "2026-02.csv/1", "2026-02.csv/2", "note.md", "sub/a.jsonl/1"]


@pytest.fixture
def months(here: Path) -> Path:
    files("months", note="a note")
    for month in ("01", "02"):
        Path(f"months/2026-{month}.csv").write_text(f"id,text\n1,one of {month}\n2,two of {month}\n")
    Path("months/sub").mkdir()
    Path("months/sub/a.jsonl").write_text('{"id": 1, "text": "one more"}\n')
    return Path("months")


def test_a_folder_of_such_tables_is_indexed_and_kept_up(months: Path, capsys) -> None:
    code, out, err = ragvec(capsys, "index", "months")
    assert (code, out) == (1, "") and "put each row's file before its id (--id-prefix '{file}/')" in err
    assert ragvec(capsys, "index", "months", "--id-prefix", "{file}/")[0] == 0
    assert sorted(texts()) == IDS and texts()["2026-02.csv/1"] == "one of 02"
    (months / "2026-01.csv").unlink()
    (months / "2026-02.csv").write_text("id,text\n2,two of 02\n3,three of 02\n")
    assert "1 documents added, 0 replaced, 3 unchanged, 3 removed" in ragvec(capsys, "index", "months", "--sync")[1]
    assert sorted(texts()) == ["2026-02.csv/2", "2026-02.csv/3", "note.md", "sub/a.jsonl/1"]


def test_an_index_made_without_it_takes_it_over(months: Path, capsys) -> None:
    (months / "2026-02.csv").rename(months.parent / "2026-02.csv")
    (months / "sub/a.jsonl").unlink()
    ragvec(capsys, "index", "months")
    assert sorted(texts()) == ["1", "2", "note.md"]
    (months.parent / "2026-02.csv").rename(months / "2026-02.csv")
    assert "or add --sync" in ragvec(capsys, "index", "months", "--id-prefix", "{file}/")[2]
    out = ragvec(capsys, "index", "months", "--id-prefix", "{file}/", "--sync")[1]
    assert "4 documents added, 0 replaced, 1 unchanged, 2 removed" in out and sorted(texts()) == IDS[:5]


def test_rows_without_ids_depend_on_their_own_file_alone(months: Path, capsys) -> None:
    for name in ("x.csv", "y.csv"):
        (months / name).write_text("text\nthe same\nthe same\n")
    ragvec(capsys, "index", "months", "--id-prefix", "{file}/")
    made = sorted(doc_id for doc_id in texts() if doc_id.startswith("y.csv/"))
    (months / "x.csv").write_text("text\nthe same\n")
    assert "0 documents added, 0 replaced" in ragvec(capsys, "index", "months", "--sync")[1]
    assert sorted(doc_id for doc_id in texts() if doc_id.startswith("y.csv/")) == made and made[1] == f"{made[0]}-2"


def test_what_stands_before_the_file_stands_before_every_id(months: Path) -> None:
    from ragvec.encoder import Encoder

    with Index.create("i", encoder=Encoder.load()) as index:
        assert index.add_folder(months, id_prefix="shop/{file}#").added == len(IDS)
        assert index.add_folder(months, sync=True) == (0, 0, len(IDS), 0)
        wanted = sorted("shop/" + doc_id.replace(".csv/", ".csv#").replace(".jsonl/", ".jsonl#") for doc_id in IDS)
        assert [document.doc_id for document in stored_documents(index)] == wanted
        files("others", a="another")
        for prefix in ("{fil}/", "a\0"):
            with pytest.raises(WrongUsage, match="`id_prefix`"):
                index.add_folder("others", id_prefix=prefix)


def test_shards_hold_such_ids_and_refuse_others(months: Path, capsys) -> None:
    assert ragvec(capsys, "encode", "months", "-o", "shards", "--id-prefix", "{file}/")[0] == 0
    ragvec(capsys, "index", "shards")
    assert sorted(texts()) == IDS
    code, _, err = ragvec(capsys, "index", "shards", "--id-prefix", "x/")
    assert code == 2 and "shards hold ids already: leave --id-prefix out" in err and sorted(texts()) == IDS


def test_standard_input_is_no_file(months: Path, capsys, monkeypatch) -> None:
    with (months / "sub/a.jsonl").open() as rows:
        monkeypatch.setattr("sys.stdin", rows)
        code, _, err = ragvec(capsys, "index", "-", "--id-prefix", "{file}/")
    assert code == 2 and err == "error: standard input is no file: leave {file} out of --id-prefix\n"
