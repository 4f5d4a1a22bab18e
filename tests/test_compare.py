"""Comparisons of two systems, against scipy and against cases that are plain."""

import numpy as np
import pytest
from scipy import stats

from ragvec.errors import RagvecError
from ragvec.evaluate.compare import compare
from ragvec.evaluate.result import Evaluation
from ragvec.metrics import spearman

NAMES = ("new", "old")


def evaluation(dataset: str, task: str, figures: dict, values: dict) -> Evaluation:
    return Evaluation(dataset=dataset, split="test", task=task, encoder="e", fingerprint="f", instruction="",
                      figures=figures, counts={}, values=values)  # fmt: skip


def retrieval(values: list[float], dataset: str = "set") -> Evaluation:
    named = {f"q{row}": {"nDCG@10": float(value)} for row, value in enumerate(values)}
    return evaluation(dataset, "retrieval", {"nDCG@10": float(np.mean(values))}, named)


def similarity(cosines, scores) -> Evaluation:
    values = {
        str(row): {"similarity": float(c), "score": float(s)} for row, (c, s) in enumerate(zip(cosines, scores, strict=True))
    }
    return evaluation("set", "similarity", {"spearman": spearman(cosines, scores)}, values)


@pytest.fixture
def two() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    old = random.random(200)
    return old + random.normal(0.03, 0.2, 200), old


def test_the_t_test_is_scipys(two):
    new, old = two
    found = compare(retrieval(new), retrieval(old), names=NAMES, test="t-test")
    theirs = stats.ttest_rel(new, old)
    assert found.p_value == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert found.difference == pytest.approx(np.mean(new - old))


def test_the_bootstrap_agrees_with_the_t_test_where_both_hold(two):
    new, old = two
    found = compare(retrieval(new), retrieval(old), names=NAMES)
    theirs = stats.ttest_rel(new, old)
    interval = theirs.confidence_interval(0.95)
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.02)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.004)
    assert found == compare(retrieval(new), retrieval(old), names=NAMES), "the seed is fixed"


def test_wins_ties_and_losses_are_counted():
    found = compare(retrieval([1, 0.5, 0.5, 0]), retrieval([0, 0.5, 0.25, 0.5]), names=NAMES)
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)


@pytest.mark.parametrize("test", ["bootstrap", "t-test"])
def test_equal_systems_do_not_differ_and_a_steady_gain_does(test):
    same = compare(retrieval([0.1, 0.2, 0.3]), retrieval([0.1, 0.2, 0.3]), names=NAMES, test=test)
    assert (same.difference, same.p_value, same.ties) == (0.0, 1.0, 3)
    gain = compare(retrieval(np.linspace(0.2, 0.9, 50)), retrieval(np.linspace(0.1, 0.8, 50)), names=NAMES, test=test)
    assert gain.p_value < 0.001 and gain.low == pytest.approx(0.1)


def test_rank_correlations_are_compared_by_resampled_pairs():
    random = np.random.default_rng(2)
    scores = random.random(150)
    good, bad = scores + random.normal(0, 0.1, 150), scores + random.normal(0, 1.0, 150)
    found = compare(similarity(good, scores), similarity(bad, scores), names=NAMES)
    assert found.difference == pytest.approx(spearman(good, scores) - spearman(bad, scores))
    assert found.low < found.difference < found.high and found.p_value < 0.01 and found.wins > found.losses
    with pytest.raises(RagvecError, match="no t-test"):
        compare(similarity(good, scores), similarity(bad, scores), names=NAMES, test="t-test")


def test_what_can_not_be_compared_is_refused():
    with pytest.raises(RagvecError, match="new was measured on one, old on two"):
        compare(retrieval([1, 0], "one"), retrieval([1, 0], "two"), names=NAMES)
    with pytest.raises(RagvecError, match="share 1 values"):
        compare(retrieval([1]), retrieval([1, 0]), names=NAMES)
    with pytest.raises(RagvecError, match="unknown test"):
        compare(retrieval([1, 0]), retrieval([1, 0]), names=NAMES, test="sign")
