"""Corpora made to break the reader: one line of error that names the place, the rest is read, nothing hangs or leaks in."""

import gzip
import json
import os
import zlib

import pytest
import zstandard

from ragvec.corpus import count_documents, read_documents, to_passages
from ragvec.corpus.files import corpus_files, open_regular, path_text
from ragvec.corpus.quarantine import Quarantine
from ragvec.errors import RagvecError
from ragvec.evaluate.sets import read_clustering_sets, read_similarity_set
from ragvec.evaluate.trec import read_qrels, read_run, read_topics
from ragvec.records import Document
from ragvec.shards.parts import content_digest

GOOD = b'{"_id": "good", "text": "good"}\n'
LAST = b'{"_id": "last", "text": "last"}\n'
MEGABYTE = 1 << 20


def rejected_from(path, **options) -> tuple[list[str], list[str], list]:
    """The ids of what is read, and the errors and records of what is not."""
    rejects = []
    documents = [document.doc_id for document in read_documents(path, on_reject=rejects.append, **options)]
    return documents, [reject.error for reject in rejects], [reject.record for reject in rejects]


def zeros_zst(length: int) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(bytes(length))


# Links, pipes, devices


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "more.txt").write_text("secret")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.jsonl").write_bytes(GOOD)
    return corpus


def test_links_out_of_the_folder_pipes_and_devices_are_passed_over_by_name(folder):
    (folder / "link.txt").symlink_to("../secret.txt")
    (folder / "absolute.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "zero.txt").symlink_to("/dev/zero")
    (folder / "dangling.txt").symlink_to("nowhere.txt")
    (folder / "loop.txt").symlink_to("loop.txt")
    (folder / "folder").symlink_to("../secrets")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "key.txt").write_text("secret")
    (folder / "key.txt").symlink_to(".hidden/key.txt")
    os.mkfifo(folder / "pipe.jsonl")
    found = corpus_files(folder)
    assert found.paths == [folder / "a.jsonl"] and found.skipped == [] and found.within == folder
    names = ["absolute.txt", "dangling.txt", "folder", "key.txt", "link.txt", "loop.txt", "pipe.jsonl", "zero.txt"]
    assert [path.name for path in found.outside] == names
    assert [document.doc_id for document in read_documents(folder)] == ["good"]


def test_a_link_within_the_folder_is_read_and_the_source_may_be_a_link_itself(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "note.txt").write_text("a note")
    (folder / "link.txt").symlink_to("sub/note.txt")
    (folder.parent / "alias").symlink_to("corpus")
    for source in (folder, folder.parent / "alias", folder.parent / "alias" / "link.txt"):
        assert Document("link.txt", "a note", "link") in list(read_documents(source, metadata_fields=()))


def test_a_folder_of_nothing_but_links_says_so(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "b.txt").symlink_to("/etc/passwd")
    with pytest.raises(RagvecError, match="c holds no corpus file: .*; 1 lead out of it or are no regular files"):
        list(read_documents(tmp_path / "c"))


def test_beir_whose_corpus_is_a_link_out_does_not_give_its_queries_for_documents(folder):
    (folder / "corpus.jsonl").symlink_to("../secret.txt")
    (folder / "queries.jsonl").write_bytes(GOOD)
    with pytest.raises(RagvecError, match="holds no corpus file"):
        corpus_files(folder)


@pytest.mark.parametrize("parent", [False, True])
def test_a_file_that_becomes_a_link_after_it_was_found_is_not_read(folder, parent):
    (folder / "sub").mkdir()
    (folder / "sub" / "more.txt").write_text("public")
    stream = read_documents(folder)
    assert next(stream).doc_id == "good"  # the folder is listed by now
    (folder / "sub" / "more.txt").unlink()
    if parent:
        (folder / "sub").rmdir()
        (folder / "sub").symlink_to("../secrets")
    else:
        (folder / "sub" / "more.txt").symlink_to("../../secret.txt")
    with pytest.raises(RagvecError, match=r"more.txt has become a link out of the folder"):
        list(stream)


