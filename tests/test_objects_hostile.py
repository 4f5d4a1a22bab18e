"""Object storage that holds, or answers, what nobody expects: one line that says what, and nothing lost."""

import json
import sys
import urllib.request
from urllib.parse import quote

import pytest

from ragvec.corpus import read_documents
from ragvec.errors import Damaged, NotFound, RagvecError, WrongInput
from ragvec.objects import Bucket, as_path
from ragvec.shards import manifest_at, verify_shards
from tests.buckets import HEEDLESS_PROGRAMS, KEY_ID, SECRET, running, server
from tests.test_bulk import contents, encode, expected, passages
from tests.test_cli_encode import ragvec
from tests.test_objects import use

LINE = b'{"_id": "d1", "text": "text number 1"}\n'


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with server("moto", tmp_path_factory.mktemp("moto")) as port:
        yield port


@pytest.fixture
def place(port, tmp_path, monkeypatch):
    """A URL in an empty folder of a bucket."""
    return use(port, tmp_path, monkeypatch).removesuffix("/shards")


@pytest.mark.parametrize("program", HEEDLESS_PROGRAMS)
def test_programs_that_heed_no_condition_are_refused(program, tiny_decoder, tmp_path, monkeypatch, capsys):
    """The real ones; moto without its conditions is in tests/test_objects.py."""
    (tmp_path / "served").mkdir()
    (tmp_path / "corpus.jsonl").write_bytes(b"".join(b'{"_id": "%d", "text": "text number %d"}\n' % (n, n) for n in range(20)))
    with server(program, tmp_path / "served") as port:
        place = use(port, tmp_path, monkeypatch)
        words = ["encode", tmp_path / "corpus.jsonl", "-o", place, "-e", tiny_decoder, "--device", "cpu", "--part-rows", "8"]
        code, out, err = ragvec(capsys, *words)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith(f"error: the store of {place} lets two writers") and "say --single-writer" in err
        assert Bucket(place).names("") == {}
        if program == "rclone":  # 1.75.2 answers byte ranges with status 200, which obstore does not take
            code, out, err = ragvec(capsys, *words, "--single-writer")
            assert (code, out) == (1, "") and "does not answer byte ranges as S3 does (status 206)" in err
            assert Bucket(place).names("") == {} and err.count("\n") == 1
            return
        for kept in (0, 20):
            code, out, err = ragvec(capsys, *words, "--single-writer")
            report = json.loads(out)
            assert (code, err, report["kept"], report["encoded"], report["complete"]) == (0, "", kept, 20 - kept, True)
        assert verify_shards(place) == [] and len(manifest_at(place).parts) == 3
        assert KEY_ID not in out + err and SECRET not in out + err


def put(port: int, place: str, name: str, data: bytes = LINE) -> None:
    """Write an object of a name that obstore would not."""
    url = f"http://127.0.0.1:{port}/{quote(place.removeprefix('s3://') + '/' + name)}"
    request = urllib.request.Request(url, data, {"Content-Type": "application/octet-stream"}, method="PUT")
    urllib.request.urlopen(request).close()


@pytest.mark.parametrize("name", ["../up.jsonl", "a/../b.jsonl", "/lead.jsonl", "a//b.jsonl", "./dot.jsonl", "bell\x07.jsonl"])
def test_an_object_whose_name_is_no_path_is_named(name, port, place):
    put(port, place, "good.jsonl")
    put(port, place, name)
    with pytest.raises(WrongInput, match=r"holds an object that can't be read, '.*rename or remove it") as error:
        list(read_documents(place))
    assert f"{place.removeprefix('s3://bucket/')}/{name!r:.200}"[:-1].replace("'", "") in str(error.value)
    assert str(error.value).isprintable()


def test_what_marks_a_folder_is_no_file(port, place):
    """Spark's `out.parquet/`, and folders that a console has made."""
    for name in ("out.parquet/", "out.parquet/_SUCCESS", "a.pdf/", "alone.jsonl/"):
        put(port, place, name, b"")
    put(port, place, "out.parquet/part-0.jsonl")
    assert [document.doc_id for document in read_documents(place)] == ["d1"]


@pytest.mark.parametrize("url", ["s3://bucket/a//b", "s3://bucket/a/../b", "gs://b/./x", "az://b/x\x1b[1m", "s3://bucket/a\nb"])
def test_a_url_that_a_path_would_change_is_refused(url):
    with pytest.raises(WrongInput, match="can't be read: between two / stands a name") as error:
        as_path(url)
    assert str(error.value).isprintable()


def test_a_url_that_is_none_is_not_repeated():
    with pytest.raises(WrongInput, match="this is no URL of object storage"):
        as_path(f"s3://{KEY_ID}:secret@[x/y")


def test_a_manifest_that_is_none_can_be_overwritten(place):
    encode(passages(30), place)
    Bucket(place).put("manifests/00000001.json", b"nonsense")
    with pytest.raises(Damaged, match="encode again with `ragvec encode --overwrite`"):
        encode(passages(30), place)
    assert encode(passages(30), place, overwrite=True).complete and contents(place) == expected(passages(30))
    assert sorted(Bucket(place).names("manifests/")) == ["manifests/00000001.json", "manifests/00000002.json"]


def test_manifests_go_on_after_the_last_of_eight_digits(place):
    encode(passages(30), place)
    bucket = Bucket(place)
    bucket.put("manifests/99999999.json", bucket.read("manifests/00000001.json"))
    encode(passages(40), place)
    assert contents(place) == expected(passages(40))


