"""Shards in object storage, against real servers: what lands there, what a change or a kill costs, what is refused."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ragvec.errors import Busy, Damaged, NotFound, RagvecError, WrongInput
from ragvec.ingest import Rank
from ragvec.objects import Bucket, ObjectFile, ObjectPath, as_path, is_url
from ragvec.records import Passage
from ragvec.shards import Shards, manifest_at, verify_shards
from tests.buckets import (
    AZURITE_KEY,
    CLEARED,
    KEY_ID,
    SECRET,
    azure_environment,
    azurite,
    environment,
    google_environment,
    server,
)
from tests.test_bulk import ROWS, HashEncoder, Stops, contents, encode, expected, passages

ROOT = Path(__file__).resolve().parent.parent
BOTH = pytest.mark.parametrize("port", ["moto", "localbucket"], indirect=True)


@pytest.fixture(scope="module")
def port(request, tmp_path_factory):
    kind = getattr(request, "param", "moto")
    with server(kind, tmp_path_factory.mktemp(kind)) as port:
        yield port


@pytest.fixture
def place(port, tmp_path, monkeypatch):
    """A URL in an empty folder of a bucket."""
    return use(port, tmp_path, monkeypatch)


def use(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in CLEARED:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment(port).items():
        monkeypatch.setenv(name, value)
    from ragvec.objects import bucket

    bucket.store_of.cache_clear()  # of another server's address
    return f"s3://bucket/{tmp_path.name}/shards"


def names(place: str) -> list[str]:
    return sorted(Bucket(place).names(""))


def changed(corpus: list[Passage]) -> list[Passage]:
    return [Passage(p.passage_id, p.doc_id, f"{p.text} new") if i % 100 == 7 else p for i, p in enumerate(corpus)]


@BOTH
def test_a_corpus_becomes_objects_and_one_manifest_last(place):
    report = encode(passages(35), place)
    assert (report.folder, report.rows, report.encoded, report.parts, report.complete) == (place, 35, 35, 4, True)
    manifest = manifest_at(place)
    key = manifest.parts[0].name.split("/")[1]
    parts = [f"parts/{key}/{part.sha256[:32]}.parquet" for part in manifest.parts]
    records = [f"records/{key}/{part.content_digest}.json" for part in manifest.parts]
    assert [part.name for part in manifest.parts] == parts and manifest.complete
    assert names(place) == sorted(["manifests/00000001.json", *parts, *records])
    assert contents(place) == expected(passages(35)) and verify_shards(place) == []
    again = HashEncoder()
    assert encode(passages(35), place, again).kept == 35 and again.seen == []
    assert names(place) == sorted(["manifests/00000001.json", *parts, *records])


def test_a_change_of_one_in_a_hundred_encodes_only_that(place):
    corpus = passages(200)
    encode(corpus, place)
    encoder = HashEncoder()
    report = encode(changed(corpus), place, encoder)
    assert encoder.seen == ["text number 7 new", "text number 107 new"]
    assert (report.kept, report.reused, report.encoded) == (180, 18, 2)
    assert contents(place) == expected(changed(corpus))
    assert [name for name in names(place) if name.startswith("manifests/")] == [f"manifests/0000000{n}.json" for n in (1, 2)]
    assert len(names(place)) == 2 + 2 * 20  # what the first manifest alone named is gone


def test_a_run_that_was_stopped_goes_on_where_it_stood(place):
    with pytest.raises(KeyboardInterrupt):
        encode(passages(100), place, Stops(50))
    with pytest.raises(WrongInput, match=r"is not finished \(5 parts so far\): run the same `ragvec encode`"):
        Shards.open(place)
    report = encode(passages(100), place)
    assert (report.kept, report.encoded, contents(place)) == (50, 50, expected(passages(100)))


def test_a_run_that_was_stopped_and_whose_corpus_changed_keeps_its_vectors(place):
    with pytest.raises(KeyboardInterrupt):
        encode(passages(100), place, Stops(50))
    corpus = [Passage("new", "new", "new"), *passages(100)]
    report = encode(corpus, place)
    assert (report.reused, report.encoded, contents(place)) == (50, 51, expected(corpus))


@pytest.mark.parametrize("how", ["removed", "cut"])
def test_a_broken_object_is_made_again_alone(place, how):
    encode(passages(50), place)
    name = manifest_at(place).parts[2].name
    bucket = Bucket(place)
    bucket.remove([name]) if how == "removed" else bucket.put(name, bucket.read(name)[:-1])
    with pytest.raises(Damaged, match="is missing" if how == "removed" else "bytes instead of"):
        Shards.open(place)
    assert [line.split(name)[1] for line in verify_shards(place)] == [" is missing" if how == "removed" else " is damaged"]
    report = encode(passages(50), place)
    assert (report.damaged, report.kept, report.encoded) == (1, 40, 10)
    assert verify_shards(place) == [] and contents(place) == expected(passages(50))


def test_a_passage_that_fails_is_tried_again(place):
    corpus = passages(30)
    assert encode(corpus, place, HashEncoder(poison=corpus[13].text)).failed == 1
    assert [failure.passage_id for failure in manifest_at(place).failed] == ["d13"]
    report = encode(corpus, place)
    assert (report.kept, report.encoded, report.failed, contents(place)) == (20, 1, 0, expected(corpus))


def test_ranks_share_a_corpus_and_the_last_makes_the_manifest(place):
    first = encode(passages(100), place, rank=Rank(1, 2))
    assert (first.complete, first.rows, first.encoded) == (False, 50, 50)
    with pytest.raises(WrongInput, match="not finished"):
        manifest_at(place)
    last = encode(passages(100), place, rank=Rank(0, 2))
    assert (last.complete, last.rows, last.encoded, contents(place)) == (True, 50, 50, expected(passages(100)))
    assert encode(passages(100), place).kept == 100


def test_what_a_lost_rank_has_not_made_any_run_makes(place):
    encode(passages(100), place, rank=Rank(1, 3))
    with pytest.raises(KeyboardInterrupt):
        encode(passages(100), place, Stops(20), rank=Rank(2, 3))
    report = encode(passages(100), place)
    assert (report.kept, report.encoded, report.complete) == (50, 50, True) and contents(place) == expected(passages(100))


def test_other_vectors_are_refused_and_overwrite_replaces_them(place):
    encode(passages(30), place)
    with pytest.raises(WrongInput, match="holds vectors made with dtype 'float16', this run has 'float32'"):
        encode(passages(30), place, dtype="float32")
    encode(passages(30), place, dtype="float32", overwrite=True)
    assert (manifest_at(place).dtype, len(names(place))) == ("float32", 2 + 6)
    assert encode(passages(30), place, dtype="float32", overwrite=True).encoded == 30


@BOTH
def test_two_writers_of_one_corpus_end_well_with_one_manifest(place):
    reports, errors = [], []

    def run() -> None:
        try:
            reports.append(encode(passages(100), place))
        except RagvecError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (errors, [report.complete for report in reports]) == ([], [True, True])
    assert [name for name in names(place) if name.startswith("manifests/")] == ["manifests/00000001.json"]
    assert contents(place) == expected(passages(100)) and verify_shards(place) == []


def test_a_writer_of_another_corpus_that_comes_second_is_told(place):
    class Meanwhile(HashEncoder):
        def encode_counted(self, texts, **options):
            if not self.seen:
                encode(passages(20, first=1000), place)
            return super().encode_counted(texts, **options)

    with pytest.raises((Busy, RagvecError), match="written by another run meanwhile|removed meanwhile"):
        encode(passages(20), place, Meanwhile())
    assert contents(place) == expected(passages(20, first=1000))


KILLER = """
import os, random, signal, sys, time
from tests.test_bulk import encode
from tests.test_bulk_survival import Slow, generation