def test_pipes_and_devices_that_are_named_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    os.mkfifo(tmp_path / "pipe.parquet")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    for name in ("pipe.jsonl", "pipe.parquet", "zero.txt"):
        with pytest.raises(RagvecError, match=f"{name} is not a regular file: name one, or pass - and pipe"):
            list(read_documents(tmp_path / name))
    assert count_documents(tmp_path / "pipe.jsonl") is None


def test_a_file_that_vanishes_or_may_not_be_read_is_rejected_and_the_rest_is_read(folder, monkeypatch):
    (folder / "b.txt").write_text("b")
    (folder / "c.parquet").write_bytes(b"")
    (folder / "z.jsonl").write_bytes(LAST)
    rejects = []
    stream = read_documents(folder, on_reject=rejects.append)
    assert next(stream).doc_id == "good"
    (folder / "b.txt").unlink()
    (folder / "c.parquet").unlink()
    assert [document.doc_id for document in stream] == ["last"]
    assert [(reject.place, reject.error) for reject in rejects] == [
        (str(folder / name), f"{folder / name} cannot be read: No such file or directory") for name in ("b.txt", "c.parquet")
    ]


def test_a_subfolder_that_cannot_be_listed_is_an_error_or_rejected(folder, monkeypatch):
    (folder / "locked").mkdir()
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(RagvecError, match="locked cannot be listed: Permission denied"):
        list(read_documents(folder))
    documents, errors, _ = rejected_from(folder)
    assert documents == ["good"] and errors == [f"{folder / 'locked'} cannot be listed: Permission denied"]
    unread = []
    assert [document.doc_id for document in read_documents(folder, on_unread=unread.append)] == ["good"]
    assert [(one.error, one.folder) for one in unread] == [(f"{folder / 'locked'} cannot be listed: Permission denied", True)]
    for name in ("z.jsonl", "a.jsonl"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(RagvecError, match="locked cannot be listed: Permission denied"):
        list(read_documents(folder, on_unread=unread.append))


def test_names_that_are_no_text_or_more_than_a_line(tmp_path):
    corpus = tmp_path / "c"
    corpus.mkdir()
    (corpus / os.fsdecode(b"caf\xe9.txt")).write_text("coffee")
    (corpus / "two\nlines.txt").write_text("lines")
    (corpus / os.fsdecode(b"bad\xe9\n.jsonl")).write_bytes(b"{}\n" + GOOD)
    inputs = []
    with Quarantine(tmp_path / "q.jsonl") as rejects:
        documents = list(read_documents(corpus, on_reject=rejects, on_file=inputs.append))
    assert [document.doc_id for document in documents] == ["good", r"caf\xe9.txt", r"two\nlines.txt"]
    assert path_text("a\u202eb\u2066c\x1b[2Jd\u2028e") == r"a\u202eb\u2066c\x1b[2Jd\u2028e"
    [row] = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text(encoding="utf-8").splitlines()]
    assert row["place"] == rf"{corpus}/bad\xe9\n.jsonl, line 1"
    assert [file.path for file in inputs] == [
        rf"{corpus}/bad\xe9\n.jsonl",
        rf"{corpus}/caf\xe9.txt",
        rf"{corpus}/two\nlines.txt",
    ]


@pytest.mark.parametrize("name", ["x" * 300 + ".jsonl", "a\0b.jsonl", "x/" * 3000 + "a.jsonl"])
def test_names_that_no_file_can_have(tmp_path, name):
    with pytest.raises(RagvecError, match="does not exist"):
        list(read_documents(tmp_path / name))


def test_a_folder_named_like_a_file_is_a_folder(tmp_path):
    (tmp_path / "x.jsonl").mkdir()
    (tmp_path / "x.jsonl" / "part.jsonl").write_bytes(GOOD)
    (tmp_path / "y.parquet").mkdir()
    assert [document.doc_id for document in read_documents(tmp_path)] == ["good"]
    with pytest.raises(RagvecError, match="is not a regular file"):
        open_regular(tmp_path / "y.parquet")


