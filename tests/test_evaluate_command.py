"""`ragvec eval`: what it compares, prints and writes, and what it refuses before anything is encoded."""

import json

import numpy as np
import pytest

from ragvec.cli.main import main
from ragvec.evaluate import read_retrieval_set
from tests.letters import LetterEncoder, beir, command, letters, sts  # noqa: F401


def test_the_command_prints_json_on_a_pipe_and_a_table_on_request(letters, capsys, sts):
    assert command(capsys, sts, "--no-baselines") == [{
        "dataset": "letters", "split": None, "task": "similarity", "encoder": "models/letters", "fingerprint": "f00d" * 8,
        "instruction": "", "pairs": 4, "truncated": 0, "spearman": pytest.approx(1.0),
    }]  # fmt: skip
    with pytest.raises(SystemExit):
        main(["eval", str(sts), "--no-baselines", "--format", "table"])
    assert capsys.readouterr().out == "letters: 4 pairs\n         spearman\nletters    1.0000\n"


def test_bm25_stands_beside_without_being_asked_and_an_encoder_where_named(letters, beir, capsys, monkeypatch):
    monkeypatch.setattr("ragvec.evaluate.baselines.installed_baseline", lambda: None)
    (found,) = command(capsys, beir)
    assert found["nDCG@10"] > 0 and found["baselines"].keys() == {"lexical (BM25)"}
    other = LetterEncoder()
    other.source, other.fingerprint = "others/beside", "beef" * 8
    monkeypatch.setattr("ragvec.encoder.Encoder.load", lambda source, **_: other if source == "beside" else letters)
    (found,) = command(capsys, beir, "--baseline", "beside")
    assert found["baselines"]["beside"] == {name: found[name] for name in found["baselines"]["beside"]}
    (found,) = command(capsys, beir, "--no-baselines")
    assert "baselines" not in found


def test_instructions_and_modes_are_compared_in_one_call(letters, beir, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(beir), "--instruction", "", "--instruction", "aaa", "--no-baselines", "--format", "table"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "letters, test: 3 documents, 2 queries, 1 truncated documents"
    assert [line.split("  ")[0] for line in lines[2:4]] == ["letters “”", "letters “aaa”"]
    assert lines[4].startswith("letters “aaa” against letters “”: nDCG@10 +0.0000 [") and "equal on 2, worse on 0" in lines[4]
    first, second = command(capsys, beir, "--mode", "dense", "--mode", "lexical", "--no-baselines")
    assert "comparison" not in first
    assert second["comparison"]["difference"] == pytest.approx(second["nDCG@10"] - first["nDCG@10"])


def test_a_run_is_written_and_scores_the_same_when_it_is_read(letters, beir, capsys, tmp_path):
    run = tmp_path / "letters.run"
    (found,) = command(capsys, beir, "--save-run", run, "--no-baselines")
    assert run.read_text().splitlines()[0].split()[:4] == ["q1", "Q0", "d3", "1"]
    letters.texts.clear()
    (again,) = command(capsys, beir, "--run", run)
    assert letters.texts == [], "no encoder takes part"
    assert {name: again[name] for name in ("nDCG@10", "MAP@100")} == {name: found[name] for name in ("nDCG@10", "MAP@100")}
    qrels = tmp_path / "trec.qrels"
    qrels.write_text("q1 0 d3 1\nq2 0 d1 1\n")
    (third,) = command(capsys, "--run", run, "--qrels", qrels)
    assert third["nDCG@10"] == found["nDCG@10"]


def test_trec_topics_and_qrels_stand_for_a_beir_folder(letters, beir, capsys, tmp_path):
    topics, qrels = tmp_path / "topics.xml", tmp_path / "qrels.txt"
    classic = "<top>\n<num> Number: q1\n<title> c\n\n<desc> Description:\nall b\n</top>\n"
    topics.write_text(classic + "<top><num>q2</num><title>ab</title></top>")
    qrels.write_text("q1 0 d3 1\nq2 0 d1 1\n")
    (from_folder,) = command(capsys, beir, "--no-baselines")
    (from_trec,) = command(capsys, beir / "corpus.jsonl", "--topics", topics, "--qrels", qrels, "--no-baselines")
    assert from_trec["nDCG@10"] == from_folder["nDCG@10"]
    letters.texts.clear()
    index = next((tmp_path / "cache").glob("corpora/letters-*/f00d*/index"))
    (searched,) = command(capsys, "--topics", topics, "--qrels", qrels, "--index", index, "--no-baselines")
    assert letters.texts == ["c", "ab"], "the index holds the documents' vectors"
    assert searched["nDCG@10"] == from_folder["nDCG@10"]


def test_reports_values_and_charts_are_written(letters, beir, capsys, tmp_path):
    names = {name: tmp_path / name for name in ("r.md", "r.json", "v.tsv", "c.png")}
    modes = ("--mode", "dense", "--mode", "hybrid", "--no-baselines")
    command(capsys, beir, *modes, "--report", names["r.md"], "--per-query", names["v.tsv"], "--chart", names["c.png"])
    command(capsys, beir, *modes, "--report", names["r.json"])
    text = names["r.md"].read_text()
    assert (
        "| system | nDCG@10 | recall@100 | MRR@10 | MAP@100 |" in text and "- letters, hybrid against letters: nDCG@10" in text
    )
    report = json.loads(names["r.json"].read_text())
    assert [system["system"] for system in report["systems"]] == ["letters", "letters, hybrid"]
    assert report["comparisons"][0]["wins"] + report["comparisons"][0]["ties"] + report["comparisons"][0]["losses"] == 2
    rows = [line.split("\t") for line in names["v.tsv"].read_text().splitlines()]
    assert rows[0] == ["system", "id", "nDCG@10", "recall@100", "MRR@10", "MAP@100"]
    assert [row[:2] for row in rows[1:]] == [[s, q] for s in ("letters", "letters, hybrid") for q in ("q1", "q2")]
    assert names["c.png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--report", "r.txt"], "a report ends in .md or .json"),
        (["--chart", "nowhere/c.png"], "its folder does not exist"),
        (["--metric", "nDGC@10"], "unknown metric 'nDGC@10'"),
        (["--test", "wilcoxon"], "unknown test 'wilcoxon'"),
        (["--dense-weight", "2"], "dense weight is 2.0"),
        (["--overlap", "3"], "give --passage-tokens too"),
        (["--index", "i", "--passage-tokens", "9"], "an index holds passages already"),
        (["--task", "clustering"], "is a retrieval data set, so it can't be measured as clustering"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_encoded(letters, beir, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(beir), *words])
    assert ended.value.code == (1 if words[0] == "--chart" else 2)
    assert message in capsys.readouterr().err
    assert letters.texts == []


