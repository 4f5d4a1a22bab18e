"""Reading a corpus: every format, the names fields go by, and what is said about input that is wrong."""

import datetime
import gzip
import hashlib
import io
import json
import sys
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ragvec.corpus import count_documents, read_documents, to_passages
from ragvec.corpus.files import InputFile, corpus_files
from ragvec.errors import RagvecError
from ragvec.records import Document, Passage

TWO = [Document("1", "plants", "Leaves", {"year": 2020}), Document("2", "한글은 글자이다.", "", {"lang": "ko"})]
ROWS = [{"_id": "1", "title": "Leaves", "text": "plants", "year": 2020}, {"_id": "2", "text": "한글은 글자이다.", "lang": "ko"}]


def jsonl(rows) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def read(path, **options) -> list[Document]:
    return list(read_documents(path, **options))


ENCODED = {
    "a.jsonl": jsonl(ROWS),
    "bom.jsonl": b"\xef\xbb\xbf" + jsonl(ROWS),
    "blank-lines.ndjson": b"\n" + jsonl(ROWS).replace(b"\n", b"\r\n\r\n"),
    "no-last-newline.jsonl": jsonl(ROWS).rstrip(),
    "a.jsonl.gz": gzip.compress(jsonl(ROWS)),
    "members.jsonl.gz": gzip.compress(jsonl(ROWS[:1])) + gzip.compress(jsonl(ROWS[1:])),
    "a.jsonl.zst": zstandard.compress(jsonl(ROWS)),
    "frames.jsonl.zst": zstandard.compress(jsonl(ROWS[:1])) + zstandard.compress(jsonl(ROWS[1:])),
    "array.json": json.dumps(ROWS).encode(),
    "pretty.json": json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    "lines.json": jsonl(ROWS),
    "UPPER.JSON.GZ": gzip.compress(json.dumps(ROWS).encode()),
    "a.csv": "_id,title,text,year,lang\n1,Leaves,plants,2020,\n2,,한글은 글자이다.,,ko\n".encode(),
    "a.tsv": "_id\tText\tTitle\tyear\tlang\r\n1\tplants\tLeaves\t2020\t\r\n2\t한글은 글자이다.\t\t\tko\r\n".encode(),
}


@pytest.mark.parametrize("name", ENCODED)
def test_every_format_gives_the_same_documents(tmp_path, name):
    path = write(tmp_path / name, ENCODED[name])
    inputs = []
    assert read(path, on_file=inputs.append) == TWO
    assert inputs == [InputFile(str(path), len(ENCODED[name]), hashlib.sha256(ENCODED[name]).hexdigest())]
    assert count_documents(path) in (2, None)


