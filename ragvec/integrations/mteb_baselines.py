"""What stands beside a score of MTEB: search by words for retrieval, and well-known or named encoders."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ragvec.encoder import Encoder
from ragvec.evaluate.baselines import AUTOMATIC_LIMIT
from ragvec.evaluate.result import Evaluation
from ragvec.integrations.mteb import evaluate_mteb


def evaluate_beside(
    task: Any,
    encoder: Encoder,
    others: Sequence[Encoder],
    *,
    named: Collection[str] = (),
    words: bool = True,
    results: Path | None = None,
    show_progress: bool = False,
) -> dict[str, Evaluation]:
    """A task's figures of search by words (retrieval only) and of other encoders, by the names they have in a table.

    encoder  the one that is measured: which prompts go before queries depends on it, nothing is encoded with it
    named    sources of encoders that were asked for; others are left out where a task has more than 20,000 texts
    """
    small = _texts(task.metadata) <= AUTOMATIC_LIMIT
    evaluations: list[Evaluation] = []
    if words and task.metadata.type.endswith("Retrieval"):
        evaluations += evaluate_mteb([task], encoder, mode="lexical", results=results, show_progress=show_progress)
    for other in others:
        if small or other.source in named:
            evaluations += evaluate_mteb([task], other, results=results, show_progress=show_progress)
    return {one.system: one for one in evaluations}


def _texts(metadata: Any) -> int:
    """How many texts MTEB says the largest split of a task has; 0 where it doesn't say."""
    splits = (metadata.descriptive_stats or {}).values()
    return max((split.get("num_samples") or 0 for split in splits), default=0)
