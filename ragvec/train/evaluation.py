"""Evaluation while a model is trained: a BEIR folder or an STS table, and the best weights kept."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ragvec.corpus import read_documents, to_passages
from ragvec.encoder import Encoder
from ragvec.errors import RagvecError
from ragvec.evaluate.sets import RetrievalSet, read_retrieval_set, read_similarity_set, task_of
from ragvec.files import replacing
from ragvec.metrics import import_measures, import_scipy, score_run, spearman
from ragvec.train.checkpoints import BEST, CHECKPOINTS
from ragvec.train.model import Learner
from ragvec.train.recipe import Recipe

RETRIEVAL_METRIC, SIMILARITY_METRIC = "nDCG@10", "spearman"
_DEPTH = 10


class Metric(NamedTuple):
    """A figure of the model as it stands, higher is better."""

    name: str
    measure: Callable[[], float]


class Best(NamedTuple):
    """The best figure so far and the step it was reached at."""

    step: int
    metric: str
    value: float


def make_metric(recipe: Recipe, learner: Learner) -> Metric | None:
    """What eval_dataset asks for: nDCG@10 on a BEIR folder (eval_split), Spearman's correlation on an STS table.

    Raises RagvecError for a data set that is neither, or can't be read.
    """
    if recipe.eval_dataset is None:
        return None
    path = Path(recipe.eval_dataset).expanduser()
    task = task_of(path)
    if task == "retrieval":
        import_measures()  # before anything is trained
        data = read_retrieval_set(path, recipe.eval_split)
        documents = {passage.doc_id: passage.encoded_text for passage in to_passages(read_documents(data.corpus or path))}
        return Metric(RETRIEVAL_METRIC, lambda: _ndcg(_as_encoder(learner), data, documents))
    if task != "similarity":
        raise RagvecError(
            f"eval_dataset {path} is for {task}: name a BEIR folder or an STS table (score, sentence1, sentence2)"
        )
    import_scipy()
    pairs = read_similarity_set(path)

    def correlation() -> float:
        encoder = _as_encoder(learner)
        left, right = encoder.encode_documents(pairs.left), encoder.encode_documents(pairs.right)
        return spearman((left * right).sum(axis=1).tolist(), pairs.scores)

    return Metric(SIMILARITY_METRIC, correlation)


def measure(metric: Metric, learner: Learner) -> float:
    """The metric in the precision of the training, without dropout; the model is left in the mode it was in."""
    training = learner.backbone.training
    learner.backbone.eval()
    half = learner.dtype is not torch.float32
    try:
        with torch.autocast(learner.device.type, dtype=learner.dtype if half else None, enabled=half):
            return round(metric.measure(), 6)
    finally:
        learner.backbone.train(training)


def keep_if_best(recipe: Recipe, weights: dict[str, Tensor], reached: Best) -> bool:
    """Write the trained weights beside the checkpoints if they are better than those there; says whether they were."""
    before = best_so_far(recipe)
    if before is not None and reached.value <= before.value:
        return False
    path = _path(recipe)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        metadata = {name: str(value) for name, value in reached._asdict().items()}
        save_file({name: weight.contiguous() for name, weight in weights.items()}, file.name, metadata=metadata)
    return True


def best_so_far(recipe: Recipe) -> Best | None:
    """What the best weights reached, if any were kept."""
    if not _path(recipe).is_file():
        return None
    with safe_open(_path(recipe), "pt") as file:
        said = file.metadata()
    return Best(int(said["step"]), said["metric"], float(said["value"]))


def best_weights(recipe: Recipe) -> dict[str, Tensor]:
    """The best weights, as the objective's state_dict gave them."""
    return load_file(_path(recipe))


def _path(recipe: Recipe) -> Path:
    return Path(recipe.output_dir) / CHECKPOINTS / BEST


def _as_encoder(learner: Learner) -> Encoder:
    return Encoder(
        learner.backbone, learner.tokenizer, learner.settings, source="in training", fingerprint="in training",
        projections=learner.projections,
    )  # fmt: skip


def _ndcg(encoder: Encoder, data: RetrievalSet, documents: dict[str, str]) -> float:
    """By exact search, as `ragvec eval` finds it; a document with the query's own id is left out, as BEIR does."""
    doc_ids, query_ids = list(documents), list(data.queries)
    passages = encoder.encode_documents(list(documents.values()))
    queries = encoder.encode_queries(list(data.queries.values()))
    run = {}
    for query_id, scores in zip(query_ids, queries @ passages.T, strict=True):
        nearest = np.argsort(-scores, kind="stable")[: _DEPTH + 1]
        ranked = [(doc_ids[place], float(scores[place])) for place in nearest if doc_ids[place] != query_id]
        run[query_id] = dict(ranked[:_DEPTH])
    return score_run(data.qrels, run, (RETRIEVAL_METRIC,))[RETRIEVAL_METRIC]
