"""Figures of merit against values worked out by hand."""

import sys
from math import log2
from random import Random

import pytest

from ragvec.errors import RagvecError
from ragvec.metrics import parse_metric, score_queries, score_run, spearman

QRELS = {"q1": {"a": 2, "b": 1, "c": 0}, "q2": {"d": 1}}


def test_ndcg_is_linear_in_the_grade_and_averaged_over_queries():
    found = score_run(QRELS, {"q1": {"c": 0.9, "b": 0.8, "a": 0.7}, "q2": {"d": 0.1}})
    ideal = 2 + 1 / log2(3)
    assert found["nDCG@10"] == pytest.approx(((1 / log2(3) + 2 / log2(4)) / ideal + 1) / 2)
    assert found["MRR@10"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["recall@100"] == 1.0


def test_ranks_beyond_the_cutoff_do_not_count():
    run = {"q2": {**{f"x{rank:02}": 1 - rank / 100 for rank in range(10)}, "d": 0.0}}
    found = score_run({"q2": {"d": 1}}, run)
    assert found == {"nDCG@10": 0.0, "recall@100": 1.0, "MRR@10": 0.0, "MAP@100": 1 / 11}


def test_an_unanswered_query_counts_as_zero_and_one_without_relevant_documents_not_at_all():
    found = score_run({**QRELS, "q3": {"a": 0}}, {"q2": {"d": 0.5}, "q3": {"a": 0.5}})
    assert found == {"nDCG@10": 0.5, "recall@100": 0.5, "MRR@10": 0.5, "MAP@100": 0.5}


def test_every_value_equals_pytrec_evals_to_the_last_digit():
    """Random grades and scores, ties among them; MRR@10 is pytrec_eval's reciprocal rank down to rank 10."""
    import pytrec_eval

    random = Random(0)
    documents = [f"d{number}" for number in range(300)]
    qrels = {f"q{row}": {name: random.randint(0, 3) for name in random.sample(documents, 40)} for row in range(50)}
    run = {name: {doc: round(random.random(), 2) for doc in random.sample(documents, 150)} for name in qrels}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100", "recip_rank", "map_cut.100", "P.5"})
    ours = score_queries(qrels, run, ("nDCG@10", "recall@100", "MRR@10", "MAP@100", "P@5"))
    for query_id, values in theirs.evaluate(run).items():
        reciprocal = values["recip_rank"] if values["recip_rank"] >= 1 / 10 else 0.0
        assert ours[query_id] == {
            "nDCG@10": values["ndcg_cut_10"], "recall@100": values["recall_100"], "MRR@10": reciprocal,
            "MAP@100": values["map_cut_100"], "P@5": values["P_5"],
        }  # fmt: skip


@pytest.mark.parametrize("name", ["nDGC@10", "nDCG@ten", "", "recall@"])
def test_an_unknown_metric_is_refused_by_name(name):
    with pytest.raises(RagvecError, match="unknown metric"):
        parse_metric(name)


@pytest.mark.parametrize(
    ("name", "spelled"), [("ndcg@5", "nDCG@5"), ("recall@20", "R@20"), ("MAP", "AP"), ("AP@100", "AP@100")]
)
def test_metrics_are_known_by_the_names_in_papers(name, spelled):
    assert str(parse_metric(name)) == spelled


def test_qrels_without_any_relevant_document_are_refused():
    with pytest.raises(RagvecError, match="no query of the qrels has a relevant document"):
        score_run({"q": {"a": 0}}, {"q": {"a": 1.0}})


def test_spearman_counts_ranks_and_shares_ties():
    assert spearman([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(0.8)  # 1 - 6·2 / (4·15)
    assert spearman([1, 1, 2], [1, 2, 3]) == pytest.approx(3**0.5 / 2)


def test_spearman_of_a_constant_is_refused():
    with pytest.raises(RagvecError, match="all 3 values on the left are equal"):
        spearman([1, 1, 1], [1, 2, 3])


@pytest.mark.parametrize(
    ("module", "call"), [("ir_measures", lambda: score_run(QRELS, {})), ("scipy.stats", lambda: spearman([1, 2], [1, 2]))]
)
def test_a_missing_extra_names_its_pip_line(monkeypatch, module, call):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RagvecError, match=r"pip install 'ragvec\[eval\]'"):
        call()
