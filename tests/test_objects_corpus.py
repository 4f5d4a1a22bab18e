"""Corpora in object storage, and the command line on URLs: what is read, what is passed over, what is said."""

import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ragvec.corpus import read_documents
from ragvec.corpus.files import InputFile, corpus_files
from ragvec.corpus.kinds import FileChoice
from ragvec.errors import NotFound, Unavailable, WrongInput
from ragvec.index import Index
from ragvec.objects import Bucket
from ragvec.shards import Shards, manifest_at
from tests.buckets import KEY_ID, SECRET, server
from tests.test_objects import use


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with server("moto", tmp_path_factory.mktemp("moto")) as port:
        yield port


@pytest.fixture
def bucket(port, tmp_path, monkeypatch):
    """An empty folder of a bucket."""
    return Bucket(use(port, tmp_path, monkeypatch).removesuffix("/shards"))


def lines(*numbers: int) -> bytes:
    return b"".join(b'{"_id": "d%d", "text": "text number %d", "year": %d}\n' % (n, n, 2000 + n) for n in numbers)


def test_a_folder_of_objects_is_read_as_a_folder_of_files_is(bucket, tmp_path):
    table = pa.table({"_id": ["p1"], "text": ["from parquet"]})
    pq.write_table(table, tmp_path / "t.parquet")
    objects = {
        "a.jsonl": lines(1, 2), "b/c.jsonl.gz": gzip.compress(lines(3)), "b/d.jsonl.zst": zstandard.compress(lines(4)),
        "e.parquet": (tmp_path / "t.parquet").read_bytes(), "note.md": b"# Title\n\nwords", ".hidden/x.jsonl": lines(5),
        "photo.jpg": b"\xff", "x.quarantine.jsonl": lines(6), "old/manifests/00000001.json": b"{}",
        "old/parts/y.jsonl": lines(7),
        "drafts/z.jsonl": lines(8), "beir/corpus.jsonl": lines(9), "beir/queries.jsonl": lines(10),
        "beir/more/q.jsonl": lines(11),
    }  # fmt: skip
    for name, data in objects.items():
        bucket.put(f"corpus/{name}", data)
    root = f"{bucket}/corpus"
    choice = FileChoice(exclude=("drafts/",))
    found = corpus_files(root, choice)
    read = ["a.jsonl", "b/c.jsonl.gz", "b/d.jsonl.zst", "beir/corpus.jsonl", "e.parquet", "note.md"]
    assert [str(path) for path in found.paths] == [f"{root}/{name}" for name in read]
    assert [str(path) for path in found.skipped] == [f"{root}/old", f"{root}/photo.jpg"]
    inputs: list[InputFile] = []
    documents = {document.doc_id: document for document in read_documents(root, files=choice, on_file=inputs.append)}
    assert list(documents) == ["d1", "d2", "d3", "d4", "d9", "p1", "note.md"]
    about = documents["note.md"]
    assert (about.title, about.text, about.metadata["path"], about.metadata["size"]) == ("Title", "words", "note.md", 14)
    assert about.metadata["mtime"].startswith("20") and about.metadata["kind"] == "md"
    assert {item.path: item.bytes for item in inputs} == {f"{root}/{name}": len(objects[name]) for name in read}
    assert [len(item.sha256) for item in inputs] == [64, 64, 64, 64, 0, 64] and inputs[4].etag


def test_what_is_named_itself_must_be_readable(bucket):
    bucket.put("one.jsonl", lines(1))
    bucket.put("bad.jsonl", b'{"_id": "1", "text": "good"}\n{"text": \n')
    bucket.put("x.jpg", b"x")
    bucket.put("s/manifests/00000001.json", b"{}")
    assert [document.doc_id for document in read_documents(f"{bucket}/one.jsonl")] == ["d1"]
    with pytest.raises(WrongInput, match=rf"{bucket}/bad.jsonl, line 2: bad JSON"):
        list(read_documents(f"{bucket}/bad.jsonl"))
    with pytest.raises(NotFound, match=rf"{bucket}/nothing does not exist: name an object"):
        list(read_documents(f"{bucket}/nothing"))
    with pytest.raises(WrongInput, match="holds no corpus file"):
        corpus_files(f"{bucket}/x.jpg")
    with pytest.raises(WrongInput, match="was written by ragvec and is not a corpus"):
        corpus_files(f"{bucket}/s")
    with pytest.raises(Unavailable, match=r"x.jsonl is out of reach \(NoSuchBucket\): check the bucket's name"):
        corpus_files("s3://nobody-has-this/x.jsonl")


def test_a_large_object_is_never_held_whole(bucket):
    """Twelve megabytes that are read four at a time."""
    import tracemalloc

    line = b'{"text": "%s"}\n' % (b"x" * 1000)
    bucket.put("large.jsonl", line * 12_000)
    tracemalloc.start()
    try:
        count = sum(1 for document in read_documents(f"{bucket}/large.jsonl") if document.text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 12_000 and peak < 10 << 20


def test_from_a_bucket_to_a_bucket_to_an_index(bucket, tmp_path, capfd, monkeypatch):
    from ragvec.cli.main import main

    def ragvec(*words: str) -> tuple[int, str, str]:
        try:
            code = main(list(words)) or 0
        except SystemExit as ended:
            code = ended.code
        return code, *capfd.readouterr()

    monkeypatch.chdir(tmp_path)
    bucket.put("corpus/a.jsonl", lines(*range(20)) + b"nonsense\n")
    shards = f"{bucket}/shards"
    options = ["--part-rows", "8", "--on-error", "skip", "--log-json", "log"]
    code, out, err = ragvec("encode", f"{bucket}/corpus/", "-o", shards, *options)
    report = json.loads(out)
    assert (code, report["rows"], report["parts"], report["folder"]) == (0, 20, 3, shards)
    assert sorted(os.listdir(tmp_path)) == ["log", "shards.quarantine.jsonl"]
    said = out + err + (tmp_path / "log").read_text()
    manifest = manifest_at(shards)
    assert [item.path for item in manifest.inputs] == [f"{bucket}/corpus/a.jsonl"] and manifest.rejected == 1
    code, out, err = ragvec("info", shards)
    described = json.loads(out)
    assert (code, described["kind"], described["path"], described["rows"]) == (0, "shards", shards, 20)
    said += out + err
    code, out, err = ragvec("doctor", shards, "--json")
    checks = {check["name"]: check["state"] for check in map(json.loads, out.splitlines()) if check["area"] == "shards"}
    assert (checks["complete"], checks["checksums"], checks["vectors"]) == ("ok", "ok", "ok")
    said += out + err
    code, out, err = ragvec("index", shards, "-o", "index")
    assert code == 0 and out.startswith("index: 20 documents added"), out
    said += out + err
    with Index.open(tmp_path / "index") as index:
        assert len(index) == 20 and [source["source"] for source in index.sources()] == [shards]
    code, out, err = ragvec("index", f"{bucket}/corpus", "-o", "other", "--on-error", "skip")
    assert code == 0 and len(Index.open(tmp_path / "other")) == 20
    said += out + err
    assert ragvec("info", f"{bucket}/none")[0] == 1 and ragvec("encode", f"{bucket}/corpus", "-o", "s3://u:p@x/y")[0] == 1
    assert KEY_ID not in said and SECRET not in said
    assert len(Shards.open(shards)) == 20
