"""PDF, HTML and DOCX through markitdown, in a folder and alone; what is said where it is missing."""

import gzip
import signal
import zipfile
import zlib

import pytest

from ragvec.corpus import count_documents, read_documents
from ragvec.corpus.conversion import Converter
from ragvec.corpus.files import corpus_files
from ragvec.errors import RagvecError
from ragvec.records import Document

HTML = """<html><head><title>김치</title><script>x()</script></head>
<body><h1>김치</h1><p>Salt the <b>cabbage</b>.</p></body></html>"""
CONTENT_TYPES = """<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Override PartName="/word/document.xml"
 ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>"""
RELATIONS = """<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Id="r1" Target="word/document.xml"
 Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/></Relationships>"""
DOCUMENT = """<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>
<w:p><w:r><w:t>First paragraph.</w:t></w:r></w:p><w:p><w:r><w:t>두 번째 문단.</w:t></w:r></w:p></w:body></w:document>"""


def docx(path, document=DOCUMENT, **more):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("[Content_Types].xml", CONTENT_TYPES)
        file.writestr("_rels/.rels", RELATIONS)
        file.writestr("word/document.xml", document)
        for name, content in more.items():
            file.writestr(name, content)


def pdf(path, text, stream=b"", filters=b""):
    content = stream or b"BT /F1 24 Tf 72 700 Td (" + text.encode() + b") Tj ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d%s>>stream\n%s\nendstream" % (len(content), filters, content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]  # fmt: skip
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj%s endobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"xref\n0 6\n0000000000 65535 f \n%strailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (table, len(data))
    path.write_bytes(data + trailer)


def test_converted_files_are_documents(tmp_path):
    pytest.importorskip("markitdown")
    (tmp_path / "a.html").write_text(HTML, encoding="utf-8")
    (tmp_path / "b.HTM.gz").write_bytes(gzip.compress(b"<p>No title here</p>"))
    docx(tmp_path / "c.docx")
    pdf(tmp_path / "d.pdf", "Leaves make food from light.")
    assert list(read_documents(tmp_path)) == [
        Document("a.html", "Salt the **cabbage**.", "김치"),
        Document("b.HTM.gz", "No title here"),
        Document("c.docx", "First paragraph.\n\n두 번째 문단."),
        Document("d.pdf", "Leaves make food from light."),
    ]
    assert count_documents(tmp_path) == 4


@pytest.mark.parametrize("name", ["a.pdf", "a.docx"])
def test_what_cannot_be_converted_names_the_file(tmp_path, name):
    pytest.importorskip("markitdown")
    (tmp_path / name).write_bytes(b"not what its name says")
    with pytest.raises(RagvecError, match=f"{name} can't be converted to text: ") as caught:
        list(read_documents(tmp_path / name))
    assert "\n" not in str(caught.value)
    (tmp_path / "b.txt").write_text("good")
    rejects = []
    assert [document.doc_id for document in read_documents(tmp_path, on_reject=rejects.append)] == ["b.txt"]
    assert len(rejects) == 1


def test_without_markitdown_a_file_names_the_remedy_and_a_folder_passes_it_over(tmp_path, monkeypatch):
    from ragvec.corpus import files

    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "markitdown.py").write_text("raise ImportError('not here')")
    monkeypatch.syspath_prepend(tmp_path / "no")  # the process that converts looks where this one does
    monkeypatch.setattr(files, "can_convert", lambda: False)
    (tmp_path / "a.html").write_text(HTML, encoding="utf-8")
    (tmp_path / "b.txt").write_text("good")
    with pytest.raises(RagvecError, match=r"need markitdown .*: pip install 'ragvec\[docs\]'"):
        list(read_documents(tmp_path / "a.html"))
    assert corpus_files(tmp_path).skipped == [tmp_path / "a.html", tmp_path / "no" / "markitdown.py"]
    assert [document.doc_id for document in read_documents(tmp_path)] == ["b.txt"]


def rejected_from(folder, **options):
    rejects = []
    documents = [document.doc_id for document in read_documents(folder, on_reject=rejects.append, **options)]
    return documents, [reject.error for reject in rejects]


def test_files_that_inflate_are_named_and_the_rest_is_read(tmp_path):
    pytest.importorskip("markitdown")
    docx(tmp_path / "a.docx")
    packed = zipfile.ZipFile(tmp_path / "a.docx", "a", zipfile.ZIP_DEFLATED, compresslevel=1)
    with packed, packed.open("word/styles.xml", "w") as member:  # some megabytes, and a gigabyte of white space within
        member.write(b"<x>")
        for _ in range(1024):
            member.write(b" " * (1 << 20))
    (tmp_path / "b.html").write_text("<p>good</p>")
    said = "it needs more memory than a file may (`max_value_mb` raises that too)"
    assert rejected_from(tmp_path, max_value_mb=8) == (
        ["b.html"],
        [f"{tmp_path / 'a.docx'} can't be converted to text: {said}"],
    )
    once = zlib.compress(bytes(1 << 28), 9)
    pdf(tmp_path / "c.pdf", "", zlib.compress(once * 16, 9), b"/Filter[/FlateDecode/FlateDecode]")  # 8 KB, or 4 GB
    with Converter(1, seconds=8) as converter, pytest.raises(RagvecError, match="^c can't be converted to text: it "):
        converter.convert((tmp_path / "c.pdf").read_bytes(), ".pdf", "c")


