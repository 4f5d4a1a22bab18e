"""`ragvec search` with and without a running server: the same hits, no encoder loaded, and never another index's answer."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.records import Document
from ragvec.serve.advert import ADVERT_NAME, Advert, advertised, find_server
from ragvec.serve.client import search_served
from tests.serving import serving
from tests.test_cli_index import ragvec
from tests.tiny import TEXTS

QUERY = "quick fox"


@pytest.fixture(scope="module")
def place(tiny_decoder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    shutil.copytree(tiny_decoder, folder / "encoder")
    with Index.create(folder / "index", encoder=Encoder.load(folder / "encoder")) as index:
        index.add([Document(str(n), text, f"Title {n}", {"year": 2000 + n}) for n, text in enumerate(TEXTS)])
    return folder


@pytest.fixture(scope="module")
def server(place):
    with serving("-i", place / "index", cwd=place) as server:
        yield server


def search(capsys, place, *words: str) -> str:
    code, out, err = ragvec(capsys, "search", QUERY, "-i", place / "index", *words)
    assert (code, err) == (0, ""), err
    return out


def answered(server) -> float:
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in server.call("/metrics")[1].splitlines()
        if line.startswith('ragvec_requests_total{path="/search",status="200"}')
    )


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--mode", "lexical", "-k", "2"),
        ("--mode", "dense", "--instruction", "Find animals:"),
        ("--where", "year >= 2003", "--offset", "1"),
        ("--fusion", "weighted", "--dense-weight", "0.9", "--min-score", "0.1"),
        ("--group-by", "doc_id", "--diversity", "0.5", "--rerank", "maxsim", "--rerank-depth", "3"),
        ("--snippets", "--format", "table"),
        ("--format", "trec"),
        ("--context", "400"),
        ("--context", "400", "--format", "json"),
    ],
    ids=" ".join,
)
def test_the_same_with_and_without_a_server(server, place, capsys, words):
    before = answered(server)
    served = search(capsys, place, *words)
    assert answered(server) == before + 1 and served
    local = search(capsys, place, "--no-server", *words)
    assert answered(server) == before + 1
    if "json" in words or not set(words) & {"--context", "--format"}:
        served, local = ([json.loads(line) for line in out.splitlines()] for out in (served, local))
        for ours, theirs in zip(served, local, strict=True):
            for one, other in zip(ours.pop("sources", [ours]), theirs.pop("sources", [theirs]), strict=True):
                for name in ("score", "similarity"):  # the server encodes in other batches
                    assert one.pop(name, None) == pytest.approx(other.pop(name, None), abs=2e-6)
                assert one == other
    if "trec" in words:
        served, local = ([line.split() for line in out.splitlines()] for out in (served, local))
        for ours, theirs in zip(served, local, strict=True):
            assert float(ours.pop(4)) == pytest.approx(float(theirs.pop(4)), abs=2e-6)
    assert served == local


def test_what_the_server_does_not_take_is_done_here(server, place, capsys):
    before = answered(server)
    assert len(search(capsys, place, "-k", "2000").splitlines()) == len(TEXTS), "the server allows 1,000"
    assert search(capsys, place, "--encoder", str(place / "encoder"))
    assert search(capsys, place, "--dtype", "float32")
    (place / "queries.txt").write_text("fox\ndog\n")
    assert ragvec(capsys, "search", "--queries", place / "queries.txt", "-i", place / "index")[0] == 0
    assert answered(server) == before


def test_a_mistake_reads_the_same(server, place, capsys):
    for words in (["--where", "yeer > 1"], ["--context", "20"]):
        answers = [ragvec(capsys, "search", QUERY, "-i", place / "index", *words, *more) for more in ((), ("--no-server",))]
        assert answers[0] == answers[1] and answers[0][0] == 2


def test_a_cold_shell_loads_neither_encoder_nor_torch(server, place):
    (place / "encoder").rename(place / "away")
    try:
        script = (
            "import sys\nfrom ragvec.cli.main import main\ntry:\n    main()\n"
            "finally:\n    print(sorted({'torch', 'transformers', 'faiss'} & set(sys.modules)), file=sys.stderr)"
        )
        command = [sys.executable, "-c", script, "search", QUERY, "-i", "index"]
        out = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
        assert len(out.stdout.splitlines()) == len(TEXTS) and out.stderr == "[]\n"
        out = subprocess.run([*command, "--no-server"], cwd=place, capture_output=True, text=True)
        assert out.returncode == 1 and "error: no model folder" in out.stderr
    finally:
        (place / "away").rename(place / "encoder")


def test_a_server_that_moved_on_is_not_asked_about_the_old_index(place, tiny_decoder, tmp_path, capsys):
    encoder = Encoder.load(tiny_decoder)
    for name in ("current", "next"):
        with Index.create(tmp_path / name, encoder=encoder) as index:
            index.add([Document(name, f"{QUERY} of {name}")])
    with serving("-i", tmp_path / "current", cwd=tmp_path) as server:
        (tmp_path / "current").rename(tmp_path / "old")
        (tmp_path / "next").rename(tmp_path / "current")
        assert find_server(tmp_path / "old").port == server.port, "the file that names it moved along"
        assert search_served(tmp_path / "old", {"query": QUERY}) is None
        for name, holds in (("old", "current"), ("current", "next")):
            code, out, _ = ragvec(capsys, "search", QUERY, "-i", tmp_path / name)
            assert code == 0 and json.loads(out)["doc_id"] == holds


def test_a_key_goes_to_the_server_that_wants_one(place, tiny_decoder, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("RAGVEC_API_KEY", raising=False)
    shutil.copytree(place / "index", tmp_path / "index", ignore=shutil.ignore_patterns(ADVERT_NAME))
    with serving("-i", tmp_path / "index", cwd=tmp_path, environment={"RAGVEC_API_KEY": "sesame"}):
        assert find_server(tmp_path / "index").needs_key
        assert search_served(tmp_path / "index", {"query": QUERY}) is None
        assert search_served(tmp_path / "index", {"query": QUERY}, api_key="wrong") is None
        assert len(search_served(tmp_path / "index", {"query": QUERY}, api_key="sesame")["hits"]) == len(TEXTS)
        for words in ((), ("--api-key", "sesame")):
            code, out, _ = ragvec(capsys, "search", QUERY, "-i", tmp_path / "index", *words)
            assert code == 0 and len(out.splitlines()) == len(TEXTS)


HOLD = """
import sys, pathlib
from ragvec.serve.advert import Advert, advertised
with advertised(pathlib.Path(sys.argv[1]), Advert(1, "127.0.0.1", int(sys.argv[2]), False, "5ec4e7")) as said:
    print(said, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def advert(place, tmp_path):
    """A file in an index folder that names a port where nobody answers, held by another process."""
    shutil.copytree(place / "index", tmp_path / "index", ignore=shutil.ignore_patterns(ADVERT_NAME))
    command = [sys.executable, "-c", HOLD, tmp_path / "index", "9"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "True\n"
        yield tmp_path / "index"
        holder.stdin.close()
        assert holder.wait(30) == 0


def test_a_server_that_does_not_answer_is_done_without(advert, capsys):
    assert find_server(advert) == Advert(1, "127.0.0.1", 9, False, "5ec4e7")
    code, out, err = ragvec(capsys, "search", QUERY, "-i", advert)
    assert (code, len(out.splitlines()), err) == (0, len(TEXTS), "")


def test_one_server_is_named_and_the_other_serves_all_the_same(advert):
    with advertised(advert, Advert(2, "127.0.0.1", 10, False, "")) as said:
        assert said is False and find_server(advert).port == 9


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_strangers_word_does_not_count(advert):
    os.chown(advert / ADVERT_NAME, 12345, 12345)
    assert find_server(advert) is None
