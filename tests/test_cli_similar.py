"""`ragvec similar`: what `POST /similar` and `similar_documents` find, on the command line."""

import json

import pytest

from ragvec.index import Index
from ragvec.ingest.build import build
from ragvec.retrieve.similar import similar_documents
from tests.test_cli_index import ragvec


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("similar")
    texts = {
        "apple": ("Apples grow on trees in an orchard.", "en"),
        "pear": ("Pears grow on trees, like apples.", "en"),
        "ship": ("A ship sails across the ocean.", "en"),
        "사과": ("사과는 나무에서 자란다.", "ko"),
    }
    rows = [{"_id": name, "text": text, "lang": lang} for name, (text, lang) in texts.items()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    build(folder / "corpus.jsonl", folder / "ragvec-index")
    return folder / "ragvec-index"


def test_it_prints_what_the_library_finds(index, capsys):
    code, out, _ = ragvec(capsys, "similar", "apple", "-i", str(index), "-k", "2")
    found = [json.loads(line) for line in out.splitlines()]
    with Index.open(index) as opened:
        expected = similar_documents(opened, "apple", k=2)
    assert code == 0 and [hit["doc_id"] for hit in found] == [hit.doc_id for hit in expected]
    assert found[0]["doc_id"] == "pear" and [hit["rank"] for hit in found] == [1, 2]
    assert found[0]["score"] == pytest.approx(expected[0].score, abs=1e-6)


def test_a_filter_and_a_passage_are_heeded_and_a_table_has_no_query(index, capsys):
    filtered = ["--where", "lang = $lang", "--where-values", '{"lang": "ko"}']
    code, out, _ = ragvec(capsys, "similar", "apple", "-i", str(index), "--passage", "apple", *filtered, "--format", "table")
    lines = out.splitlines()
    assert code == 0 and lines[0].split()[:3] == ["#", "score", "id"] and lines[1].split()[2] == "사과" and len(lines) == 2


def test_what_is_not_there_is_one_line(index, capsys):
    asked = (("similar", "plum"), "no document 'plum'"), (("similar", "apple", "--passage", "9"), "no passage '9'")
    for words, said in asked:
        code, out, error = ragvec(capsys, *words, "-i", str(index))
        assert (code, out) == (1, "") and said in error and error.count("\n") == 1
