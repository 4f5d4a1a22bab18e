"""PDF, HTML and DOCX through markitdown, in a folder and alone; what is said where it is missing."""

import gzip
import re
import resource
import signal
import zipfile
import zlib

import pytest

from ragvec.cli.main import main
from ragvec.corpus import conversion, count_documents, read_documents
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
    assert list(read_documents(tmp_path, metadata_fields=())) == [
        Document("a.html", "Salt the **cabbage**.", "김치"),
        Document("b.HTM.gz", "No title here", "b"),
        Document("c.docx", "First paragraph.\n\n두 번째 문단.", "c"),
        Document("d.pdf", "Leaves make food from light.", "d"),
    ]
    assert count_documents(tmp_path) == 4


def test_a_pdf_that_asks_for_a_password_is_told_so(tmp_path):
    pytest.importorskip("pypdfium2")
    pdf(tmp_path / "a.pdf", "x")
    keys = b"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>/ID[<01><01>]" % (b"ab" * 32, b"cd" * 32)
    data = (tmp_path / "a.pdf").read_bytes().replace(b"trailer<<", b"trailer<<" + keys)
    (tmp_path / "a.pdf").write_bytes(data)
    with pytest.raises(RagvecError, match=r"a\.pdf can't be converted to text: it is protected by a password: save it without"):
        list(read_documents(tmp_path / "a.pdf"))


@pytest.mark.parametrize("name", ["a.pdf", "a.docx"])
def test_what_cannot_be_converted_names_the_file(tmp_path, name):
    pytest.importorskip("markitdown")
    (tmp_path / name).write_bytes(b"not what its name says")
    with pytest.raises(RagvecError, match=f"{name} can't be converted to text: it is no {name[1:]} file, or damaged") as caught:
        list(read_documents(tmp_path / name))
    assert "\n" not in str(caught.value)
    (tmp_path / "b.txt").write_text("good")
    rejects = []
    assert [document.doc_id for document in read_documents(tmp_path, on_reject=rejects.append)] == ["b.txt"]
    assert len(rejects) == 1


def test_without_markitdown_a_file_names_the_remedy_and_a_folder_passes_it_over(tmp_path, monkeypatch):
    from ragvec.corpus import kinds

    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "markitdown.py").write_text("raise ImportError('not here')")
    monkeypatch.syspath_prepend(tmp_path / "no")  # the process that converts looks where this one does
    monkeypatch.setattr(kinds, "find_spec", lambda name: None)
    (tmp_path / "a.html").write_text(HTML, encoding="utf-8")
    (tmp_path / "b.txt").write_text("good")
    with pytest.raises(RagvecError, match=r"need markitdown .*: pip install 'ragvec\[docs\]'"):
        list(read_documents(tmp_path / "a.html"))
    assert corpus_files(tmp_path).skipped == [tmp_path / "a.html", tmp_path / "no" / "markitdown.py"]
    assert [document.doc_id for document in read_documents(tmp_path)] == ["b.txt"]
    (tmp_path / "c.eml").write_text("Subject: plain\n\nwords")
    (tmp_path / "d.eml").write_text("Subject: page\nContent-Type: text/html\n\n<p>words")
    unread = []
    assert [document.doc_id for document in read_documents(tmp_path, on_unread=unread.append)] == ["b.txt", "c.eml"]
    [page] = unread
    assert re.search(r"d.eml can't be converted .*: .eml files need markitdown .*: pip install 'ragvec\[docs\]'", page.error)
    for name in ("b.txt", "c.eml", "d.eml"):
        (tmp_path / name).unlink()
    with pytest.raises(RagvecError, match=r"no corpus file.*; 1 need markitdown \(a.html\): pip install 'ragvec\[docs\]'"):
        corpus_files(tmp_path)


def rejected_from(folder, **options):
    rejects = []
    documents = [document.doc_id for document in read_documents(folder, on_reject=rejects.append, **options)]
    return documents, [reject.error for reject in rejects]


def inflating_docx(path):
    """A document beside some kilobytes that are 64 MB of white space within."""
    docx(path)
    packed = zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1)
    with packed, packed.open("word/styles.xml", "w") as member:
        member.write(b"<x>")
        for _ in range(64):
            member.write(b" " * (1 << 20))


def many_parts(path):
    with zipfile.ZipFile(path, "w") as package:
        for number in range(10_001):
            package.writestr(str(number), "")


def strangely_packed(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as package:
        package.writestr("word/document.xml", DOCUMENT)


EXPANDING = """<!DOCTYPE w [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><w:document"""
BOMBS = [
    (inflating_docx, "it inflates to more than 8 MB: break it up, or allow more (`max_value_mb`)"),
    (many_parts, "it has 10,001 parts, of which a document has 10,000 at most"),
    (strangely_packed, "'word/document.xml' in it is compressed in another way than documents are"),
    (
        lambda path: docx(path, DOCUMENT.replace("<w:body>", "<w:body>" + "<w:p>" * 100_000)),
        "'word/document.xml' in it nests more than 256 elements",
    ),
    (
        lambda path: docx(path, **{"word/media/image1.png": "<a>" * 300}),
        "'word/media/image1.png' in it nests more than 256 elements",
    ),
    (
        lambda path: docx(path, DOCUMENT.replace("<w:document", EXPANDING, 1)),
        "'word/document.xml' in it declares a document type, which documents never do",
    ),
    (lambda path: path.write_bytes(b"PK\5\6" + bytes(18)), ""),
]


def test_a_docx_is_measured_before_anything_parses_it(tmp_path, monkeypatch):
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "markitdown.py").write_text("raise ImportError('it was asked')")
    monkeypatch.syspath_prepend(tmp_path / "no")
    with Converter(8) as converter:
        for make, said in BOMBS:
            make(tmp_path / "a.docx")
            error = f"a can't be converted to text: {said or '.docx files need markitdown'}"
            with pytest.raises(RagvecError) as caught:
                converter.convert((tmp_path / "a.docx").read_bytes(), ".docx", "a")
            assert str(caught.value).startswith(error) and "\n" not in str(caught.value)
            (tmp_path / "a.docx").unlink()


