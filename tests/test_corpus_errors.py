"""Rows that can't be read are kept in a quarantine file and the rest is read all the same; fields by name; reading ahead."""

import gzip
import json
import os
import threading
import time

import pytest

from ragvec.corpus import read_documents
from ragvec.corpus.ahead import read_ahead
from ragvec.corpus.quarantine import Quarantine
from ragvec.errors import RagvecError, WrongInput
from ragvec.records import Document


def quarantined(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read(path, rejects=None, **options) -> list[Document]:
    return list(read_documents(path, on_reject=rejects, **options))


def test_bad_rows_go_to_the_quarantine_and_the_rest_is_read(tmp_path):
    bad = [
        b'{"_id": "2", "text": }', b'{"_id": "3", "title": "no text"}', b'{"_id": "1", "text": "again"}', b"[1, 2]",
        b'{"_id": "5", "text": "caf\xe9"}', b'{"_id": "6", "text": "nul \\u0000"}', b'{"text": 7}',
        b'{"_id": "7", "text": "a", "m": ' + b"[" * 400 + b"]" * 400 + b"}",
    ]  # fmt: skip
    good = [b'{"_id": "1", "text": "one"}', b'{"_id": "9", "text": "\xec\x84\x9c\xec\x9a\xb8"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([good[0], *bad, good[1]]))
    with Quarantine(tmp_path / "q.jsonl") as rejects:
        assert read(tmp_path / "a.jsonl", rejects) == [Document("1", "one"), Document("9", "서울")]
    rows = quarantined(tmp_path / "q.jsonl")
    assert rejects.count == len(rows) == len(bad)
    assert [row["place"] for row in rows] == [f"{tmp_path / 'a.jsonl'}, line {number}" for number in range(2, 10)]
    said = [
        "bad JSON",
        "no text field",
        "was used before",
        "found an array",
        "not UTF-8",
        "a NUL",
        "must be a string",
        "as JSON",
    ]
    assert all(words in row["error"] for words, row in zip(said, rows, strict=True))
    assert rows[0]["record"] == bad[0].decode() and rows[1]["record"] == {"_id": "3", "title": "no text"}
    assert rows[4]["record"] == '{"_id": "5", "text": "caf\ufffd"}'


def test_what_the_quarantine_holds_can_be_mended_and_read(tmp_path):
    (tmp_path / "a.csv").write_text("_id,text\n1,a\n2,b,c\n3,\n")
    with Quarantine(tmp_path / "q.jsonl") as rejects:
        assert [document.doc_id for document in read(tmp_path / "a.csv", rejects)] == ["1", "3"]
    [row] = quarantined(tmp_path / "q.jsonl")
    assert row["record"] == ["2", "b", "c"] and row["error"].startswith(f"{tmp_path / 'a.csv'}, line 3: 3 fields where the")


def test_the_rest_of_a_file_that_breaks_off_is_skipped_and_the_next_file_read(tmp_path):
    whole = gzip.compress(b"".join(b'{"text": "%d"}\n' % i for i in range(5000)))
    (tmp_path / "a.jsonl.gz").write_bytes(whole[:-2000])
    (tmp_path / "b.json").write_text('[{"_id": "x", "text": "a"}, {"_id": ')
    (tmp_path / "c.jsonl").write_text('{"_id": "c", "text": "c"}\n')
    with Quarantine(tmp_path / "q" / "q.jsonl") as rejects:
        documents = read(tmp_path, rejects)
    assert [document.doc_id for document in documents][-2:] == ["x", "c"] and len(documents) > 100
    rows = quarantined(tmp_path / "q" / "q.jsonl")
    assert [row["place"].rpartition("/")[2] for row in rows] == ["a.jsonl.gz", "b.json"] and rejects.count == 2
    assert "is damaged after line" in rows[0]["error"] and "bad JSON" in rows[1]["error"]


def test_an_old_quarantine_does_not_outlive_its_errors(tmp_path):
    path = tmp_path / "a.jsonl"
    for line, left in (('{"txt": 1}\n', True), ("", False)):
        path.write_text('{"text": "a"}\n' + line)
        with Quarantine(tmp_path / "q.jsonl") as rejects:
            read(path, rejects)
        assert (tmp_path / "q.jsonl").exists() == left


@pytest.mark.parametrize("place", ["words", "link", "hard link", "pipe", "folder"])
@pytest.mark.parametrize("line", ["", '{"txt": 1}\n'])
def test_what_no_run_left_is_neither_written_over_nor_removed(tmp_path, place, line):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' + line)
    thesis, kept = tmp_path / "thesis", tmp_path / "q.jsonl"
    thesis.write_text('{"years": "of work"}')
    {
        "words": lambda: kept.write_bytes(thesis.read_bytes()),
        "link": lambda: kept.symlink_to(thesis),
        "hard link": lambda: kept.hardlink_to(thesis),
        "pipe": lambda: os.mkfifo(kept),
        "folder": lambda: kept.mkdir(),
    }[place]()
    with pytest.raises(WrongInput, match=r"q\.jsonl is no quarantine file that ragvec wrote: "), Quarantine(kept) as rejects:
        read(tmp_path / "a.jsonl", rejects)
    assert thesis.read_text() == '{"years": "of work"}' and os.path.lexists(kept)
    assert place not in ("words", "hard link") or kept.read_bytes() == thesis.read_bytes()


def test_nothing_readable_is_an_error_all_the_same(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n{}\n")
    with Quarantine(None) as rejects, pytest.raises(RagvecError, match="holds no documents that can be read: 2 were rejected"):
        read(tmp_path / "a.jsonl", rejects)


def test_a_quarantine_that_cannot_be_written(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    (tmp_path / "file").write_text("")
    with Quarantine(tmp_path / "file" / "q.jsonl") as rejects, pytest.raises(RagvecError, match="q.jsonl cannot be written: "):
        read(tmp_path / "a.jsonl", rejects)


def test_a_line_of_100_megabytes(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "' + b"word " * 20_000_000 + b'"}\n{"text": "b"}\n')
    assert [len(document.text) for document in read(path)] == [100_000_000, 1]


def test_fields_by_name(tmp_path):
    path = tmp_path / "a.jsonl"
    row = {"pmid": 12, "Abstract": "An abstract.", "body": ["One.", "Two."], "title": "T", "text": "not this", "year": 2020}
    path.write_text(json.dumps(row) + "\n")
    assert read(path, text_fields=("abstract", "body"), id_field="pmid") == [
        Document("12", "An abstract.\n\nOne.\n\nTwo.", "T", {"text": "not this", "year": 2020})
    ]
    assert read(path, text_fields=("title", "abstract"), id_field="pmid")[0].text == "T\n\nAn abstract."
    assert read(path, text_fields=("title", "abstract"), id_field="pmid")[0].title == ""
    with pytest.raises(RagvecError, match="line 1: no text in the fields a, b; fields seen: pmid, Abstract, body, title"):
        read(path, text_fields=("a", "b"))
    with pytest.raises(RagvecError, match="line 1: no id in field 'doi'; fields seen: pmid"):
        read(path, id_field="doi")


def test_reading_ahead_keeps_the_order_and_raises_errors_in_their_place():
    def items():
        yield from range(1000)
        raise RagvecError("line 1001")

    seen = []
    with pytest.raises(RagvecError, match="line 1001"):
        for item in read_ahead(items()):
            seen.append(item)
    assert seen == list(range(1000))
    assert list(read_ahead([])) == []


def test_reading_ahead_stays_within_its_bounds_and_stops_with_its_reader():
    produced = []

    def items():
        for number in range(100_000):
            produced.append(number)
            yield "x" * 500_000

    reader = read_ahead(items(), len)
    next(reader)
    time.sleep(0.3)
    assert len(produced) <= 3 * 11, "batches of 3, eight in the queue, one read, one being put"
    reader.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "read"]
