"""Folders as people have them: tables without a text column, other delimiters and encodings, files that are none of ours."""

import gzip
import json
import logging
import os
from pathlib import Path

import pytest

from ragvec.cli.main import main
from ragvec.corpus import count_documents, read_documents
from ragvec.corpus.kinds import FileChoice
from ragvec.corpus.passages import CorpusOptions
from ragvec.errors import RagvecError, WrongInput

TABLE = "id,city,note,opened,seats,url\n1,Seoul,near the river,2020-01-02,12,https://a.b\n2,Busan,,2021-03-04,7,https://c.d\n"
QUESTIONS = "question;answer;views\nWhat, then?;Nothing;1,5\nWhy?;Because, so;2,5\n"


def read(source, **options):
    return list(read_documents(source, **options))


def test_a_table_without_a_text_column_joins_its_columns_of_words(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    first, second = read(tmp_path / "a.csv")
    assert (first.doc_id, first.text) == ("1", "city: Seoul\nnote: near the river")
    assert first.metadata == {"opened": "2020-01-02", "seats": 12, "url": "https://a.b"}
    assert second.text == "city: Busan"
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    with pytest.raises(RagvecError, match="line 2: no text field"):
        read(tmp_path / "b.csv")


def test_rows_of_a_folders_tables_say_which_file_they_stand_in(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.csv").write_text(TABLE)
    (tmp_path / "b.tsv").write_text("text\tpath\nwords\tits own\n")
    (tmp_path / "c.jsonl").write_text('{"text": "row"}\n')
    paths = [document.metadata.get("path") for document in read(tmp_path)]
    assert paths == ["its own", None, "sub/a.csv", "sub/a.csv"]
    assert all("path" not in document.metadata for document in read(tmp_path / "sub" / "a.csv"))
    assert "path" not in read(tmp_path / "sub", metadata_fields=["seats"])[0].metadata


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_what_separates_fields_is_told_by_the_rows(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "a.csv").write_text(QUESTIONS.replace(";", delimiter))
    first, _ = read(tmp_path / "a.csv")
    assert (first.text, first.metadata) == ("question: What, then?\nanswer: Nothing", {"views": "1,5"})
    (tmp_path / "one.csv").write_text("text\na; b\nc\n")
    assert [document.text for document in read(tmp_path / "one.csv")] == ["a; b", "c"]
    (tmp_path / "quoted.csv").write_text('id,text\n1,"a;b\nc;d"\n2,e;f\n')
    assert [document.text for document in read(tmp_path / "quoted.csv")] == ["a;b\nc;d", "e;f"]


def test_text_fields_of_a_table_leave_other_files_of_its_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "faq.csv").write_text(QUESTIONS.replace("question", "nr").replace("answer", "Abstract"))
    (tmp_path / "note.md").write_text("# Title\nbody")
    (tmp_path / "rows.jsonl").write_text('{"_id": "r", "text": "row"}\n')
    chosen = {document.doc_id: document for document in read(tmp_path, text_fields=["abstract"])}
    assert chosen.pop("note.md").text == "body" and chosen.pop("r").text == "row"
    assert [document.text for document in chosen.values()] == ["Nothing", "Because, so"]
    assert read(tmp_path / "note.md", text_fields=["abstract"])[0].text == "body"
    assert "note.md" in [document.doc_id for document in read(tmp_path, id_field="nr")]
    with pytest.raises(RagvecError, match="no text in the fields abstract"):
        read(tmp_path / "rows.jsonl", text_fields=["abstract"])


@pytest.mark.parametrize(("encoding", "text"), [("cp949", "글자는 한글이다"), ("cp1252", "café “crème”")])
def test_an_encoding_is_given_or_guessed(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "a.txt").write_text(text, encoding=encoding)
    (tmp_path / "b.csv").write_text(f"id,text\nb,{text}\n", encoding=encoding)
    (tmp_path / "c.md").write_text(text, encoding="utf-8")
    (tmp_path / "d.json").write_text(json.dumps([{"id": "d", "text": text}], ensure_ascii=False), encoding=encoding)
    assert {document.text for document in read(tmp_path, encoding=encoding)} == {text}
    for name in ("a.txt", "b.csv", "d.json"):
        with pytest.raises(RagvecError, match=f"not UTF-8: give the file's `encoding`, perhaps {encoding}"):
            read(tmp_path / name)
    with pytest.raises(WrongInput, match="`encoding` 'cp9' is not known"):
        CorpusOptions(encoding="cp9")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_count_always(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_text("id,text\na,한글\n", encoding=encoding)
    (tmp_path / "b.txt").write_text("한글", encoding=encoding)
    assert [document.text for document in read(tmp_path)] == ["한글", "한글"]
    (tmp_path / "b.txt").write_bytes("한글".encode("utf-16")[:-1])
    with pytest.raises(RagvecError, match="b.txt is not utf-16: "):
        read(tmp_path / "b.txt")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.csv", "a.jsonl"])
def test_utf_16_without_a_mark_is_told_by_its_nuls(tmp_path: Path, encoding: str, name: str) -> None:
    content = {"a.csv": "id,text\na,plain words\n", "a.jsonl": '{"text": "plain words"}\n'}.get(name, "plain words")
    (tmp_path / name).write_bytes(content.encode(encoding))
    with pytest.raises(RagvecError, match=f"every other byte is NUL: give the file's `encoding`, perhaps {encoding}$"):
        read(tmp_path / name)
    assert [document.text for document in read(tmp_path / name, encoding=encoding)] == ["plain words"]


def mixed(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a.md").write_text("one")
    (folder / "package.json").write_text('{"name": "x", "scripts": {"test": "y"}}')
    (folder / "list.json").write_text('["a", "b"]')
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "z.txt").write_text("last")
    (folder / "gone.txt").symlink_to("nowhere.txt")
    return folder


def test_what_is_foreign_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    folder, unread = mixed(tmp_path / "docs"), []
    assert [document.doc_id for document in read(folder, on_unread=unread.append)] == ["a.md", "z.txt"]
    assert [Path(one.place).name for one in unread] == ["latin.txt", "list.json", "package.json"]
    with pytest.raises(RagvecError, match="no text field"):
        read(folder / "package.json", on_unread=unread.append)
    (folder / "b.jsonl").write_text('{"_id": "a.md", "text": "b"}\n')
    with pytest.raises(RagvecError, match="was used before"):
        read(folder, on_unread=unread.append)
    for name in ("a.md", "b.jsonl", "z.txt"):
        (folder / name).unlink()
    with pytest.raises(RagvecError, match="latin.txt: byte 0xe9"):
        read(folder, on_unread=unread.append)


def ragged(folder: Path) -> Path:
    """A folder of files of which some rows, or the end, can't be read, and a foreign one."""
    folder.mkdir()
    (folder / "a.csv").write_text("id,text\n0,too,many\n1,one\n2,a,b\n3,three,,\n4\n")
    (folder / "b.jsonl").write_text('{"_id": "b", "text": "b"}\n{oops\n')
    (folder / "c.csv").write_text('id,text\n8,eight\n9,"no end\n')
    (folder / "d.csv").write_text("a,b\n" + "1,2\n" * 1000 + "words,of it\n")
    (folder / "e.txt").write_text("last")
    return folder


def test_rows_of_a_folders_file_are_passed_over_and_named(tmp_path: Path) -> None:
    folder, unread = ragged(tmp_path / "docs"), []
    assert [document.doc_id for document in read(folder, on_unread=unread.append)] == ["1", "3", "b", "8", "e.txt"]
    assert [(one.place.removeprefix(f"{folder}/"), one.partial) for one in unread] == [
        *((f"a.csv, line {line}", True) for line in (2, 4, 6)),
        ("b.jsonl, line 2", True),
        ("c.csv", True),
        ("d.csv", False),
    ]
    with pytest.raises(RagvecError, match="a.csv, line 2: 3 fields where the header has 2"):
        read(folder)
    with pytest.raises(RagvecError, match="a.csv, line 2: 3 fields where the header has 2"):
        read(folder / "a.csv", on_unread=unread.append)


def test_what_a_file_lacks_is_not_gone_as_long_as_rows_of_it_cannot_be_read(tmp_path: Path, capsys) -> None:
    folder, index = ragged(tmp_path / "docs"), str(tmp_path / "i")
    (folder / "a.csv").write_text("id,text\n1,one\n2,two\n3,three\n")
    assert indexed(folder, index) == 0
    capsys.readouterr()
    (folder / "a.csv").write_text("id,text\n1,one\n2,two,2\n")
    assert indexed(folder, index, "--sync") == 0
    out, err = capsys.readouterr()
    assert "0 removed" in out and "2 documents that did not come by were kept: 3 rows or files of" in out
    assert "passed over 1 file that could not be read:\n" in err and "d.csv, line 2: no text field" in err
    assert "passed over 3 rows or rests of files that could not be read:\n" in err and "a.csv, line 3: 3 fields" in err


def indexed(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        main(["index", str(words[0]), "-o", *map(str, words[1:])])
    return end.value.code


@pytest.mark.parametrize(("sign", "name"), [(";", "a.csv"), (",", "a.csv"), ("\t", "a.csv"), (";", "a.tsv"), ("|", "a.csv")])
def test_what_excel_says_of_a_table_counts(tmp_path: Path, sign: str, name: str) -> None:
    lines = [f"sep={sign}", sign.join(("id", "text", "place")), sign.join(("1", '"a, b; c\td|e"', "Seoul"))]
    (tmp_path / name).write_text("\r\n".join([*lines, ""]), encoding="utf-8-sig", newline="")
    [document] = read(tmp_path / name)
    assert (document.doc_id, document.text, document.metadata) == ("1", "a, b; c\td|e", {"place": "Seoul"})
    (tmp_path / name).write_text("\n".join([*lines, sign.join("123") + sign + "4"]))
    with pytest.raises(RagvecError, match=f"{name}, line 4: 4 fields where the header has 3"):
        read(tmp_path / name)


def test_columns_without_a_name_are_told_once(tmp_path: Path, caplog) -> None:
    (tmp_path / "a.csv").write_text("id,,text,\n1, ,one,\n2,x,two,y\n3,x,three,y\n")
    assert [document.metadata for document in read(tmp_path / "a.csv")] == [{}, {}, {}]
    assert caplog.messages == [f"{tmp_path / 'a.csv'}: columns without a name are left out (2, 4): name them in the header"]


def tree(folder: Path) -> Path:
    for name in ("a.md", "b.txt", "src/c.py", "src/d.md", "drafts/e.md", "drafts/deep/f.md", "README", "g.rst"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"text of {name}")
    return folder


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (FileChoice(), "README a.md b.txt drafts/deep/f.md drafts/e.md g.rst src/d.md"),
        (FileChoice(include=("*.md",)), "a.md drafts/deep/f.md drafts/e.md src/d.md"),
        (FileChoice(include=("/*.md", "src/")), "a.md src/d.md"),
        (FileChoice(exclude=("drafts/", "*.txt")), "README a.md g.rst src/d.md"),
        (FileChoice(include=("*.md",), exclude=("deep",)), "a.md drafts/e.md src/d.md"),
        (FileChoice(include=("src/**",), text_suffixes=("PY", ".rb")), "src/c.py src/d.md"),
    ],
)
def test_a_folders_files_are_chosen_by_patterns(tmp_path: Path, chosen: FileChoice, names: str) -> None:
    assert " ".join(document.doc_id for document in read(tree(tmp_path), files=chosen)) == names
    assert count_documents(tmp_path, files=chosen) == len(names.split())


def test_patterns_that_leave_nothing_or_are_none_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="holds no corpus file that `include` and `exclude` leave: looked for"):
        read(tree(tmp_path), files=FileChoice(include=("*.pdf",)))
    with pytest.raises(WrongInput, match=r"`exclude` '!' holds what is no pattern of files, such as"):
        FileChoice(exclude=("!",))
    with pytest.raises(WrongInput, match="c.py has an unknown suffix: .* or name it in `text_suffixes`"):
        read(tmp_path / "src" / "c.py")
    assert read(tmp_path / "src" / "c.py", files=FileChoice(text_suffixes=("py",)))[0].text == "text of src/c.py"