# JSON


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("9" * 100_000, f"bad JSON: {'9' * 40}… is no finite number"),
        ("-" + "9" * 5000, f"bad JSON: -{'9' * 39}… is no finite number"),
        ("1e999", "bad JSON: 1e999 is no finite number"),
        ("Infinity", "bad JSON: Infinity is no finite number"),
        ("-Infinity", "bad JSON: -Infinity is no finite number"),
    ],
)
def test_numbers_that_nothing_holds_are_one_bad_row(tmp_path, value, said):
    (tmp_path / "a.json").write_text(
        f'[{{"_id": "a", "text": "a"}},\n{{"_id": "b", "text": "b", "n": {value}}},\n{{"text": "c"}}]'
    )
    documents, errors, _ = rejected_from(tmp_path / "a.json")
    assert documents[0] == "a" and len(documents) == 2
    assert errors == [f"{tmp_path / 'a.json'}, line 2: {said}"]
    (tmp_path / "a.jsonl").write_text(f'{{"_id": "a", "text": "a"}}\n{{"text": "b", "n": {value}}}\n{{"text": "c"}}\n')
    documents, errors, _ = rejected_from(tmp_path / "a.jsonl")
    assert len(documents) == 2 and len(errors) == 1 and "line 2: bad JSON" in errors[0]


def test_long_integers_are_the_same_in_json_and_json_lines(tmp_path):
    numbers = [2**63 - 1, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**30]
    row = json.dumps({"_id": "a", "text": "a", "n": numbers})
    read = []
    for name in ("a.json", "a.jsonl"):
        (tmp_path / name).write_text(row)
        [document] = read_documents(tmp_path / name)
        read.append(document.metadata["n"])
    assert read[0] == read[1] == [2**63 - 1, -(2**63), 2**64 - 1, float(2**64), -float(2**63), 1e30]
    assert [type(number) for number in read[0]] == [type(number) for number in read[1]] == [int] * 3 + [float] * 3


