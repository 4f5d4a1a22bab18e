"""The ladder of stages: samples of data sets in their own layouts, and a ladder that goes on where it was cut off."""

import gzip
import json
from pathlib import Path

import pytest

from ragvec.evaluate import read_retrieval_set, read_similarity_set
from ragvec.evaluate.words import read_conll
from tests.bench import stages
from tests.bench.samples import evenly, sample_of

SENTENCES = ("a cat sits on the mat", "a dog runs in the park", "rain falls on the town", "the sun warms the sea")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def beir(folder: Path, documents: int, queries: int) -> Path:
    """Query n's best document is n, and n + 1 is a lesser one."""
    write(folder / "corpus.jsonl", "".join(json.dumps({"_id": f"d{n}", "text": f"text {n}"}) + "\n" for n in range(documents)))
    write(folder / "queries.jsonl", "".join(json.dumps({"_id": f"q{n}", "text": f"query {n}"}) + "\n" for n in range(queries)))
    rows = [f"q{n}\td{n}\t2\nq{n}\td{n + 1}\t1\n" for n in range(queries)]
    write(folder / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\n" + "".join(rows))
    return folder


def test_evenly_spaced():
    assert evenly("abcdefgh", 4) == ["a", "c", "e", "g"]
    assert evenly("abc", 4) == ["a", "b", "c"]


def test_a_sample_of_a_corpus_keeps_what_its_queries_ask_for(tmp_path):
    sample = sample_of(beir(tmp_path / "set", documents=40, queries=20), tmp_path / "sample", 16)
    found = read_retrieval_set(sample, "test")
    ids = [json.loads(line)["_id"] for line in (sample / "corpus.jsonl").read_text().splitlines()]
    assert len(ids) == 8  # half as many documents
    whole = read_retrieval_set(tmp_path / "set", "test").qrels.items()
    left = {query: {name: grade for name, grade in judged.items() if name in ids} for query, judged in whole}
    assert found.qrels == {query: judged for query, judged in left.items() if judged}
    assert sum(2 in judged.values() for judged in found.qrels.values()) >= 4 and found.queries.keys() == found.qrels.keys()


def test_samples_of_tables_and_sentences(tmp_path):
    rows = "".join(f"{n}\tleft {n}\tright {n}\n" for n in range(10))
    table = write(tmp_path / "sts.test.tsv", "score\tsentence1\tsentence2\n" + rows)
    assert read_similarity_set(sample_of(table, tmp_path / "s" / "sts.test.tsv", 5)).scores == [0, 2, 4, 6, 8]
    assert sample_of(table, tmp_path / "elsewhere", None) == table
    sentences = "".join(f"1\tword{n}\t_\tNOUN\t_\t_\t0\t_\t_\t_\n\n" for n in range(6))
    for name in ("train", "test"):
        write(tmp_path / "tagged" / f"{name}.conllu", sentences)
    sample = sample_of(tmp_path / "tagged", tmp_path / "few", 3)
    assert [one.words for one in read_conll(sample / "test.conllu", "upos")] == [["word0"], ["word2"], ["word4"]]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reference material's layout, tiny."""
    folder = tmp_path / "data"
    pairs = [f"{score}\t{SENTENCES[score]}\t{SENTENCES[0]}\n" for score in range(4)]
    for name in stages.STS:
        write(folder / "sts" / f"{name}.test.tsv", "score\tsentence1\tsentence2\n" + "".join(pairs))
    for name in stages.ALIKE:
        rows = "5\tone thing\tthe same thing\n1\tone thing\tanother\n5\ta cat sits on the mat\tknown to the tests\n"
        write(folder / "sts" / f"{name}.train.tsv", f"score\tsentence1\tsentence2\n{rows}")
    labelled = "".join(f"{number % 2}\t{text}\n" for number, text in enumerate(SENTENCES))
    for name in ("train", "test"):
        write(folder / "classification" / f"banking77.{name}.tsv", f"label\ttext\n{labelled}")
    for name in ("scifact", "nfcorpus"):
        beir(folder / "retrieval" / name, documents=4, queries=2)
    write(folder / "text" / "wikitext-2" / "wiki.train.tokens", "\n".join([" . ".join(SENTENCES) + " . and so on " * 4] * 9))
    (folder / "pairs").mkdir()
    row = {"source": "own", "query": "where is the cat", "positive": SENTENCES[0], "negatives": [SENTENCES[1]]}
    (folder / "pairs" / "en_train.jsonl.gz").write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    monkeypatch.setattr(stages, "DATA", folder)
    return folder


def test_paraphrases_known_to_a_test_set_are_left_out(data):
    assert stages.supervised_pairs()[1:] == [
        {"source": name, "query": "one thing", "positive": "the same thing", "negatives": ["another"]} for name in stages.ALIKE
    ]


@pytest.mark.slow
def test_a_ladder_goes_on_and_keeps_what_it_measured(data, tiny_decoder, tmp_path, monkeypatch, capsys):
    command = ["stages", "--model", str(tiny_decoder), "--folder", str(tmp_path / "out"), "--tokens", "1", "--mask", "a"]
    monkeypatch.setattr("sys.argv", [*command, "--only", "mntp"])
    stages.main()
    first = capsys.readouterr().out.splitlines()
    assert [line for line in first if line.startswith("| + MNTP |")] and "1 steps" in first[-1]
    assert sum(line.startswith("+ MNTP: ") for line in first) == len(stages.SETS)
    kept = tmp_path / "out" / "figures" / "mntp.json"
    figures = json.loads(kept.read_text())
    kept.write_text(json.dumps({name: 0.5 if name == "sick" else value for name, value in figures.items() if name != "sts12"}))
    stages.main()  # what is there is neither trained nor measured again
    again = capsys.readouterr().out.splitlines()
    assert again[0] == f"+ MNTP: sts12 {figures['sts12']:.3f}" and " 0.500 " in again[-1] and len(again) == 4


def test_a_folder_holds_the_stages_of_one_model(data, tiny_decoder, tmp_path, monkeypatch, capsys):
    write(tmp_path / "out" / "model.json", json.dumps({"model": "/another"}))
    monkeypatch.setattr("sys.argv", ["stages", "--model", str(tiny_decoder), "--folder", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        stages.main()
    assert "holds the stages of /another, not " in capsys.readouterr().err
