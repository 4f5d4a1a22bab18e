"""Is one system better than another on the same queries? Paired tests, an interval, and a count of who wins where."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ragvec.errors import RagvecError, WrongUsage
from ragvec.evaluate.result import Evaluation
from ragvec.metrics import spearman

TESTS = ("bootstrap", "t-test")
RESAMPLES = 10_000
RANK_RESAMPLES = 2_000  # of rank correlations, which must be computed anew for each
_SEED = 0
_TIE = 1e-9  # differences below it are rounding
_BLOCK = 1 << 24  # numbers held at once while resampling


class Comparison(NamedTuple):
    """One system against a reference on one metric, over the queries (pairs, texts) that both answered.

    difference  system minus reference; low, high: its 95 % interval
    p_value     two-sided, of no difference
    wins        where the system is better; of a rank correlation: pairs whose similarity it ranks nearer to people's
    """

    system: str
    reference: str
    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    test: str
    wins: int
    ties: int
    losses: int


def compare(
    system: Evaluation, reference: Evaluation, *, names: tuple[str, str], metric: str | None = None, test: str = "bootstrap"
) -> Comparison:
    """Compare two evaluations of the same data set.

    names   what to call the two; metric: None = the first that both have
    test    bootstrap: resampled queries (Efron; Sakai, SIGIR 2006), 10,000 times, seed 0. t-test: Student's, paired; not for
            rank correlations, which are no mean
    Raises RagvecError if they share no data set, metric or queries.
    """
    if test not in TESTS:
        raise WrongUsage(f"unknown test {test!r}: choose one of {', '.join(TESTS)}")
    if (system.dataset, system.split, system.task) != (reference.dataset, reference.split, reference.task):
        raise RagvecError(
            f"{names[0]} was measured on {system.dataset}, {names[1]} on {reference.dataset}: compare on one data set"
        )
    if metric is None:
        metric = next((name for name in system.figures if name in reference.figures), None)
    if metric not in system.figures or metric not in reference.figures:
        raise RagvecError(f"the systems have no common metric {metric or ''}".rstrip())
    shared = [key for key in system.values if key in reference.values]
    if len(shared) < 2:
        raise RagvecError(f"{names[0]} and {names[1]} share {len(shared)} values of {metric}: a paired test needs two")
    if system.task == "similarity":
        return _compare_ranks(system, reference, shared, names=names, metric=metric, test=test)
    ours, theirs = (np.array([one.values[key][metric] for key in shared]) for one in (system, reference))
    figures = _bootstrap(ours - theirs) if test == "bootstrap" else _t_test(ours - theirs)
    return _comparison(names, metric, figures, test=test, differences=ours - theirs)


def _comparison(
    names: tuple[str, str], metric: str, figures: tuple[float, float, float, float], *, test: str, differences: np.ndarray
) -> Comparison:
    difference, low, high, p_value = figures
    wins, ties, losses = _tally(differences)
    return Comparison(
        system=names[0], reference=names[1], metric=metric, difference=difference, low=low, high=high, p_value=p_value,
        test=test, wins=wins, ties=ties, losses=losses,
    )  # fmt: skip


def _bootstrap(differences: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, 95 % interval, and p: how often a resampled mean, moved to no difference, lies as far out as the observed one."""
    random = np.random.default_rng(_SEED)
    means = np.empty(RESAMPLES)
    rows = max(1, _BLOCK // len(differences))
    for start in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - start)
        means[start : start + count] = differences[random.integers(0, len(differences), (count, len(differences)))].mean(axis=1)
    return _interval(float(differences.mean()), means)


def _interval(observed: float, resampled: np.ndarray) -> tuple[float, float, float, float]:
    low, high = np.quantile(resampled, [0.025, 0.975])
    extreme = np.count_nonzero(np.abs(resampled - observed) >= abs(observed) - _TIE)
    return observed, float(low), float(high), min(1.0, (extreme + 1) / (len(resampled) + 1))


def _t_test(differences: np.ndarray) -> tuple[float, float, float, float]:
    mean = float(differences.mean())
    if np.ptp(differences) < _TIE:  # no spread: the statistic is 0 / 0 or infinite
        return mean, mean, mean, 1.0 if abs(mean) < _TIE else 0.0
    from scipy.stats import ttest_1samp

    found = ttest_1samp(differences, 0.0)
    interval = found.confidence_interval(0.95)
    return mean, float(interval.low), float(interval.high), float(found.pvalue)


def _compare_ranks(
    system: Evaluation, reference: Evaluation, shared: list[str], *, names: tuple[str, str], metric: str, test: str
) -> Comparison:
    if test != "bootstrap":
        raise WrongUsage(f"{metric} is no mean over pairs, so it has no t-test: choose bootstrap")
    from scipy.stats import rankdata

    scores = np.array([system.values[key]["score"] for key in shared])
    ours, theirs = (np.array([one.values[key]["similarity"] for key in shared]) for one in (system, reference))
    random = np.random.default_rng(_SEED)
    correlate = _rank_correlation(rankdata)
    resampled = np.empty(RANK_RESAMPLES)
    for number in range(RANK_RESAMPLES):
        chosen = random.integers(0, len(shared), len(shared))
        resampled[number] = correlate(ours[chosen], scores[chosen]) - correlate(theirs[chosen], scores[chosen])
    observed = spearman(ours.tolist(), scores.tolist()) - spearman(theirs.tolist(), scores.tolist())
    error = np.abs(rankdata(theirs) - rankdata(scores)) - np.abs(rankdata(ours) - rankdata(scores))
    return _comparison(names, metric, _interval(observed, resampled), test=test, differences=error)


def _rank_correlation(rankdata: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray, np.ndarray], float]:
    def correlate(left: np.ndarray, right: np.ndarray) -> float:
        left, right = rankdata(left), rankdata(right)
        left, right = left - left.mean(), right - right.mean()
        return float(left @ right / max(np.sqrt((left @ left) * (right @ right)), 1e-300))

    return correlate


def _tally(differences: np.ndarray) -> tuple[int, int, int]:
    wins, losses = int((differences > _TIE).sum()), int((differences < -_TIE).sum())
    return wins, len(differences) - wins - losses, losses