def test_files_that_inflate_are_named_and_the_rest_is_read(tmp_path, capsys):
    pytest.importorskip("markitdown")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    inflating_docx(corpus / "a.docx")
    (corpus / "b.html").write_text("<p>good</p>")
    # a row that is longer than all memory
    pdf(corpus / "c.pdf", "", zlib.compress(b"abc"), b"/Filter/FlateDecode/DecodeParms<</Predictor 12/Columns 1000000000000>>")
    said = ["it inflates to more than 8 MB: break it up, or allow more", "it needs more memory than a file of its size may"]
    documents, errors = rejected_from(corpus, max_value_mb=8)
    assert documents == ["b.html"]
    assert errors == [
        f"{corpus / 'a.docx'} can't be converted to text: {said[0]} (`max_value_mb`)",
        f"{corpus / 'c.pdf'} can't be converted to text: {said[1]}",
    ]
    command = ["index", str(corpus), "-o", str(tmp_path / "i"), "--max-value-mb", "8", "--on-error", "skip"]
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 0 and "2 rows could not be read and were skipped" in capsys.readouterr().err


def test_streams_within_streams_take_no_more_time_than_a_file_may(tmp_path):
    pytest.importorskip("markitdown")
    once = zlib.compress(bytes(1 << 26), 9)
    pdf(tmp_path / "c.pdf", "", zlib.compress(once * 64, 9), b"/Filter[/FlateDecode/FlateDecode]")  # 3 KB, or 4 GB
    with Converter(seconds=2) as converter, pytest.raises(RagvecError, match="^c can't be converted to text: it "):
        converter.convert((tmp_path / "c.pdf").read_bytes(), ".pdf", "c")


def test_memory_and_time_go_by_a_files_size(monkeypatch):
    bounds = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: bounds.append(limits[0]))
    monkeypatch.setattr(signal, "setitimer", lambda kind, seconds: bounds.append(seconds))
    monkeypatch.setattr(signal, "alarm", bounds.append)
    for size in (1000, 3 << 20, 128 << 20):
        conversion._bound(size, 300)
    assert bounds == [(2 << 30) + 32_000, 60, 600, (2 << 30) + (96 << 20), 150, 1500, 6 << 30, 300, 3000]


def test_text_made_of_a_file_has_the_same_limit(tmp_path):
    pytest.importorskip("markitdown")
    (tmp_path / "a.html").write_text("<table>" + "<tr><td colspan=1000>x</td></tr>" * 600 + "</table>")
    (tmp_path / "b.html").write_text("<p>good</p>")
    said = "it makes more than 1 MB of text: break it up, or allow more (`max_value_mb`)"
    assert rejected_from(tmp_path, max_value_mb=1) == (
        ["b.html"],
        [f"{tmp_path / 'a.html'} can't be converted to text: {said}"],
    )


def test_a_conversion_that_does_not_end_is_ended(tmp_path, monkeypatch):
    (tmp_path / "markitdown").mkdir()
    (tmp_path / "markitdown" / "__init__.py").write_text("StreamInfo = dict\nMissingDependencyException = OSError\n")
    (tmp_path / "markitdown" / "converters.py").write_text(
        "import os, types\n"
        "class HtmlConverter:\n"
        "    def convert(self, file, about):\n"
        "        text = file.read().decode()\n"
        "        print('noise')\n"
        "        if text == 'hang':\n            while True:\n                pass\n"
        "        if text == 'much':\n            bytearray(8 << 30)\n"
        "        if text == 'closed':\n            try:\n                bytearray(8 << 30)\n"
        "            finally:\n                file.close(), file.read()\n"
        "        if text == 'crash':\n            os.kill(os.getpid(), 11)\n"
        "        return types.SimpleNamespace(title=None, markdown=text.upper())\n"
        "DocxConverter = PdfConverter = HtmlConverter\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with Converter(1, seconds=2) as converter:
        assert converter.convert(b"one", ".html", "a.html") == ("", "ONE", {})
        first = converter._process.pid
        with pytest.raises(RagvecError, match="^b.html can't be converted to text: it took more than \\d+ seconds$"):
            converter.convert(b"hang", ".html", "b.html")
        assert converter.convert(b"two", ".pdf", "c.pdf") == ("", "TWO", {}) and converter._process.pid != first
        with pytest.raises(
            RagvecError, match=r"^d.html can't be converted to text: its conversion ended by itself \(SIGSEGV\)$"
        ):
            converter.convert(b"crash", ".html", "d.html")
        for text in (b"much", b"closed"):
            with pytest.raises(RagvecError, match="^f.html can't be converted to text: it needs more memory"):
                converter.convert(text, ".html", "f.html")
            assert converter._process is None
        assert converter.convert(b"three", ".html", "e.html") == ("", "THREE", {})
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