def test_the_command_prints_an_error_as_one_line(letters, capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(tmp_path)])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} is no BEIR data set")


def test_a_real_encoder_is_measured_end_to_end(beir, tiny_decoder, capsys, tmp_path):
    (found,) = command(
        capsys, beir, "--encoder", tiny_decoder, "--instruction", "", "--cache", tmp_path / "cache", "--no-baselines"
    )
    assert 0 < found["nDCG@10"] <= 1 and found["recall@100"] == 1.0


def test_eval_is_search(beir, tiny_decoder, capsys, tmp_path):
    """The same documents in the same order with the same scores, by every mode and with a reranker."""
    corpus = [
        {"_id": f"d{row}", "title": f"t{row}", "text": f"word{row % 7} fox {'dog ' * (row % 5)}", "n": row}
        for row in range(120)
    ]
    (beir / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    (beir / "queries.jsonl").write_text('{"_id": "q1", "text": "word3 dog"}\n{"_id": "q2", "text": "fox t9"}\n')
    index, run, cache = tmp_path / "index", tmp_path / "hits.run", tmp_path / "cache"
    cut = ("--passage-tokens", 12, "--overlap", 4)
    ragvec(capsys, "index", beir / "corpus.jsonl", "-o", index, "-e", tiny_decoder, *cut)
    ways: list[list] = [["--mode", mode] for mode in ("dense", "lexical", "hybrid")]
    ways += [[*ways[2], "--fusion", "rrf"], [*ways[2], "--dense-weight", "0.3", "--where", "n >= 30"]]
    ways += [[*way, "--rerank", "maxsim", "--rerank-depth", "7"] for way in ways[:3]]
    for way in ways:
        words = ["--queries", beir / "queries.jsonl", "-i", index, "-k", "100", "--format", "trec"]
        asked = ragvec(capsys, "search", *way, *words).splitlines()
        expected = [line.split()[:5] for line in asked]
        for where in (["-e", tiny_decoder, *cut], ["-i", index]):
            ragvec(capsys, "eval", beir, *way, *where, "--no-baselines", "--save-run", run, "--cache", cache)
            found = [line.split()[:5] for line in run.read_text().splitlines()]
            assert [row[:4] for row in found] == [row[:4] for row in expected], way
            np.testing.assert_allclose(*([float(row[4]) for row in rows] for rows in (found, expected)), atol=1e-6)
        assert len(expected) >= 30


def ragvec(capsys, *words) -> str:
    """What a command prints; it ends well."""
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, words)))
    shown = capsys.readouterr()
    assert ended.value.code == 0, shown.err
    return shown.out


def test_what_was_asked_for_is_told_and_each_system_has_its_own_run(letters, beir, capsys, tmp_path):
    run = tmp_path / "hits.run"
    ways = ("--mode", "dense", "--mode", "hybrid", "--no-baselines")
    first, second = command(capsys, beir, *ways, "--dense-weight", "0.3", "--save-run", run)
    assert "dense_weight" not in first and second["dense_weight"] == 0.3 and not run.exists()
    names = ["hits-letters-hybrid.run", "hits-letters.run"]
    assert sorted(path.name for path in tmp_path.glob("hits*")) == names
    (again,) = command(capsys, beir, "--run", tmp_path / names[0])
    assert again["nDCG@10"] == second["nDCG@10"]


def test_the_sets_name_is_its_folders_or_the_indexs(beir, tmp_path):
    qrels, index = beir / "qrels" / "test.tsv", tmp_path / "books"
    assert read_retrieval_set(None, "test", qrels=qrels, needs_queries=False).name == "letters"
    assert read_retrieval_set(None, "test", qrels=qrels, index=index, needs_queries=False).name == "letters"
    moved = qrels.rename(tmp_path / "judged.tsv")
    assert read_retrieval_set(None, "test", qrels=moved, index=index, needs_queries=False).name == "books"
    assert read_retrieval_set(None, "test", qrels=moved, needs_queries=False).name == "judged"
    assert read_retrieval_set(beir / "corpus.jsonl", "test", qrels=moved, needs_queries=False).name == "letters"