def test_what_is_excluded_goes_with_sync(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, index = tree(tmp_path / "docs"), str(tmp_path / "i")
    (folder / "linked").symlink_to(tmp_path, target_is_directory=True)
    for options in ([], ["--exclude", "drafts/, *.txt", "--text-suffixes", "py", "--sync"]):
        with pytest.raises(SystemExit) as end:
            main(["index", str(folder), "-o", index, *options])
        assert end.value.code == 0
        out, err = capsys.readouterr()
        assert str(folder / "linked") in err
    assert "1 documents added, 0 replaced, 4 unchanged, 3 removed" in out


def test_index_names_what_it_passed_over_and_sync_keeps_its_documents(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, index = mixed(tmp_path / "docs"), str(tmp_path / "i")
    with pytest.raises(SystemExit) as end:
        main(["index", str(folder), "-o", index])
    out, err = capsys.readouterr()
    assert end.value.code == 0 and "2 documents added" in out and "passed over 3 files that could not be read:\n" in err
    assert "give the file's --encoding, perhaps cp1252" in err and str(folder / "package.json") in err
    (folder / "z.txt").write_bytes(b"caf\xe9")
    with pytest.raises(SystemExit):
        main(["index", str(folder), "-o", index, "--sync"])
    assert "z.txt is there but gave no document: mend or remove it" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["index", str(folder), "-o", index, "--sync", "--encoding", "cp1252"])
    out, err = capsys.readouterr()
    assert (
        end.value.code == 0 and "1 documents added, 1 replaced, 1 unchanged, 0 removed" in out and "passed over 2 files" in err
    )


def test_a_folder_that_cannot_be_listed_is_passed_over_and_sync_keeps_its_documents(tmp_path, monkeypatch, capsys):
    folder, index = tmp_path / "docs", str(tmp_path / "i")
    (folder / "locked").mkdir(parents=True)
    (folder / "locked" / "a.txt").write_text("fox")
    (folder / "b.txt").write_text("hen")
    with pytest.raises(SystemExit):
        main(["index", str(folder), "-o", index])
    scandir = os.scandir

    def refusing(path="."):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    (folder / "b.txt").write_text("hen and owl")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["index", str(folder), "-o", index, "--sync"])
    out, err = capsys.readouterr()
    passed = f"passed over 1 folder that could not be read:\n  {folder / 'locked'} cannot be listed: Permission denied\n"
    assert passed in err and "1 replaced" in out and ", 0 removed" in out and "could not be read" in out