@pytest.mark.parametrize("depth", [240, 252, 253, 254, 255, 900, 1020, 20_000])
@pytest.mark.parametrize("opening", ["[", '{"x":'])
@pytest.mark.parametrize("field", ["m", "text", "_id"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_nesting_of_any_depth_ends_in_a_document_or_a_line_of_error(tmp_path, depth, opening, field, name):
    value = opening * depth + "1" + {"[": "]", "{": "}"}[opening[0]] * depth
    fields = {"_id": '"a"', "text": '"a"', field: value}
    row = "{" + ", ".join(f'"{key}": {value}' for key, value in fields.items()) + "}"
    (tmp_path / name).write_text(row + "\n")
    (tmp_path / "z.jsonl").write_bytes(GOOD)
    with Quarantine(tmp_path / "quarantine" / "q.jsonl") as rejects:
        documents = list(read_documents(tmp_path, on_reject=rejects))
    assert len(documents) + rejects.count == 2 and documents[-1].doc_id == "good"
    for document in documents:
        content_digest(list(to_passages([document])))  # it can be stored
    if rejects.count:
        [line] = (tmp_path / "quarantine" / "q.jsonl").read_text(encoding="utf-8").splitlines()
        assert f"{tmp_path / name}, line 1: " in json.loads(line)["error"] and len(json.loads(line)["error"]) < 500


@pytest.mark.parametrize(
    "fields",
    [
        '"m": "\\ud800"',
        '"\\ud800": 1',
        '"m": {"\\udfff": 1}',
        '"m": ["\\ud800"]',
        '"title": "\\ud800"',
        '"_id": "\\ud800"',
        '"metadata": {"x": "\\ud800"}',
    ],
)
def test_half_surrogate_pairs_anywhere_are_rejected_with_their_row(tmp_path, fields):
    (tmp_path / "a.json").write_text(f'[{{"text": "a", {fields}}}, {{"_id": "good", "text": "b"}}]')
    with Quarantine(tmp_path / "q") as rejects:
        documents = list(read_documents(tmp_path / "a.json", on_reject=rejects))
    assert [document.doc_id for document in documents] == ["good"] and rejects.count == 1
    assert "a.json, line 1: " in json.loads((tmp_path / "q").read_text(encoding="utf-8"))["error"]


def test_an_error_is_one_short_line_whatever_the_row_holds(tmp_path):
    rows = [
        {"a\nb\x1b[2J": 1, **{f"f{n}" * 100: n for n in range(2000)}},
        {"_id": ["x" * MEGABYTE] * 3, "text": "a"},
        {"text": {"x" * MEGABYTE: 1}},
        {"_id": "y" * MEGABYTE, "text": "a"},
        {"_id": "y" * MEGABYTE, "text": "again"},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    documents, errors, _ = rejected_from(tmp_path / "a.jsonl")
    assert len(documents) == 1 and len(errors) == 4
    assert all(len(error) < 600 and error.isprintable() for error in errors)


def test_what_a_quarantine_keeps_of_a_row_is_bounded(tmp_path):
    row = {f"key {number}": "x" * 10_000 for number in range(2000)}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n" + GOOD.decode())
    (tmp_path / "b.csv").write_text("a,b\n" + "x," * 3 * MEGABYTE + "\n")
    with Quarantine(tmp_path / "q") as rejects:
        list(read_documents(tmp_path, on_reject=rejects))
    assert rejects.count == 2 and 2 * MEGABYTE < (tmp_path / "q").stat().st_size < 3 * MEGABYTE


# CSV, and what only the progress bar reads


def test_nul_bytes_and_marks_in_csv_and_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf_id,text\n1,a\x00b\n2,c\n")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbf" + "한글".encode())
    (tmp_path / "c.txt").write_bytes("\ufefftext".encode("utf-16-le"))
    rejects = []
    documents = {document.doc_id: document.text for document in read_documents(tmp_path, on_reject=rejects.append)}
    assert documents == {"2": "c", "b.txt": "한글", "c.txt": "text"}
    [rejected] = rejects
    assert "a.csv, line 2: a NUL character at position 1" in rejected.error


def test_what_cannot_be_counted_is_not_counted_and_does_no_harm(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(GOOD)[:-9])
    assert count_documents(tmp_path) is None
    (tmp_path / "a.jsonl.gz").write_bytes(zlib.compress(GOOD))
    assert count_documents(tmp_path) is None


@pytest.mark.parametrize("read", [read_run, read_qrels, read_topics, read_similarity_set, read_clustering_sets])
def test_what_an_evaluation_reads_is_a_regular_file_within_bounds_too(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.tsv")
    with pytest.raises(RagvecError, match="pipe.tsv"):
        read(tmp_path / "pipe.tsv")
    header = b"" if read is read_run else b"query-id\tcorpus-id\tscore\tsentence1\tsentence2\tlabel\ttext\n"
    (tmp_path / "latin.tsv").write_bytes(header + b"1\tcaf\xe9" + b"\ta" * 5 + b"\n")
    with pytest.raises(RagvecError, match="latin.tsv.*: byte 0xe9 at .* is not UTF-8"):
        read(tmp_path / "latin.tsv")


def test_the_records_of_an_evaluation_may_be_compressed(tmp_path):
    (tmp_path / "run.trec.gz").write_bytes(gzip.compress(b"q Q0 d 1 0.5 tag\n"))
    assert read_run(tmp_path / "run.trec.gz") == {"q": {"d": 0.5}}


def test_a_header_of_many_columns_takes_time_by_its_length(tmp_path):
    """A comparison of each name with each would take minutes."""
    names = ",".join(f"c{number}" for number in range(100_000))
    (tmp_path / "a.csv").write_text(f"text,{names}\nthe words{',' * 100_000}\n")
    [document] = read_documents(tmp_path)
    assert (document.text, document.metadata) == ("the words", {"path": "a.csv"})
    (tmp_path / "a.csv").write_text(f"text,{names},c7\n")
    with pytest.raises(RagvecError, match="a.csv, line 1: the header names 'c7' twice: rename one$"):
        list(read_documents(tmp_path))
