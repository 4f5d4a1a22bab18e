"""Figures of merit: ranking metrics by ir_measures, rank correlation by scipy; both come with ragvec's extra `eval`."""

from collections.abc import Mapping, Sequence

from ragvec.errors import RagvecError

Qrels = Mapping[str, Mapping[str, int]]  # query_id → doc_id → grade, 0 = judged and not relevant
Run = Mapping[str, Mapping[str, float]]  # query_id → doc_id → score, higher is better

RETRIEVAL_METRICS = {"nDCG@10": "nDCG@10", "recall@100": "R@100", "MRR@10": "RR@10"}  # our name → ir_measures' name
_INSTALL = "install it with: pip install 'ragvec[eval]'"


def score_run(qrels: Qrels, run: Run) -> dict[str, float]:
    """nDCG@10 (linear gain), recall@100 and MRR@10, each averaged over all queries of the qrels.

    A query without a relevant document has no say in any of them; one the run does not answer counts as 0.
    Raises RagvecError if ir_measures is not installed or no query has a relevant document.
    """
    try:
        import ir_measures
    except ImportError as error:
        raise RagvecError(f"retrieval metrics need ir_measures: {_INSTALL}") from error
    judged = {query_id: dict(grades) for query_id, grades in qrels.items() if any(grade > 0 for grade in grades.values())}
    if not judged:
        raise RagvecError("no query of the qrels has a relevant document: check their score column")
    answers = {query_id: dict(run.get(query_id, {})) for query_id in judged}
    measures = {name: ir_measures.parse_measure(spelled) for name, spelled in RETRIEVAL_METRICS.items()}
    found = ir_measures.calc_aggregate(list(measures.values()), judged, answers)
    return {name: float(found[measure]) for name, measure in measures.items()}


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's rank correlation, ties sharing their mean rank.

    Raises RagvecError if scipy is not installed or one side holds a single value, which ranks nothing.
    """
    try:
        from scipy.stats import spearmanr
    except ImportError as error:
        raise RagvecError(f"rank correlation needs scipy: {_INSTALL}") from error
    for side, values in (("left", left), ("right", right)):
        if len(set(values)) < 2:
            raise RagvecError(f"all {len(values)} values on the {side} are equal: a rank correlation needs them to differ")
    return float(spearmanr(left, right).statistic)