def test_a_field_that_no_row_has_is_named(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, "ragvec")
    monkeypatch.chdir(tmp_path)
    Path("corpus").mkdir()
    Path("corpus/a.jsonl").write_text(
        '{"_id": 1, "body": "fox", "about": "x", "metadata": {"Year": 2020}}\n{"_id": 2, "body": "hen"}\n'
    )
    Path("corpus/b.csv").write_text("id,text,place\n3,owl,here\n")
    Path("corpus/c.md").write_text("words")
    asked = {
        "text_fields": ["body", "abstrct"],
        "metadata_fields": ["year", "place", "path", "yaer"],
        "drop_fields": ["about", "abuot"],
    }
    assert len(list(read_documents("corpus", **asked))) == 4
    said = "corpus: no row has the field {!r} of `{}`: check its name"
    wrong = [("abstrct", "text_fields"), ("yaer", "metadata_fields"), ("abuot", "drop_fields")]
    assert caplog.messages == [said.format(*one) for one in wrong]
    caplog.clear()
    assert len(list(read_documents("corpus", id_field="idd", drop_fields=["PLACE"]))) == 4
    assert caplog.messages == [said.format("idd", "id_field")]


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_rows_of_tables_are_counted_for_the_bar(tmp_path: Path, end: str) -> None:
    rows = "".join(f'\n{n},"a ""text""\nof\n{n} lines"' for n in range(3000))
    (tmp_path / "a.csv").write_text("id,text" + rows + end)
    (tmp_path / "b.tsv").write_text('id\ttext\n1\t5" wide\n2\tb' + end)
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"id,text\n1,a\n2,b"))
    (tmp_path / "d.csv").write_text("id,text" + end)
    assert count_documents(tmp_path) == 3004 == len(list(read_documents(tmp_path, id_prefix="{file}/")))