@pytest.mark.parametrize(("change", "said"), [
    ({"name": "../../other/x.parquet"}, "a part is called"), ({"sha256": "0" * 64}, "it belongs to another part"),
    ({"content_digest": "0" * 32}, "it belongs to another part"), ({"rows": -1}, "rows"), (b"", "empty document"),
    (b"\xff\x00", "not valid UTF-8"), (b"[" * 5000, "depth limit"), (b" " * (1 << 24) + b"{}", "16,777,218 bytes"),
], ids=["elsewhere", "bytes", "digest", "negative", "empty", "binary", "nested", "huge"])  # fmt: skip
def test_a_record_that_is_none_is_named_and_never_followed(change, said, place):
    """A run that did not end, over whose records somebody has written."""
    encode(passages(30), place)
    bucket = Bucket(place)
    record = sorted(bucket.names("records/"))[0]
    written = change if isinstance(change, bytes) else json.dumps({**json.loads(bucket.read(record)), **change}).encode()
    bucket.put(record, written)
    bucket.remove(["manifests/00000001.json"])
    with pytest.raises(RagvecError, match=f"{record}.*{said}") as error:
        encode(passages(30), place)
    assert "\n" not in str(error.value)
    bucket.remove([record])
    assert encode(passages(30), place).encoded == 10 and contents(place) == expected(passages(30))


STORE = """
import http.server, io, sys
from urllib.parse import urlsplit

import pyarrow as pa, pyarrow.parquet as pq


def lines(name):
    return b"".join(b'{"_id": "%s%d", "text": "text"}\\n' % (name, n) for n in range(100))


pq.write_table(pa.table({"text": ["text"] * 10}), table := io.BytesIO())
OBJECTS = {"c/a.jsonl": lines(b"a"), "c/b.jsonl": lines(b"b"), "c/c.parquet": table.getvalue(), "c/d.md": b"words"}
OTHERS = {"outside": "elsewhere/secret.jsonl"}  # that a listing has, too


class Store(http.server.BaseHTTPRequestHandler):
    def answer(self, code, body, **headers):
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        asked = urlsplit(self.path)
        way, _, name = asked.path[1:].partition("/")
        if "list-type" in asked.query:
            names = [*OBJECTS, *filter(None, [OTHERS.get(way)])]
            found = "".join(
                f'<Contents><Key>{name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"1"</ETag>'
                f"<Size>{len(OBJECTS.get(name, b'1'))}</Size></Contents>" for name in names
            )
            return self.answer(200, f"<ListBucketResult>{found}</ListBucketResult>".encode())
        body, about = OBJECTS[name], {"ETag": '"1"', "Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        way, _, only = way.partition("-")
        if not name.endswith(only) or way == "honest":
            way = ""
        if way == "denied":
            return self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        if "Range" not in self.headers or way == "whole":
            return self.answer(200, body, **about)
        if way == "elsewhere":
            return self.answer(302, b"", Location="file:///etc/passwd")
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        piece = body[first : last + 1]
        about["Content_Range"] = f"bytes {first}-{first + len(piece) - 1}/{len(body)}"
        if way == "changed":
            about["ETag"] = '"2"'
        self.answer(206, piece[: len(piece) // 2 if way == "short" else None] + piece * (way == "longer"), **about)

    do_HEAD = do_GET


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Store).serve_forever()
"""


@pytest.fixture(scope="module")
def strange_port():
    pytest.importorskip("obstore", reason="pip install 'ragvec[s3]'")
    with running([sys.executable, "-c", STORE]) as port:
        yield port


@pytest.mark.parametrize(("way", "said"), [
    ("outside", "the store lists 'elsewhere/secret.jsonl' below s3://outside/c"),
    ("whole", r"a.jsonl is out of reach \(NotPartial\)"),
    ("elsewhere", r"a.jsonl is out of reach \(302\)"), ("changed", "a.jsonl was replaced while it was read"),
    ("short", "a.jsonl was replaced while it was read"), ("longer", "a.jsonl was replaced while it was read"),
    ("denied-b.jsonl", r"b.jsonl is denied \(403\)"), ("denied-parquet", "c.parquet is denied"),
    ("denied-md", "d.md is denied"), ("whole-b.jsonl", "b.jsonl is out of reach"), ("whole-parquet", "c.parquet is out of"),
    ("changed-parquet", "c.parquet was replaced while it was read"), ("changed-md", "d.md was replaced while it was read"),
])  # fmt: skip
def test_what_a_store_answers_is_not_believed_and_no_object_passed_over(way, said, strange_port, tmp_path, monkeypatch):
    """Neither where files of a folder that can't be read are passed over, nor where bad rows are: others would follow."""
    use(strange_port, tmp_path, monkeypatch)
    passed: list = []
    for heard in ({"on_unread": passed.append}, {"on_reject": passed.append}):
        assert len(list(read_documents("s3://honest/c", **heard))) == 211 and passed == []
        with pytest.raises(RagvecError, match=said) as error:
            list(read_documents(f"s3://{way}/c", **heard))
        assert passed == [] and "\n" not in str(error.value) and KEY_ID not in str(error.value)


def test_thousands_of_small_objects_are_one_corpus(port, place):
    """More than a listing's page, which has a thousand."""
    bucket = Bucket(place)
    for number in range(1100):
        bucket.put(f"{number:04}.txt", b"%d" % number)
    assert [int(document.text) for document in read_documents(place)] == list(range(1100))
    with pytest.raises(NotFound):
        manifest_at(place)
