"""What documents know of their files: title, metadata, pages, headings, front matter."""

import logging
import os
from pathlib import Path

import pytest

from ragvec.corpus import read_documents, to_passages
from ragvec.corpus.chunk import Cutter
from ragvec.corpus.kinds import FileChoice
from ragvec.corpus.parts import headings, pages
from ragvec.records import Document, Part, Passage
from tests.test_corpus_converted import docx, pdf

GUIDE = """# Guide

First words.

## Set up `now`

Words here. Others there.

```sh
# no heading
```

### On _Linux_ with snake_case

Last.
"""


def words(texts):
    return [len(text.split()) for text in texts]


def read(source, **options):
    return list(read_documents(source, **options))


def paged_pdf(path: Path, *texts: str) -> None:
    """A PDF of pages with a line of text each; an empty one has none."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(texts)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(texts)}>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, text in enumerate(texts):
        content = f"BT /F1 24 Tf 72 700 Td ({text}) Tj ET" if text else " "
        objects += [
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents {5 + 2 * number} 0 R/Resources<</Font<</F1 3 0 R>>>>>>",
            f"<</Length {len(content)}>>stream\n{content}\nendstream",
        ]
    data, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{number} 0 obj{body} endobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer<</Size {len(objects) + 1}/Root 1 0 R>>"
    path.write_text(f"{data}{end}\nstartxref\n{len(data)}\n%%EOF")


def test_a_file_carries_its_path_kind_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("sub/2024 report.v2.txt", "README", "a.md"):
        (tmp_path / name).write_text("words")
        os.utime(tmp_path / name, (1_700_000_000.9, 1_700_000_000.9))
    readme, plain, deep = read(tmp_path)
    assert readme.metadata == {"path": "README", "kind": "text", "size": 5, "mtime": "2023-11-14T22:13:20Z"}
    assert (readme.title, plain.title, deep.title) == ("README", "a", "2024 report.v2")
    assert (plain.metadata["kind"], deep.metadata["path"]) == ("md", "sub/2024 report.v2.txt")
    assert [sorted(document.metadata) for document in read(tmp_path, metadata_fields=["kind", "size"])] == [
        ["kind", "size"]
    ] * 3
    assert "mtime" not in read(tmp_path, drop_fields=["mtime"])[0].metadata
    os.utime(tmp_path / "README", (-(10**12), 10**15))
    assert read(tmp_path / "README")[0].text == "words"


def test_a_files_own_fields_come_first(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\nkind: tutorial\ntitle: Own\n---\nwords")
    [document] = read(tmp_path / "a.md")
    assert (document.title, document.metadata["kind"], document.metadata["path"]) == ("Own", "tutorial", "a.md")
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    assert [line.metadata for line in read(tmp_path / "lines.txt", text_lines=True)] == [{}, {}]
    (tmp_path / "g.rst").write_text("=====\nHello\n=====\n\nwords")
    assert read(tmp_path / "g.rst")[0].title == "Hello"


def test_passages_know_the_headings_above_them(tmp_path: Path) -> None:
    (tmp_path / "guide.md").write_text(GUIDE)
    [document] = read(tmp_path / "guide.md")
    cut = Cutter(words, 6).cut(document)
    assert [(passage.text.split("\n")[0], passage.metadata.get("heading")) for passage in cut] == [
        ("First words.", None),
        ("## Set up `now`", "Set up now"),
        ("Words here. Others there.", "Set up now"),
        ("# no heading", "Set up now"),
        ("### On _Linux_ with snake_case", "Set up now > On Linux with snake_case"),
        ("Last.", "Set up now > On Linux with snake_case"),
    ]
    assert "heading" not in next(to_passages([document])).metadata
    assert all(passage.metadata["path"] == "guide.md" for passage in cut)


def test_headings_by_underlines_and_links_but_no_tables() -> None:
    text = "One [two](x) ##\n===\n\na | b\n--- | ---\n\nThree\n---\n~~~\n# no\n~~~ x\n# no\n~~~\n#no\n### \n# Four #\n"
    assert [part.metadata.get("heading") for part in headings(text)] == [
        "One two",
        "One two > Three",
        "One two > Three",
        "Four",
    ]


def test_passages_end_with_their_page_unless_asked(tmp_path: Path) -> None:
    pytest.importorskip("markitdown")
    paged_pdf(tmp_path / "a.pdf", "", "Second page.", "", "Fourth page is here.")
    pdf(tmp_path / "b.pdf", "Alone.")
    many, one = read(tmp_path)
    assert (many.text, many.title) == ("Second page.\n\nFourth page is here.", "a")
    assert one.metadata["page"] == 1 and "page" not in many.metadata
    found = [(passage.passage_id, passage.text, passage.metadata["page"]) for passage in to_passages([many])]
    assert found == [("a.pdf#0", "Second page.", 2), ("a.pdf#1", "Fourth page is here.", 4)]
    assert [(passage.text, passage.metadata["page"]) for passage in Cutter(words, 4).cut(many)] == [
        ("Second page.", 2),
        ("Fourth page is", 4),
        ("here.", 4),
    ]
    across = Cutter(words, 20, across_pages=True).cut(many)
    assert [(passage.text, passage.metadata["page"]) for passage in across] == [(many.text, 2)]
    [whole] = to_passages([many], across_pages=True)
    assert whole == Passage("a.pdf", "a.pdf", many.text, "a", many.metadata)


def test_pages_are_where_page_ends_are() -> None:
    assert pages("\f one \f\ftwo\f") == ("one\n\ntwo", (Part(0, {"page": 2}, True), Part(5, {"page": 4}, True)))
    assert pages("") == ("", ())
    assert Document("1", "x", parts=(Part(0, {}),)) == Document("1", "x")


@pytest.mark.parametrize(
    ("matter", "fields"),
    [
        ("---\ntitle: >-\n  Folded\n  title\ntags: [a, b]\n---", {"title": "Folded title", "tags": ["a", "b"]}),
        ("---\ntags:\n- a\n- 5\nby: {name: K}\n---", {"tags": ["a", 5], "by": {"name": "K"}}),
        ("---\nday: 2020-01-02\nzip: 007\nland: no\nok: true\nx: 1.5\nq: '5'\nnone: null\nnan: .nan\n---",
         {"day": "2020-01-02", "zip": "007", "land": "no", "ok": True, "x": 1.5, "q": "5", "none": None, "nan": None}),
        ("+++\ntitle = 'T'\nday = 2020-01-02\nn = 99999999999999999999\nx = nan\ntags = ['a']\n[by]\nname = 'K'\n+++",
         {"title": "T", "day": "2020-01-02", "n": 1e20, "x": None, "tags": ["a"], "by": {"name": "K"}}),
    ],
)  # fmt: skip
def test_front_matter_is_yaml_or_toml(tmp_path: Path, matter: str, fields: dict) -> None:
    (tmp_path / "a.md").write_text(f"{matter}\nbody")
    [document] = read(tmp_path / "a.md", drop_fields=["path", "kind", "size", "mtime"])
    assert document.text == "body" and document.title == fields.pop("title", "a")
    assert document.metadata == fields


NESTED = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdef", "bcdefg"))  # fmt: skip # noqa


@pytest.mark.parametrize(
    ("matter", "why"),
    [
        ("---\ntitle: a: b\n---", "mapping values are not allowed here in line 2"),
        (f"---\n{NESTED}---", "it stands for more than 10,000 values"),
        ("---\n&a [*a]\n---", "it is nested too deeply"),
        ("---\na: " + "[" * 5000 + "\n---", "it is nested too deeply"),
        ("+++\nx = inf\n+++", "inf is no finite number"),
        ("+++\nx = \n+++", "Invalid value"),
        ("---\na: !!python/object/apply:os.system ['touch ran']\n---", None),
        ("---\njust prose\n---", ""),
    ],
)
def test_front_matter_that_cannot_be_read_stays_in_the_text(tmp_path, monkeypatch, caplog, matter, why):
    monkeypatch.chdir(tmp_path)
    Path("a.md").write_text(f"{matter}\nbody")
    with caplog.at_level(logging.WARNING, "ragvec"):
        [document] = read("a.md")
    assert not Path("ran").exists()
    if why is None:
        assert (document.text, document.metadata["a"]) == ("body", ["touch ran"])
        return
    assert document.text == f"{matter}\nbody" and document.title == "a"
    assert [why in record.getMessage() for record in caplog.records] == ([True] if why else [])


def test_files_can_be_taken_from_a_choice_with_their_kind(tmp_path: Path) -> None:
    pytest.importorskip("markitdown")
    docx(tmp_path / "w.docx")
    (tmp_path / "c.PY").write_text("print()")
    code, word = read(tmp_path, files=FileChoice(text_suffixes=(".py",)))
    assert (code.metadata["kind"], code.title, word.metadata["kind"], word.title) == ("py", "c", "docx", "w")
