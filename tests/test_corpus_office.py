"""Slides, sheets, books, notebooks and mails: what is made of them, and what is refused before anything parses it."""

import io
import json
import re
import zipfile
from email.message import EmailMessage
from pathlib import Path

import pytest

from ragvec.corpus import read_documents, to_passages
from ragvec.corpus.conversion import Converter
from ragvec.corpus.files import corpus_files
from ragvec.corpus.mail import read_mail
from ragvec.errors import RagvecError

CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
PACKAGE = """<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>Kimchi</dc:title>
<dc:creator>Kim</dc:creator></metadata><manifest><item id="c" href="c.xhtml"/></manifest><spine>
<itemref idref="c"/></spine></package>"""
CHAPTER = """<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "http://www.w3.org/TR/xhtml11/DTD/xhtml11.dtd">
<html><body><h1>Salt</h1><p>Salt the cabbage.</p></body></html>"""


def read(source, **options):
    return list(read_documents(source, **options))


def epub(path: Path, chapter: str = CHAPTER) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("META-INF/container.xml", CONTAINER)
        book.writestr("OEBPS/book.opf", PACKAGE)
        book.writestr("OEBPS/c.xhtml", chapter)


def mail(**heads: str) -> EmailMessage:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "회의 일정", "Kim <kim@example.org>", "lee@example.org"
    message["Date"] = "Mon, 02 Mar 2026 10:00:00 +0900"
    return message


def test_slides_are_pages(tmp_path: Path) -> None:
    pptx = pytest.importorskip("pptx")
    pytest.importorskip("markitdown")
    deck = pptx.Presentation()
    for title, text in (("Plan", "First things."), ("Costs", "Second things.")):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text, slide.placeholders[1].text = title, text
    deck.save(tmp_path / "deck.pptx")
    [document] = read(tmp_path / "deck.pptx")
    assert (document.title, document.metadata["kind"]) == ("Plan", "pptx")
    found = [(passage.text, passage.metadata["page"]) for passage in to_passages([document])]
    assert found == [("# Plan\nFirst things.", 1), ("# Costs\nSecond things.", 2)]


def test_sheets_are_tables_under_their_names(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    pytest.importorskip("pandas")
    pytest.importorskip("markitdown")
    book = openpyxl.Workbook()
    book.active.title = "Cities"
    for row in (["city", "seats", None], ["Seoul", 12, None], [None, 7, "note"]):
        book.active.append(row)
    book.create_sheet("Empty")
    book.create_sheet("도시").append(["서울"])
    book.create_sheet("End")
    book.save(tmp_path / "a.xlsx")
    [document] = read(tmp_path / "a.xlsx")
    assert document.title == "a" and [part.metadata["heading"] for part in document.parts] == ["Cities", "도시"]
    lines = document.text.splitlines()
    assert (
        lines[0] == "## Cities"
        and "| Seoul | 12 |" in lines[3]
        and "NaN" not in document.text
        and "Unnamed" not in document.text
    )
    assert lines[5:] == ["", "## 도시", "| 서울 |", "| --- |"]


def test_a_book_of_empty_sheets_is_no_document(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    pytest.importorskip("pandas")
    pytest.importorskip("markitdown")
    (tmp_path / "a.md").write_text("words")
    openpyxl.Workbook().save(tmp_path / "blank.xlsx")
    assert [document.doc_id for document in read(tmp_path)] == ["a.md"]


def test_what_marks_a_document_as_open_is_passed_over_in_silence(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("words")
    (tmp_path / "~$report.docx").write_bytes(b"\x05somebody")
    files = corpus_files(tmp_path)
    assert [path.name for path in files.paths] == ["a.md"] and not files.skipped


def test_a_books_chapters_are_headings(tmp_path: Path) -> None:
    pytest.importorskip("markitdown")
    epub(tmp_path / "a.epub")
    [document] = read(tmp_path / "a.epub")
    assert document.title == "Kimchi" and document.text.endswith("# Salt\n\nSalt the cabbage.")
    assert [part.metadata for part in document.parts] == [{"heading": "Salt"}]


def test_notebooks_are_their_cells(tmp_path: Path) -> None:
    pytest.importorskip("markitdown")
    cells = [
        {"cell_type": "markdown", "source": ["# Study\n", "Why."]},
        {"cell_type": "code", "source": ["x = 1"], "outputs": [{"text": "secret"}]},
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}}))
    [document] = read(tmp_path / "a.ipynb")
    assert (document.title, document.text) == ("Study", "Why.\n\n```python\nx = 1\n```")
    (tmp_path / "b.ipynb").write_text("[]")
    for content in ("[]", "{}", "words", "[" * 100_000):
        (tmp_path / "b.ipynb").write_text(content)
        with pytest.raises(RagvecError, match=r"b.ipynb can't be converted to text: it is no .ipynb file, or damaged$"):
            read(tmp_path / "b.ipynb")


