"""PDF, HTML and DOCX through markitdown, in a folder and alone; what is said where it is missing."""

import gzip
import sys
import zipfile

import pytest

from ragvec.corpus import count_documents, read_documents
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


def docx(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("[Content_Types].xml", CONTENT_TYPES)
        file.writestr("_rels/.rels", RELATIONS)
        file.writestr("word/document.xml", DOCUMENT)


def pdf(path, text):
    content = b"BT /F1 24 Tf 72 700 Td (" + text.encode() + b") Tj ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
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
    from ragvec.corpus import converted, files

    converted._converters.cache_clear()
    monkeypatch.setitem(sys.modules, "markitdown", None)
    monkeypatch.setattr(files, "can_convert", lambda: False)
    (tmp_path / "a.html").write_text(HTML, encoding="utf-8")
    (tmp_path / "b.txt").write_text("good")
    with pytest.raises(RagvecError, match=r"need markitdown .*: pip install 'ragvec\[docs\]'"):
        list(read_documents(tmp_path / "a.html"))
    assert corpus_files(tmp_path).skipped == [tmp_path / "a.html"]
    assert [document.doc_id for document in read_documents(tmp_path)] == ["b.txt"]
