"""Retrieval measured: queries through the real retriever over the real index, scored against qrels."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ragvec.errors import RagvecError
from ragvec.evaluate.corpora import corpus_folder, dense_index, lexical_index
from ragvec.evaluate.result import Evaluation
from ragvec.evaluate.sets import RetrievalSet
from ragvec.index import Index
from ragvec.metrics import RETRIEVAL_METRICS, cutoff, import_measures, mean_figures, parse_metric, score_queries
from ragvec.progress import progress_bar
from ragvec.retrieve import FUSIONS, Fusion, Mode, Options, Retriever

if TYPE_CHECKING:
    from ragvec.encoder import Encoder
    from ragvec.retrieve import Reranker

DEPTH = 100  # hits per query, or as many as the deepest metric looks at
_QUERIES = 256  # searched between two steps of the progress bar


def evaluate_retrieval(
    data: RetrievalSet,
    encoder: "Encoder | None",
    *,
    mode: Mode = "dense",
    fusion: Fusion = FUSIONS[0],
    instruction: str | None = None,
    index: Path | None = None,
    reranker: "Reranker | None" = None,
    reranker_name: str | None = None,
    metrics: Sequence[str] = RETRIEVAL_METRICS,
    depth: int = DEPTH,
    cache: Path | None = None,
    show_progress: bool = False,
) -> Evaluation:
    """Search the queries of a set and score what is found.

    encoder  None is enough for mode lexical
    fusion   how mode hybrid joins its two rankings: weighted or rrf
    index    search this one; None = an index of the set's corpus, kept in `cache` (None: made for this once)
    depth    hits per query; more if a metric looks deeper
    Raises RagvecError for an unknown metric, an encoder that is missing or not the index's, an empty query.
    """
    for metric in metrics:
        parse_metric(metric)  # before anything is encoded
    if encoder is None and mode != "lexical":
        raise RagvecError(f"{mode} retrieval needs an encoder: name one, or evaluate mode lexical")
    depth = max(depth, *(cutoff(metric) for metric in metrics))
    counted = None if encoder is None or mode == "lexical" else _Counted(encoder)
    if instruction is None:
        instruction = counted.settings.query_instruction if counted else ""
    search: Options = {"mode": mode, "fusion": fusion, "instruction": instruction, "group_by": "doc_id"}
    if index is not None:
        run, counts = _search(index, data, counted, reranker=reranker, depth=depth, search=search, show=show_progress)
    elif data.corpus is None:
        raise RagvecError("no corpus: name a BEIR folder or a corpus file, or search an index with `index`")
    else:
        with corpus_folder(data.corpus, cache) as folder:
            if counted and encoder is not None:
                path, manifest = dense_index(data.corpus, encoder, folder, show_progress)
            else:
                path, manifest = lexical_index(data.corpus, folder, show_progress), None
            run, counts = _search(path, data, counted, reranker=reranker, depth=depth, search=search, show=show_progress)
        counts["truncated"] += manifest.truncated if manifest else 0
    values = score_queries(data.qrels, run, metrics)
    return Evaluation(
        dataset=data.name,
        split=data.split,
        task="retrieval",
        encoder=counted.source if counted else "",
        fingerprint=counted.fingerprint if counted else "",
        instruction=instruction,
        figures=mean_figures(values),
        counts=counts,
        mode=mode,
        fusion=fusion if mode == "hybrid" else None,
        reranker=reranker_name,
        values=values,
        run=run,
    )


def evaluate_run(
    data: RetrievalSet, run: dict[str, dict[str, float]], name: str, metrics: Sequence[str] = RETRIEVAL_METRICS
) -> Evaluation:
    """Score a run that something else made; no encoder, no index.

    Raises RagvecError if no query of the run is judged.
    """
    import_measures()
    if not run.keys() & data.qrels.keys():
        raise RagvecError(
            f"{name}: none of its {len(run)} queries is in the qrels, such as {min(run)!r}: is it of this data set?"
        )
    values = score_queries(data.qrels, run, metrics)
    counts = {"queries": len(data.qrels), "answered": len(run.keys() & data.qrels.keys())}
    return Evaluation(
        dataset=data.name, split=data.split, task="retrieval", encoder=name, fingerprint="", instruction="",
        figures=mean_figures(values), counts=counts, values=values, run=run,
    )  # fmt: skip


class _Counted:
    """An encoder that counts the queries it had to shorten."""

    def __init__(self, encoder: "Encoder") -> None:
        self._encoder = encoder
        self.truncated = 0

    def encode_queries(self, texts: Sequence[str], *, instruction: str) -> np.ndarray:
        encoded = self._encoder.encode_counted(texts, instruction=instruction)
        self.truncated += int(encoded.truncated.sum())
        return encoded.vectors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


def _search(
    path: Path,
    data: RetrievalSet,
    encoder: _Counted | None,
    *,
    reranker: "Reranker | None",
    depth: int,
    search: Options,
    show: bool,
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """The run, and how much was searched. A document scores as its best passage; one with the query's own id is left out, as
    BEIR does."""
    query_ids, texts = list(data.queries), list(data.queries.values())
    run: dict[str, dict[str, float]] = {}
    with Index.open(path) as index, progress_bar("queries", total=len(texts), unit="queries", show=show) as bar:
        retriever = Retriever(index, cast("Encoder | None", encoder), reranker=reranker)
        for start in range(0, len(texts), _QUERIES):
            block = texts[start : start + _QUERIES]
            found = retriever.retrieve_many(block, depth + 1, **search)  # one more: it may be the query's own
            for query_id, hits in zip(query_ids[start:], found, strict=False):
                scores = {hit.doc_id: float(hit.score) for hit in hits if hit.doc_id != query_id}
                run[query_id] = dict(list(scores.items())[:depth])
            bar.update(len(block))
        documents = index.describe()["documents"]
    return run, {"documents": documents, "queries": len(texts), "truncated": encoder.truncated if encoder else 0}