place, log, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
chance = random.Random(kills)


def start(number):
    child = os.fork()  # the libraries are imported once, and each run still dies as a process does
    if child == 0:
        encode(generation(number), place, Slow(log))
        os._exit(0)
    return child


killed = number = 0
while killed < kills:
    child = start(number)
    time.sleep(chance.uniform(0, 2))  # by time, not by texts: a change of the corpus encodes few, and takes as long
    os.kill(child, signal.SIGKILL)  # which does nothing to one that has ended
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    killed += code != 0
    number += code == 0  # this corpus is done: the next is a little different
assert os.waitpid(start(number), 0)[1] == 0
print(number)
"""


@BOTH
@pytest.mark.slow
@pytest.mark.parametrize("kills", [30])
def test_killed_at_random_the_shards_equal_an_uninterrupted_run(place, tmp_path, kills):
    """A process is killed while it encodes; the corpus changes a little once a run has come to its end."""
    from ragvec.ingest.run import PARTS_AHEAD
    from tests.test_bulk_survival import generation

    log = tmp_path / "log"
    command = [sys.executable, "-c", KILLER, place, str(log), str(kills)]
    number = int(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=600).stdout)
    corpus = generation(number)
    assert contents(place) == expected(corpus) and verify_shards(place) == []
    needed = {passage.text for each in range(number + 1) for passage in generation(each)}
    assert len(log.read_text().splitlines()) <= len(needed) + kills * PARTS_AHEAD * ROWS
    assert len([name for name in names(place) if name.startswith("parts/")]) == len(manifest_at(place).parts)


@contextmanager
def elsewhere(kind: str, folder: Path) -> Iterator[dict[str, str]]:
    """The variables that lead to a server for az:// (azurite, Microsoft's own emulator) or gs:// (`GOOGLES` over moto)."""
    if kind == "az":
        with azurite() as port:
            yield azure_environment(port)
    else:
        with server("googles", folder) as port:
            yield google_environment(port)


