"""TREC's files: what is read, what is written, what is refused."""

import pytest

from ragvec.errors import RagvecError
from ragvec.evaluate.trec import read_qrels, read_run, read_topics, write_run

CLASSIC = """<top>
<num> Number: 301
<title> International
  Organized Crime

<desc> Description:
Identify organizations
</top>
<top>
<num> Number: 302
<title> Topic: Poliomyelitis and Post-Polio
</top>
"""
WEB = '<topics><topic number="7" type="faceted"><query>air travel</query></topic></topics>'


@pytest.mark.parametrize(
    ("name", "text", "queries"),
    [
        ("topics.txt", CLASSIC, {"301": "International Organized Crime", "302": "Poliomyelitis and Post-Polio"}),
        ("topics.xml", WEB, {"7": "air travel"}),
        ("topics.tsv", "1\twhat is a fox\n\n2\t여우\n", {"1": "what is a fox", "2": "여우"}),
        ("topics.csv", 'id,query\n7,"fox, or\nhen"\n', {"7": "fox, or\nhen"}),
        ("queries.jsonl", '{"_id": "a", "text": "b"}\n', {"a": "b"}),
    ],
)
def test_topics_of_every_kind(tmp_path, name, text, queries):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_topics(tmp_path / name) == queries


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<top><title>x</title></top>", "has no number"),
        ("<top><num>1</num></top>", "has no title"),
        ("1\ta\n1\tb\n", "'1' comes twice"),
        ("1 a\n", "line 1: no tab"),
        ("\n", "holds no queries"),
    ],
)
def test_damaged_topics_are_refused(tmp_path, text, message):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(RagvecError, match=message):
        read_topics(tmp_path / "t.txt")


def test_qrels_of_both_kinds(tmp_path):
    (tmp_path / "trec").write_text("q1 0 d1 2\nq1\t0\td2\t-1\nq2 0 d1 0\n")
    assert read_qrels(tmp_path / "trec") == {"q1": {"d1": 2, "d2": -1}, "q2": {"d1": 0}}
    (tmp_path / "tabs").write_text("q1\t0\td1\t2\n")
    assert read_qrels(tmp_path / "tabs") == {"q1": {"d1": 2}}
    (tmp_path / "beir.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\n")
    assert read_qrels(tmp_path / "beir.tsv") == {"q1": {"d1": 2}}
    (tmp_path / "bad").write_text("q1 0 d1 2\nq1 d2 1\n")
    with pytest.raises(RagvecError, match="bad line 2: 3 columns"):
        read_qrels(tmp_path / "bad")


def test_a_run_comes_back_to_the_last_digit(tmp_path):
    run = {"q1": {"b": 1 / 3, "a": 0.1 + 0.2}, "q2": {"c": -2.5}}
    write_run(tmp_path / "run", run, "my system")
    assert (tmp_path / "run").read_text().splitlines()[0] == "q1 Q0 b 1 0.3333333333333333 my-system"
    assert read_run(tmp_path / "run") == run


def test_what_is_no_run_is_refused(tmp_path):
    path = tmp_path / "run"
    for text, message in (
        ("q Q0 d 1 0.5\n", "line 1: 5 columns"),
        ("q Q0 d 1 x t\n", "'x' is no number"),
        ("q Q0 d 1 1e999 t\n", "'1e999' is no number"),
        ("", "no results"),
    ):
        path.write_text(text)
        with pytest.raises(RagvecError, match=message):
            read_run(path)
    for grade in ("nan", "inf", "1e999"):
        path.write_text(f"query-id\tcorpus-id\tscore\nq\td\t{grade}\n")
        with pytest.raises(RagvecError, match=f"line 2: score '{grade}' is no number"):
            read_qrels(path)
    path.write_text("q Q0 d 1 0.5 t\nq Q0 d 2 0.4 t\n")
    with pytest.raises(RagvecError, match="line 2: document 'd' comes twice"):
        read_run(path)
    with pytest.raises(RagvecError, match="holds white space"):
        write_run(path, {"q": {"a b": 1.0}}, "t")
    assert path.read_text().startswith("q Q0 d 1"), "a refused write leaves the older file"
