"""File names as a Mac spells them (NFD) and as keyboards do (NFC): one id, however the file came and whoever asks."""

import os
import unicodedata
from pathlib import Path

import pytest

from ragvec.cli.main import main
from ragvec.corpus import documents, read_documents
from ragvec.corpus.kinds import FileChoice
from ragvec.encoder import Encoder
from ragvec.errors import NotFound
from ragvec.index import Index, origins
from ragvec.ingest.watch import _Wanted
from ragvec.retrieve.lookup import read_document, stored_documents
from ragvec.retrieve.similar import similar_documents

FOLDER, NAME, OTHER = "문서", "보고서 1.txt", "표.csv"
MAC_FOLDER, MAC_NAME, MAC_OTHER = (unicodedata.normalize("NFD", name) for name in (FOLDER, NAME, OTHER))
TEXTS = {f"{FOLDER}/{NAME}": "물은 백 도에서 끓는다.", "café.md": "Coffee is roasted.", "plain.txt": "Plain words."}


def folder_of(path: Path, form: str = "NFC") -> Path:
    for name, text in TEXTS.items():
        file = path / unicodedata.normalize(form, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


def ids(index: str | Path) -> list[str]:
    with Index.open(index) as opened:
        return [document.doc_id for document in stored_documents(opened)]


def indexed(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["index", *map(str, words)])
    return end.value.code


def test_ids_titles_and_paths_are_composed(tmp_path: Path) -> None:
    by_mac, others = (list(read_documents(folder_of(tmp_path / form, form), drop_fields=["mtime"])) for form in ("NFD", "NFC"))
    assert by_mac == others and sorted(document.doc_id for document in others) == sorted(TEXTS)
    assert others[1].title == "보고서 1" or others[2].title == "보고서 1"
    found = []
    list(read_documents(tmp_path / "NFD", on_found=found.append))
    assert f"{MAC_FOLDER}/{MAC_NAME}" in found


def test_two_files_whose_names_differ_in_spelling_alone_are_two_documents(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("one")
    (tmp_path / MAC_NAME).write_text("two")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system takes both for one")
    assert {document.doc_id: document.text for document in read_documents(tmp_path)} == {NAME: "one", MAC_NAME: "two"}
    for _ in range(2):
        assert indexed(tmp_path, "-o", tmp_path.parent / "i", "--sync") == 0
        assert ids(tmp_path.parent / "i") == [MAC_NAME, NAME]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("said", ["NFC", "NFD"])
def test_patterns_match_however_names_are_spelled(tmp_path: Path, form: str, said: str) -> None:
    folder = folder_of(tmp_path / "docs", form)
    pattern = unicodedata.normalize(said, f"{FOLDER}/보고*")
    assert [one.doc_id for one in read_documents(folder, files=FileChoice(include=(pattern,)))] == [f"{FOLDER}/{NAME}"]
    left = read_documents(folder, files=FileChoice(exclude=(unicodedata.normalize(said, f"{FOLDER}/"),)))
    assert sorted(one.doc_id for one in left) == ["café.md", "plain.txt"]
    wanted = _Wanted([tmp_path / unicodedata.normalize(said, FOLDER)], FileChoice(), [])
    (tmp_path / unicodedata.normalize(said, FOLDER)).mkdir()
    assert wanted(None, str(tmp_path / unicodedata.normalize(form, f"{FOLDER}/{NAME}")))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_document_is_found_by_either_spelling(tmp_path: Path, form: str, capsys: pytest.CaptureFixture) -> None:
    asked = unicodedata.normalize(form, f"{FOLDER}/{NAME}")
    assert indexed(folder_of(tmp_path / "docs", "NFD"), "-o", tmp_path / "i") == 0
    with Index.open(tmp_path / "i", encoder=Encoder.load()) as index:
        assert [one.text for one in stored_documents(index, [asked])] == [TEXTS[f"{FOLDER}/{NAME}"]]
        assert [one.text for one in read_document(index, asked)] == [TEXTS[f"{FOLDER}/{NAME}"]]
        passage = read_document(index, asked)[0].passage_id
        for chosen in (None, unicodedata.normalize(form, passage)):
            assert {hit.doc_id for hit in similar_documents(index, asked, passage_id=chosen)} == {"café.md", "plain.txt"}
        assert index.documents_named([asked, "none"]) == [f"{FOLDER}/{NAME}"]
        assert index.delete([asked]) == 1
        with pytest.raises(NotFound):
            list(stored_documents(index, [asked]))
    assert ids(tmp_path / "i") == ["café.md", "plain.txt"]


@pytest.mark.parametrize("sync", [(), ("--sync",)])
def test_an_index_that_has_the_spelling_of_a_mac_does_not_double(tmp_path: Path, monkeypatch, capsys, sync) -> None:
    first, index = folder_of(tmp_path / MAC_FOLDER, "NFD"), tmp_path / "i"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("first, so that the folder's name stands in ids")
    (first / MAC_OTHER).write_text("text\nnever named\n")
    assert indexed(tmp_path / "other", "-o", index) == 0
    with monkeypatch.context() as before:  # as it was before names were composed
        before.setattr(documents, "composed_names", list)
        before.setattr(origins, "composed", str)
        assert indexed(first, "-o", index) == 0
    former = ids(index)
    assert f"{MAC_FOLDER}/{MAC_FOLDER}/{MAC_NAME}" in former
    capsys.readouterr()
    assert indexed(first, "-o", index, *sync) == 0
    assert "0 documents added, 4 replaced, 0 unchanged" in capsys.readouterr().out
    assert sorted(ids(index)) == sorted(unicodedata.normalize("NFC", doc_id) for doc_id in former)
    assert indexed(first, "-o", index, *sync) == 0
    assert "0 documents added, 0 replaced, 4 unchanged" in capsys.readouterr().out


def test_a_file_comes_again_from_another_machine(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    index = tmp_path / "i"
    for form in ("NFD", "NFC", "NFD"):
        path = tmp_path / unicodedata.normalize(form, NAME)
        path.write_text("words")
        os.utime(path, (1e9, 1e9))  # what is metadata too
        assert indexed(path, "-o", index, "--sync") == 0
        assert ids(index) == [NAME]
        path.unlink()
    assert "0 documents added, 0 replaced, 1 unchanged" in capsys.readouterr().out