@pytest.mark.parametrize("kind", [pytest.param("az", marks=pytest.mark.slow), "gs"])
def test_other_clouds_are_written_shared_and_read(kind, tmp_path, monkeypatch):
    """Two writers, a change, a broken object."""
    with elsewhere(kind, tmp_path) as variables:
        for name in CLEARED:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        place = f"{kind}://bucket/folder/shards"
        corpus = passages(100)
        threads = [threading.Thread(target=encode, args=(corpus, place)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert contents(place) == expected(corpus) and verify_shards(place) == []
        assert [name for name in names(place) if name.startswith("manifests/")] == ["manifests/00000001.json"]
        report = encode(changed(corpus), place)
        assert (report.kept + report.reused, report.encoded, contents(place)) == (99, 1, expected(changed(corpus)))
        assert [Bucket(place).create("once", data) for data in (b"1", b"2")] == [True, False]
        Bucket(place).remove(["once"])
        Bucket(place).put(manifest_at(place).parts[0].name, b"broken")
        with pytest.raises(Damaged, match="6 bytes instead of"):
            Shards.open(place)
        stored = b"".join(Bucket(place).read(name) for name in names(place))
        assert AZURITE_KEY.encode() not in stored


def test_a_file_of_an_object_reads_as_the_bytes_do(place):
    data = os.urandom(5_000_000)
    bucket = Bucket(place)
    bucket.put("x.bin", data)
    with ObjectFile(bucket.path / "x.bin") as file:
        assert file.read(10) == data[:10] and file.seek(-5, 2) == len(data) - 5
        assert file.read(100) == data[-5:] and file.read(1) == b""
        file.seek(100_000)
        assert file.read(4_500_000) == data[100_000:4_600_000] and file.tell() == 4_600_000
        file.seek(0)
        bucket.put("x.bin", data[::-1])
        with pytest.raises(Damaged, match="x.bin was replaced while it was read"):
            file.read()


@BOTH
def test_create_is_once_only_and_what_is_missing_is_not_found(place):
    bucket = Bucket(place)
    assert [bucket.create("once", data) for data in (b"1", b"2")] == [True, False] and bucket.read("once") == b"1"
    assert (bucket.size("once"), bucket.size("never")) == (1, None)
    with pytest.raises(NotFound, match=r"/never is not there \(NoSuchKey\)"):
        bucket.read("never")
    bucket.remove(["once", "never"])
    assert names(place) == []


def test_credentials_are_nowhere(place, capfd):
    encode(passages(30), place, log=(logged := []).append)
    stored = b"".join(Bucket(place).read(name) for name in names(place))
    said = json.dumps(logged) + json.dumps(manifest_at(place).describe()) + "".join(capfd.readouterr())
    for text in (KEY_ID, SECRET):
        assert text.encode() not in stored and text not in said


@pytest.fixture(scope="module")
def heedless_port(tmp_path_factory):
    with server("heedless", tmp_path_factory.mktemp("heedless")) as port:
        yield port


def test_a_store_that_heeds_no_condition_is_refused(heedless_port, tmp_path, monkeypatch):
    place = use(heedless_port, tmp_path, monkeypatch)
    with pytest.raises(WrongInput, match="does not heed If-None-Match.*`single_writer`"):
        encode(passages(30), place)
    assert names(place) == []
    report = encode(passages(30), place, single_writer=True)
    assert (report.encoded, contents(place)) == (30, expected(passages(30)))
    assert encode(passages(30), place, single_writer=True).kept == 30


DENIES = """
import http.server, sys


class Denies(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        about = self.headers.get("Authorization", "") + " STRINGTOSIGN"
        body = f"<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>{about}</AWSAccessKeyId></Error>".encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_HEAD = do_POST = do_GET


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Denies).serve_forever()
"""


def test_a_store_that_quotes_the_request_is_not_quoted(tmp_path, monkeypatch):
    pytest.importorskip("obstore", reason="pip install 'ragvec[s3]'")
    from tests.buckets import running

    with running([sys.executable, "-c", DENIES]) as port:
        place = use(port, tmp_path, monkeypatch)
        with pytest.raises(RagvecError, match="check the bucket's name, and address, region and credentials") as error:
            encode(passages(30), place)
    assert "SignatureDoesNotMatch" in str(error.value) and "\n" not in str(error.value)
    cause = error.value
    while cause is not None:
        assert KEY_ID not in str(cause) and "STRINGTOSIGN" not in str(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


@pytest.mark.parametrize(
    "url",
    [
        f"s3://{KEY_ID}:{SECRET}@bucket/x", f"s3://{KEY_ID}@bucket/x", f"gs://bucket/x?X-Goog-Signature={SECRET}",
        f"az://bucket/x?sig={SECRET}", f"s3://bucket/x#{SECRET}",
    ],
)  # fmt: skip
def test_a_url_with_credentials_is_refused_and_not_repeated(url):
    with pytest.raises(WrongInput, match="must hold bucket and path alone") as error:
        as_path(url)
    assert KEY_ID not in str(error.value) and SECRET not in str(error.value)


def test_urls_are_paths():
    path = as_path("s3://bucket/folder/part.jsonl.gz")
    assert isinstance(path, ObjectPath) and str(path) == "s3://bucket/folder/part.jsonl.gz"
    assert (path.root_url, path.key, path.name, path.suffix) == ("s3://bucket", "folder/part.jsonl.gz", "part.jsonl.gz", ".gz")
    assert path.relative_to(as_path("s3://bucket/folder")).as_posix() == "part.jsonl.gz"
    assert str(as_path("gs://bucket") / "a") == "gs://bucket/a" and as_path("az://box/").key == ""
    assert not is_url("folder/s3") and as_path("folder") == Path("folder")
    with pytest.raises(WrongInput, match="names no bucket"):
        as_path("s3:///x")


def test_a_request_whose_time_ran_out_while_the_process_stood_still_is_made_once_more(monkeypatch):
    exceptions = pytest.importorskip("obstore").exceptions
    from ragvec.objects import bucket

    answers = [exceptions.GenericError("slept"), "there", exceptions.GenericError("down")]

    def ask():
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    monkeypatch.setattr(bucket, "_PATIENCE_S", 0)
    assert bucket.patient(ask) == "there"
    monkeypatch.undo()
    with pytest.raises(exceptions.GenericError, match="down"):
        bucket.patient(ask)