def test_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{"lang": None, **row} for row in ROWS]), path)
    inputs = []
    assert read(path, on_file=inputs.append) == TWO and count_documents(path) == 2
    assert inputs[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": io.BytesIO(jsonl(ROWS))}))
    inputs = []
    assert read("-", on_file=inputs.append) == TWO
    assert inputs[0].path == "-" and inputs[0].bytes == len(jsonl(ROWS))
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": io.BytesIO(b"[1]\n")}))
    with pytest.raises(RagvecError, match="standard input, line 1: expected an object.*found an array"):
        read("-")


@pytest.mark.parametrize("id_name", ["_id", "id", "docid", "doc_id"])
@pytest.mark.parametrize("text_name", ["text", "contents", "content", "body", "Text"])
def test_the_usual_field_names(tmp_path, id_name, text_name):
    path = write(tmp_path / "a.jsonl", jsonl([{id_name: 7, text_name: "plants", "metadata": {"url": "x"}, "n": [1]}]))
    assert read(path) == [Document("7", "plants", "", {"url": "x", "n": [1]})]


def test_numbers_in_csv_are_numbers_and_codes_stay_strings(tmp_path):
    path = write(tmp_path / "a.csv", 'text,year,score,zip,note\n"a, ""b""\nc",-2020,0.5,00123,1e5\n')
    [document] = read(path)
    assert document.text == 'a, "b"\nc'
    assert document.metadata == {"year": -2020, "score": 0.5, "zip": "00123", "note": "1e5"}


def test_a_field_longer_than_csv_allows_by_itself(tmp_path):
    assert len(read(write(tmp_path / "a.csv", "text\n" + "x" * 300_000 + "\n"))[0].text) == 300_000


def test_missing_ids_are_made_from_the_content_and_do_not_move(tmp_path):
    rows = [{"text": "a"}, {"text": "b"}, {"text": "a"}, {"text": "a"}, {"text": "", "id": None}]
    ids = [document.doc_id for document in read(write(tmp_path / "a.jsonl", jsonl(rows)))]
    assert ids[2] == f"{ids[0]}-2" and ids[3] == f"{ids[0]}-3" and len(set(ids)) == 5
    assert ids[0] == hashlib.blake2b(b"\0a", digest_size=8).hexdigest()
    assert [d.doc_id for d in read(write(tmp_path / "b.jsonl", jsonl(rows[1:2] + rows[:1])))] == [ids[1], ids[0]]


def test_text_is_one_document_a_file_or_one_a_line(tmp_path):
    path = write(tmp_path / "notes.txt", "first\n\n  second  \n")
    assert (
        read(path, metadata_fields=()) == [Document("notes.txt", "first\n\n  second", "notes")] and count_documents(path) == 1
    )
    assert [document.text for document in read(path, text_lines=True)] == ["first", "second"]
    assert count_documents(path, text_lines=True) == 2


def test_markdown_takes_its_title_from_the_top(tmp_path):
    heading = write(tmp_path / "a.md", "\n# Making kimchi #\n\nSalt the cabbage.\n\n# Not this\n")
    assert read(heading, metadata_fields=()) == [Document("a.md", "Salt the cabbage.\n\n# Not this", "Making kimchi")]
    long = write(tmp_path / "long.md", "# a" + " " * 1_000_000 + "b ## \r\nbody")  # takes no time, though it might be squared
    assert [(d.text, d.title) for d in read(long)] == [("body", "a" + " " * 1_000_000 + "b")]
    assert read(write(tmp_path / "d.md", "# ##\nbody"))[0].title == "#"
    matter = write(tmp_path / "b.md", '---\ntitle: "Kimchi"\nyear: 2020\ntags:\n  - food\n---\nSalt it.\n')
    assert read(matter, metadata_fields=["year"]) == [Document("b.md", "Salt it.", "Kimchi", {"year": 2020})]
    assert read(write(tmp_path / "c.md", "---\n\nA rule first.\n"))[0].text == "---\n\nA rule first."


def test_a_folder_is_read_in_order_and_says_what_it_passes_over(tmp_path):
    write(tmp_path / "b.jsonl", jsonl(ROWS[1:]))
    write(tmp_path / "a" / "x.md", "# X\nbody")
    write(tmp_path / "a" / "empty.txt", " \n")
    write(tmp_path / "photo.png", b"\x89PNG\0")
    write(tmp_path / ".git" / "config.txt", "hidden")
    write(tmp_path / "old" / "index.sqlite", b"")
    write(tmp_path / "old" / "notes.txt", "made by ragvec")
    assert [document.doc_id for document in read(tmp_path)] == ["a/x.md", "2"]
    assert corpus_files(tmp_path).skipped == [tmp_path / "old", tmp_path / "photo.png"]


def test_a_beir_folder_is_its_corpus(tmp_path):
    write(tmp_path / "corpus.jsonl", jsonl(ROWS))
    write(tmp_path / "queries.jsonl", jsonl([{"_id": "q", "text": "a query"}]))
    write(tmp_path / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\nq\t1\t1\n")
    assert read(tmp_path) == read(tmp_path.parent / tmp_path.name) == TWO


def test_a_document_is_a_passage_for_now():
    assert list(to_passages(TWO[:1])) == [Passage("1", "1", "plants", "Leaves", {"year": 2020})]


BAD = {
    "a.jsonl": [
        (b'{"text": "a"}\n{"text": }\n', "line 2: bad JSON: .* column 10"),
        (b'{"text": "a"}\n["a"]\n', "line 2: expected an object with id and text, found an array"),
        (b'{"title": "a", "abstract": "b"}\n', r"line 1: no text field \(looked for .*body\); fields seen: title, abstract"),
        (b'{"text": null}\n', "line 1: field 'text' is null"),
        (b'{"text": 5}\n', "line 1: field 'text' must be a string, not 5"),
        (b'{"text": "a", "title": ["b"]}\n', "line 1: field 'title' must be a string"),
        (b'{"_id": "x", "text": "a"}\n\n{"_id": "x", "text": "b"}\n', "line 3: the id 'x' was used before"),
        (b'{"_id": 1.5, "text": "a"}\n', "line 1: the id must be a string or an integer, not 1.5"),
        (b'{"_id": true, "text": "a"}\n', "line 1: the id must be a string or an integer, not True"),
        (b'{"text": "caf\xe9"}\n', "line 1: byte 0xe9 at 13 is not UTF-8: give the file's `encoding`, perhaps cp1252"),
        (b'{"text": "a\\u0000b"}\n', "line 1: a NUL character at position 1"),
        (b'{"text": "a\\ud800"}\n', "line 1: bad JSON"),
        (b'{"text": ' + b"[" * 5000 + b"\n", "line 1: bad JSON"),
        (b'\xff\xfe{"tex', "a.jsonl is not utf-16: "),
        (b'{"text": "a", "m": ' + b'{"x":' * 300 + b"1" + b"}" * 301, "line 1: field 'm' cannot be stored as JSON metadata"),
        (b"\n \n", "holds no documents"),
        (b"", "holds no documents"),
    ],
    "a.json": [
        (b'[{"text": "a"},\n{"text": "b",,}]', "line 2: bad JSON"),
        (b'[{"text": "a"},\n', "line 2: the array has no end"),
        (b'[{"text": "a"},\n{"te', "line 2: bad JSON"),
        (b'[{"text": "a"}]\n{"text": "b"}', "line 2: bad JSON: something follows the array's end"),
        (b'[{"text": "a"},\n "b"]', "line 2: expected an object with id and text, found a string"),
        (b'[{"text": "a"},\n {"text": "\xff"}]', "line 2: not UTF-8"),
        (b'[{"text": "\\ud800"}]', "line 1: half a surrogate pair at position 0"),
        (b'[{"text": ' + b"[" * 200_000, "line 1: bad JSON"),
        (b'{"data": [{"text": "a"}]}', "line 1: no text field .* fields seen: data"),
        (b"[]", "holds no documents"),
    ],
    "a.csv": [
        (b"_id,body text\n1,a\n", r"line 2: no text field .*fields seen: _id, body text"),
        (b"_id,text\n1,a,b\n", "line 2: 3 fields where the header has 2: quote fields that hold ','"),
        (b'_id,text\n1,"a\n', "line 2: bad CSV: unexpected end of data"),
        (b"_id,text,text\n1,a,b\n", "line 1: the header names 'text' twice"),
        (b"_id,text\n1,\xff\n", "line 2: byte 0xff at 2 is not UTF-8"),
        (b"_id,text\n1,a\n1,b\n", "line 3: the id '1' was used before"),
        (b"_id,text\n", "holds no documents"),
    ],
    "a.tsv": [(b'text\n"a" b\n', "line 2: bad TSV")],
    "a.txt": [
        (b"ab\0c", "a NUL character at position 2"),
        (b"\xff", "a.txt: byte 0xff at 0 is not UTF-8: give the file's `encoding`"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a.txt: byte 0x89 at 0 is not UTF-8: it is no text: leave it out"),
        (b" ", "holds no documents"),
    ],
    "a.jsonl.gz": [
        (gzip.compress(jsonl(ROWS))[:-9], "is damaged after line"),
        (b"plain", "is damaged after line 0: Not a gzipped file"),
    ],
    "a.jsonl.zst": [
        (zstandard.compress(jsonl(ROWS))[:-3], "is damaged after line 0: compressed file ended"),
        (b"plain text, no zstd", "is damaged after line 0"),
    ],
    "a.parquet": [(b"PAR1", "is not a readable Parquet file")],
    "a.doc": [(b"x", "has an unknown suffix: use one of .jsonl")],
    "a.parquet.gz": [(b"x", "has an unknown suffix")],
}


@pytest.mark.parametrize(
    ("name", "data", "message"), [(name, data, message) for name, cases in BAD.items() for data, message in cases]
)
def test_bad_input_is_named_by_file_and_line(tmp_path, name, data, message):
    path = write(tmp_path / name, data)
    with pytest.raises(RagvecError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_unreadable_sources(tmp_path):
    with pytest.raises(RagvecError, match="nowhere.jsonl does not exist"):
        read(tmp_path / "nowhere.jsonl")
    with pytest.raises(RagvecError, match="holds no corpus file: looked for .jsonl"):
        read(tmp_path)
    write(tmp_path / "manifest.json", "{}")
    write(tmp_path / "part-00000.parquet", "")
    with pytest.raises(RagvecError, match="was written by ragvec and is not a corpus"):
        read(tmp_path)


def test_parquet_columns_of_bytes_are_left_out_and_told_once(tmp_path, caplog):
    path = tmp_path / "a.parquet"
    image = pa.array([{"bytes": b"\xff", "path": "a.png"}] * 3)
    columns = {"raw": [b"\xff"] * 3, "text": ["a", "b", "c"], "image": image, "year": [1, 2, 3], "all": [[b"x"]] * 3}
    pq.write_table(pa.table({**columns, "by": pa.array([b"x"] * 3).dictionary_encode()}), path)
    assert [(one.text, one.metadata) for one in read(path)] == [("a", {"year": 1}), ("b", {"year": 2}), ("c", {"year": 3})]
    [record] = caplog.records
    told = record.getMessage()
    assert told.startswith(f"{path}: columns that hold no text and nothing to filter by are left out: 'raw' (")
    assert all(f"'{name}' (" in told for name in ("raw", "image", "all", "by")) and "year" not in told


def test_parquet_values_that_json_lacks(tmp_path):
    path = tmp_path / "a.parquet"
    day, took = datetime.date(2020, 2, 1), datetime.timedelta(days=1)
    pq.write_table(pa.table({"text": ["a"], "day": [day], "price": [Decimal("1.50")], "days": [[day]]}), path)
    assert read(path)[0].metadata == {"day": "2020-02-01", "price": 1.5, "days": ["2020-02-01"]}
    pq.write_table(pa.table({"text": ["a"], "took": [took]}), path)
    assert read(path)[0].metadata == {"took": 86400.0}


def test_a_long_json_array_is_read_without_holding_it(tmp_path):
    """Elements longer than the window, and many of them; the window's borders fall anywhere."""
    rows = [{"_id": str(i), "text": chr(0xAC00 + i) * (700_000 if i % 5 == 0 else 3)} for i in range(12)]
    path = write(tmp_path / "a.json", json.dumps(rows, ensure_ascii=False, indent=1))
    assert [(d.doc_id, d.text) for d in read_documents(path)] == [(row["_id"], row["text"]) for row in rows]


def test_duplicates_are_found_however_far_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("ragvec.corpus.ids._RECENT_IDS", 500)
    count = 1_010
    lines = b"".join(b'{"_id":"%d","text":"a"}\n' % i for i in range(count))
    assert sum(1 for _ in read_documents(write(tmp_path / "a.jsonl", lines))) == count
    for repeated in (0, 500, count - 1):
        path = write(tmp_path / "b.jsonl", lines + b'{"_id":"%d","text":"b"}\n' % repeated)
        with pytest.raises(RagvecError, match=f"line {count + 1}: the id '{repeated}' was used before"):
            for _ in read_documents(path):
                pass


def test_the_sample_corpus_that_ships():
    from ragvec.data import data_path

    documents = read(data_path("corpus.jsonl"))
    by_language = {lang: [d for d in documents if d.metadata["lang"] == lang] for lang in ("en", "ko")}
    assert (len(documents), len(by_language["en"]), len(by_language["ko"])) == (137, 87, 50)
    assert all(d.title and d.metadata["topic"] and 80 < len(d.text) < 800 for d in documents)
    assert all(isinstance(d.metadata.get("year", 0), int) for d in documents)
    assert [d.doc_id for d in documents if "1443년" in d.text] == ["ko-hangul"]


@pytest.mark.parametrize("settled", [1, 1000])
def test_an_id_of_two_files_names_both_and_what_to_do(tmp_path, monkeypatch, settled):
    monkeypatch.setattr("ragvec.corpus.ids._RECENT_IDS", settled)
    for name in ("april.csv", "may.csv", "june.jsonl"):
        write(tmp_path / name, "id,text\n1,a\n" if name.endswith("csv") else b'{"id": "2", "text": "b"}\n')
    message = (
        f"{tmp_path / 'may.csv'}, line 2: the id '1' was used before, in {tmp_path / 'april.csv'}: ids must be unique in a "
        "corpus: name a field whose values differ (`id_field`), or put each row's file before its id (`id_prefix` '{file}/')"
    )
    with pytest.raises(RagvecError) as raised:
        list(read_documents(tmp_path, on_unread=lambda _: None))
    assert str(raised.value) == message
    write(tmp_path / "may.csv", "id,text\n3,a\n3,b\n")
    with pytest.raises(
        RagvecError, match=r"may.csv, line 3: the id '3' was used before: ids must be unique in a corpus: name a"
    ):
        list(read_documents(tmp_path, on_unread=lambda _: None))


@pytest.mark.parametrize(("name", "between"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_a_row_of_delimiters_alone_is_an_empty_line(tmp_path, name, between):
    rows = [["", "", ""], ["id", "title", "text"], ["1", "", "one"], ["", " ", ""], [], ["2", "", ""], ["", "", ""]]
    path = write(tmp_path / name, "\n".join(between.join(row) for row in rows))
    assert [(one.doc_id, one.text) for one in read(path)] == [("1", "one"), ("2", "")]