def test_text_made_of_a_file_has_the_same_limit(tmp_path):
    pytest.importorskip("markitdown")
    docx(tmp_path / "a.docx", DOCUMENT.replace("First", "First " * 400_000))
    (tmp_path / "b.html").write_text("<p>good</p>")
    said = "it makes more than 1 MB of text: break it up, or allow more (`max_value_mb`)"
    assert rejected_from(tmp_path, max_value_mb=1) == (
        ["b.html"],
        [f"{tmp_path / 'a.docx'} can't be converted to text: {said}"],
    )


def test_a_conversion_that_does_not_end_is_ended(tmp_path, monkeypatch):
    (tmp_path / "markitdown").mkdir()
    (tmp_path / "markitdown" / "__init__.py").write_text("from collections import namedtuple\nStreamInfo = dict\n")
    (tmp_path / "markitdown" / "converters.py").write_text(
        "import os, time, types\n"
        "class HtmlConverter:\n"
        "    def convert(self, file, about):\n"
        "        text = file.read().decode()\n"
        "        print('noise')\n"
        "        if text == 'hang':\n            time.sleep(1000)\n"
        "        if text == 'much':\n            bytearray(8 << 30)\n"
        "        if text == 'closed':\n            try:\n                bytearray(8 << 30)\n"
        "            finally:\n                file.close(), file.read()\n"
        "        if text == 'crash':\n            os.kill(os.getpid(), 11)\n"
        "        return types.SimpleNamespace(title=None, markdown=text.upper())\n"
        "DocxConverter = PdfConverter = HtmlConverter\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with Converter(1, seconds=2) as converter:
        assert converter.convert(b"one", ".html", "a.html") == ("", "ONE")
        first = converter._process.pid
        with pytest.raises(RagvecError, match="^b.html can't be converted to text: it took more than 2 seconds$"):
            converter.convert(b"hang", ".html", "b.html")
        assert converter.convert(b"two", ".pdf", "c.pdf") == ("", "TWO") and converter._process.pid != first
        with pytest.raises(
            RagvecError, match=r"^d.html can't be converted to text: its conversion ended by itself \(SIGSEGV\)$"
        ):
            converter.convert(b"crash", ".html", "d.html")
        for text in (b"much", b"closed"):
            with pytest.raises(RagvecError, match="^f.html can't be converted to text: it needs more memory"):
                converter.convert(text, ".html", "f.html")
            assert converter._process is None
        assert converter.convert(b"three", ".html", "e.html") == ("", "THREE")
        last = converter._process
    assert last.returncode == -signal.SIGKILL


def test_what_lies_in_the_working_directory_is_not_run(tmp_path, monkeypatch):
    pytest.importorskip("markitdown")
    (tmp_path / "markitdown.py").write_text("open('ran', 'w')")
    (tmp_path / "json.py").write_text("open('ran', 'w')")
    (tmp_path / "a.html").write_text("<p>good</p>")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    assert [document.text for document in read_documents(tmp_path / "a.html")] == ["good"] and not (tmp_path / "ran").exists()


def test_a_docx_does_not_read_other_files(tmp_path):
    pytest.importorskip("markitdown")
    (tmp_path / "secret.png").write_bytes(b"secret" * 20)
    image = (
        '<w:p><w:r><w:drawing><wp:inline xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing">'
        '<a:graphic xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"><a:graphicData><pic:pic '
        'xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture"><pic:blipFill><a:blip r:link="r9" '
        'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"/></pic:blipFill></pic:pic>'
        "</a:graphicData></a:graphic></wp:inline></w:drawing></w:r></w:p>"
    )
    relations = RELATIONS.replace(
        'Id="r1" Target="word/document.xml"', f'Id="r9" TargetMode="External" Target="{tmp_path}/secret.png"'
    )
    relations = relations.replace('officeDocument"/>', 'image"/>')
    docx(tmp_path / "a.docx", DOCUMENT.replace("</w:body>", image + "</w:body>"), **{"word/_rels/document.xml.rels": relations})
    documents, errors = rejected_from(tmp_path)
    texts = " ".join(document.text for document in read_documents(tmp_path / "a.docx")) if documents else ""
    assert "c2VjcmV0" not in texts and (documents or errors)
