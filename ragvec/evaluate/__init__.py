"""Measure encoders, indices and runs: retrieval, similarity, classification, clustering, words; compare and report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragvec.errors import WrongUsage
from ragvec.evaluate.result import Evaluation
from ragvec.evaluate.sets import RetrievalSet, SimilaritySet, read_retrieval_set, read_similarity_set, task_of
from ragvec.metrics import RETRIEVAL_METRICS

if TYPE_CHECKING:
    from ragvec.encoder import Encoder
    from ragvec.retrieve import Mode

__all__ = [
    "Evaluation",
    "RetrievalSet",
    "SimilaritySet",
    "evaluate",
    "read_retrieval_set",
    "read_similarity_set",
    "task_of",
]


def evaluate(
    dataset: str | Path,
    encoder: "Encoder | None" = None,
    *,
    split: str = "test",
    instruction: str | None = None,
    mode: "Mode" = "dense",
    metrics: Sequence[str] = RETRIEVAL_METRICS,
    cache: str | Path | None = None,
    show_progress: bool = False,
) -> Evaluation:
    """Measure an encoder on a data set: a BEIR folder (corpus.jsonl, queries.jsonl, qrels/<split>.tsv), an STS table (.tsv),
    labelled texts (.tsv, classified) or sets of them (.jsonl, clustered).

    encoder      None is enough for mode lexical
    instruction  what is put before queries; None = the encoder's own for retrieval and none elsewhere, where
                 every text carries it. Documents carry none.
    mode         retrieval only: dense, lexical or hybrid, through the real index
    cache        a folder that keeps the corpus' vectors for the next time; None = they are made for this once
    Raises RagvecError if the data set is none of these, or a part of it is missing or damaged.
    """
    path = Path(dataset)
    task = task_of(path)
    if task == "retrieval":
        from ragvec.evaluate.retrieval import evaluate_retrieval

        return evaluate_retrieval(
            read_retrieval_set(path, split),
            encoder,
            mode=mode,
            instruction=instruction,
            metrics=metrics,
            cache=None if cache is None else Path(cache),
            show_progress=show_progress,
        )
    if encoder is None:
        raise WrongUsage(f"{path} is a {task} data set: it measures an encoder, so name one")
    options: dict[str, Any] = {"instruction": instruction or "", "show_progress": show_progress}
    if task == "similarity":
        from ragvec.evaluate.similarity import evaluate_similarity

        return evaluate_similarity(path, encoder, **options)
    from ragvec.evaluate.labels import evaluate_classification, evaluate_clustering

    if task == "clustering":
        return evaluate_clustering(path, encoder, **options)
    return evaluate_classification(path, encoder, split=split, **options)
