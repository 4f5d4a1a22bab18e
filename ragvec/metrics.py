"""Figures of merit: ranking metrics by ir_measures, rank correlation by scipy; both come with ragvec's extra `eval`."""

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any

from ragvec.errors import RagvecError, WrongUsage

Qrels = Mapping[str, Mapping[str, int]]  # query_id → doc_id → grade, 0 = judged and not relevant
Run = Mapping[str, Mapping[str, float]]  # query_id → doc_id → score, higher is better

RETRIEVAL_METRICS = ("nDCG@10", "recall@100", "MRR@10", "MAP@100")
_SPELLED = {"ndcg": "nDCG", "recall": "R", "r": "R", "mrr": "RR", "rr": "RR", "map": "AP", "ap": "AP", "p": "P"}
_INSTALL = "install it with: pip install 'ragvec[eval]'"


def score_run(qrels: Qrels, run: Run, metrics: Sequence[str] = RETRIEVAL_METRICS) -> dict[str, float]:
    """Each metric, averaged over the queries of the qrels that have a relevant document.

    metrics  nDCG@k (linear gain), recall@k, MRR@k, MAP@k, P@k, or any name that ir_measures knows
    A query that the run does not answer counts as 0.
    Raises RagvecError if ir_measures is not installed, a metric is unknown, or no query has a relevant document.
    """
    return mean_figures(score_queries(qrels, run, metrics))


def score_queries(qrels: Qrels, run: Run, metrics: Sequence[str] = RETRIEVAL_METRICS) -> dict[str, dict[str, float]]:
    """Each metric for each query of the qrels that has a relevant document: query_id → metric → value, in the qrels' order.

    metrics and errors as for score_run
    """
    import_measures()
    import ir_measures

    judged = {query_id: dict(grades) for query_id, grades in qrels.items() if any(grade > 0 for grade in grades.values())}
    if not judged:
        raise RagvecError("no query of the qrels has a relevant document: check their score column")
    measures = {name: parse_metric(name) for name in metrics}
    values = {query_id: dict.fromkeys(metrics, 0.0) for query_id in judged}
    answers = {query_id: dict(run.get(query_id, {})) for query_id in judged}
    for metric in ir_measures.iter_calc({_uncut(measure) for measure in measures.values()}, judged, answers):
        for name, measure in measures.items():
            if _uncut(measure) == metric.measure:
                values[metric.query_id][name] = _cut(float(metric.value), measure)
    return values


def mean_figures(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over all queries (or texts) of query_id → metric → value."""
    rows = list(values.values())
    return {name: fsum(row[name] for row in rows) / len(rows) for name in rows[0]}


def parse_metric(name: str) -> Any:
    """ir_measures' measure for a metric's name as papers spell it (MAP@100), or as ir_measures does (AP@100).

    Raises RagvecError for a name that neither knows.
    """
    import_measures()
    import ir_measures

    kind, at, depth = name.partition("@")
    spelled = _SPELLED.get(kind.lower(), kind) + at + depth
    try:
        return ir_measures.parse_measure(spelled)
    except (NameError, ValueError, SyntaxError, TypeError) as error:
        raise WrongUsage(f"unknown metric {name!r}: choose nDCG@k, recall@k, MRR@k, MAP@k or P@k, such as nDCG@10") from error


def _uncut(measure: Any) -> Any:
    """RR@k as RR: ir_measures hands RR@k to a tool that breaks ties by its own rule, and RR to trec_eval's."""
    import ir_measures

    return ir_measures.RR if str(measure).startswith("RR@") else measure


def _cut(value: float, measure: Any) -> float:
    return value if not str(measure).startswith("RR@") or value >= 1 / measure["cutoff"] else 0.0


def cutoff(name: str) -> int:
    """The depth of a metric's name, 0 if it has none."""
    depth = name.partition("@")[2]
    return int(depth) if depth.isdigit() else 0


def import_measures() -> None:
    """Raises RagvecError if ir_measures is not installed."""
    try:
        import ir_measures  # noqa: F401
    except ImportError as error:
        raise RagvecError(f"retrieval metrics need ir_measures: {_INSTALL}") from error


def import_scipy() -> None:
    """Raises RagvecError if scipy is not installed."""
    try:
        import scipy.stats  # noqa: F401
    except ImportError as error:
        raise RagvecError(f"rank correlation and t-tests need scipy: {_INSTALL}") from error


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's rank correlation, ties sharing their mean rank.

    Raises RagvecError if scipy is not installed or one side holds a single value, which ranks nothing.
    """
    import_scipy()
    from scipy.stats import spearmanr

    for side, values in (("left", left), ("right", right)):
        if len(set(values)) < 2:
            raise RagvecError(f"all {len(values)} values on the {side} are equal: a rank correlation needs them to differ")
    return float(spearmanr(left, right).statistic)