def test_mails_have_a_subject_people_a_date_and_a_text(tmp_path: Path) -> None:
    message = mail()
    message.set_content("내일 세 시입니다.", charset="euc-kr")
    message.add_alternative("<p>no</p>", subtype="html")
    message.add_attachment(b"secret", maintype="application", subtype="pdf", filename="표.pdf")
    (tmp_path / "a.eml").write_bytes(bytes(message))
    [document] = read(tmp_path / "a.eml", drop_fields=["path", "size", "mtime"])
    assert (document.title, document.text) == ("회의 일정", "내일 세 시입니다.")
    assert document.metadata == {
        "from": "Kim <kim@example.org>",
        "to": "lee@example.org",
        "date": "2026-03-02T01:00:00+00:00",
        "attachments": ["표.pdf"],
        "kind": "eml",
    }


def test_a_mail_that_is_a_page_is_made_to_markdown_and_what_is_none_is_named(tmp_path: Path) -> None:
    pytest.importorskip("markitdown")
    message = mail()
    message.set_content("<h2>세</h2><p>시 <b>정각</b></p>", subtype="html")
    (tmp_path / "a.eml").write_bytes(bytes(message))
    assert read(tmp_path / "a.eml")[0].text == "## 세\n\n시 **정각**"
    assert read_mail(b"Subject: x\nDate: yesterday\n\nbody \xff", lambda page: "")["markdown"] == "body \ufffd"
    (tmp_path / "a.eml").write_bytes(b"\n\nno mail")
    with pytest.raises(RagvecError, match="a.eml can't be converted to text: it has no head of a mail"):
        read(tmp_path / "a.eml")
    (tmp_path / "a.eml").write_bytes(b"Subject: x\nContent-Type: text/plain; charset=nonsense\n\nbody")
    with pytest.raises(RagvecError, match="a.eml can't be converted to text: .*nonsense"):
        read(tmp_path / "a.eml")
    for kind in ("application/pkcs7-mime; smime-type=enveloped-data", 'multipart/encrypted; boundary="b"'):
        (tmp_path / "a.eml").write_text(f"Subject: x\nContent-Type: {kind}\n\nMIIB")
        with pytest.raises(RagvecError, match="a.eml can't be converted to text: its text is encrypted or sealed"):
            read(tmp_path / "a.eml")


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize("suffix", [".pptx", ".xlsx", ".epub"])
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("big.xml", b"<x>" + b" " * (9 << 20), "it inflates to more than 8 MB: break it up, or allow more"),
        ("deep.xml", b"<a>" * 300, "'deep.xml' in it nests more than 256 elements"),
        ("many.xml", ENTITIES.encode(), ("declares a document type", "declares entities, which can expand without end")),
    ],
)
def test_packages_are_measured_before_anything_parses_them(tmp_path, monkeypatch, suffix, name, content, said) -> None:
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "markitdown.py").write_text("raise ImportError('it was asked')")
    monkeypatch.syspath_prepend(tmp_path / "no")
    with zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr(name, content)
    wanted = said if isinstance(said, str) else said[suffix == ".epub"]
    with Converter(8) as converter, pytest.raises(RagvecError) as caught:
        converter.convert((tmp_path / "a").read_bytes(), suffix, "a")
    assert wanted in str(caught.value) and "asked" not in str(caught.value)


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1016)
LOCKED = "can't be converted to text: it is protected by a password: save it without one"


@pytest.mark.parametrize("suffix", [".docx", ".pptx", ".xlsx", ".epub"])
def test_what_is_locked_is_told_so_and_passed_over_in_a_folder(tmp_path: Path, monkeypatch, suffix: str) -> None:
    monkeypatch.setattr("ragvec.corpus.files.can_read", lambda path, kind: kind is not None)
    (tmp_path / "a.md").write_text("words")
    file = tmp_path / f"b{suffix}"
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as zipped:
        zipped.writestr("c.xml", "<x/>")
    entry = package.getvalue()
    flags = entry.index(b"PK\x01\x02") + 8  # in the directory, which counts
    locked_part = entry[:flags] + b"\x01\x00" + entry[flags + 2 :]
    for content, said in (
        (OLE + "EncryptedPackage".encode("utf-16-le"), LOCKED),
        (locked_part, LOCKED),
        (OLE + "WordDocument".encode("utf-16-le"), "it is of an Office before 2007 (.doc, .xls, .ppt), whatever its name: sav"),
        (b"words", f"it is no {suffix} file, or damaged"),
        (b"", "can't be converted to text: it is empty"),
    ):
        file.write_bytes(content)
        unread: list = []
        assert [document.doc_id for document in read(tmp_path, on_unread=unread.append)] == ["a.md"]
        assert len(unread) == 1 and not unread[0].partial and said in unread[0].error and "\n" not in unread[0].error
        with pytest.raises(RagvecError, match=re.escape(said)):
            read(file)


@pytest.mark.parametrize("name", ["META-INF/rights.xml", "META-INF/sinf.xml", "META-INF/license.lcpl"])
def test_a_book_that_is_lent_is_not_read_as_noise(tmp_path: Path, name: str) -> None:
    epub(tmp_path / "a.epub")
    with zipfile.ZipFile(tmp_path / "a.epub", "a") as book:
        book.writestr(name, "<rights/>")
    with pytest.raises(RagvecError, match="it is locked by who sold or lent it"):
        read(tmp_path / "a.epub")
