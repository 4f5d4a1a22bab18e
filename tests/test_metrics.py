"""Figures of merit against values worked out by hand."""

import sys
from math import log2

import pytest

from ragvec.errors import RagvecError
from ragvec.metrics import score_run, spearman

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
    assert found == {"nDCG@10": 0.0, "recall@100": 1.0, "MRR@10": 0.0}


def test_an_unanswered_query_counts_as_zero_and_one_without_relevant_documents_not_at_all():
    found = score_run({**QRELS, "q3": {"a": 0}}, {"q2": {"d": 0.5}, "q3": {"a": 0.5}})
    assert found == {"nDCG@10": 0.5, "recall@100": 0.5, "MRR@10": 0.5}


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
