"""Retrieval measured: queries through the real retriever over the real index, scored against qrels."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ragvec.corpus.passages import CorpusOptions
from ragvec.errors import RagvecError, WrongUsage
from ragvec.evaluate.corpora import corpus_folder, dense_index, lexical_index
from ragvec.evaluate.result import Evaluation
from ragvec.evaluate.sets import RetrievalSet
from ragvec.index import Index
from ragvec.metrics import RETRIEVAL_METRICS, cutoff, import_measures, mean_figures, parse_metric, score_queries
from ragvec.progress import progress_bar
from ragvec.records import Hit
from ragvec.retrieve import DEFAULTS, MAXSIM, Mode, Options, Request, Retriever, load_reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ragvec.encoder import Encoder
    from ragvec.retrieve import Reranker

DEPTH = 100  # hits per query, or as many as the deepest metric looks at
_QUERIES = 256  # searched between two steps of the progress bar


def evaluate_retrieval(
    data: RetrievalSet,
    encoder: "Encoder | None",
    *,
    index: Path | None = None,
    reranker: "Reranker | None" = None,
    metrics: Sequence[str] = RETRIEVAL_METRICS,
    depth: int = DEPTH,
    cut: CorpusOptions = CorpusOptions(),  # noqa: B008 - frozen
    ignore_identical_ids: bool = False,
    cache: Path | None = None,
    show_progress: bool = False,
    **options: "Unpack[Options]",
) -> Evaluation:
    """Search the queries of a set as `Retriever` does, and score what is found.

    encoder   None is enough for mode lexical
    index     search this one; None = an index of the set's corpus, kept in `cache` (None: made for this once)
    reranker  what scores the best hits again, where `rerank` names one; "maxsim" needs none
    depth     hits per query; more if a metric looks deeper
    cut       into what passages the set's corpus is cut
    ignore_identical_ids  leave out every hit with the query's own id; false = only where the texts are the same too
    options   fields of `Request`: mode (dense if none is given), fusion, dense_weight, where, rerank, rerank_depth …
    Raises RagvecError for an unknown metric, an encoder that is missing or not the index's, an empty query, a wrong filter.
    """
    for metric in metrics:
        parse_metric(metric)  # before anything is encoded
    search: Options = {"mode": "dense", **options, "group_by": "doc_id"}
    mode = Request(**search).chosen_mode
    if encoder is None and (mode != "lexical" or cut.passage_tokens is not None):
        need = f"{mode} retrieval" if mode != "lexical" else "cutting a corpus into passages"
        raise WrongUsage(f"{need} needs an encoder: name one{', or evaluate mode lexical' if mode != 'lexical' else ''}")
    depth = max(depth, *(cutoff(metric) for metric in metrics))
    counted = None if encoder is None else _Counted(encoder)
    vectors = None if mode == "lexical" else counted
    searching = _Searching(
        encoder=counted,
        reranker=reranker,
        depth=depth,
        options=search,
        ignore_identical_ids=ignore_identical_ids,
        show=show_progress,
    )
    if index is not None:
        run, counts = _search(index, data, searching)
    elif data.corpus is None:
        raise WrongUsage("no corpus: name a BEIR folder or a corpus file, or search an index with `index`")
    else:
        run, counts = _search_corpus(data, searching, cut, cache)
    if vectors is not None:
        counts["truncated_queries"] = vectors.truncated
    values = score_queries(data.qrels, run, metrics)
    given = search.get("instruction")
    return Evaluation(
        dataset=data.name,
        split=data.split,
        task="retrieval",
        encoder=vectors.source if vectors else "",
        fingerprint=vectors.fingerprint if vectors else "",
        instruction="" if vectors is None else vectors.settings.query_instruction if given is None else given,
        figures=mean_figures(values),
        counts=counts,
        mode=mode,
        fusion=search.get("fusion", DEFAULTS["fusion"]) if mode == "hybrid" else None,
        reranker=search.get("rerank"),
        settings=_told(search, mode, cut),
        values=values,
        run=run,
    )


def _search_corpus(
    data: RetrievalSet, how: "_Searching", cut: CorpusOptions, cache: Path | None
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """The run over the set's own corpus, indexed for it, and how much was searched."""
    assert data.corpus is not None
    encoder = None if how.encoder is None else how.encoder.encoder
    with corpus_folder(data.corpus, cache) as folder:
        if encoder is None or how.options.get("mode") == "lexical":
            return _search(lexical_index(data.corpus, encoder, folder, cut=cut, show=how.show), data, how)
        path, manifest = dense_index(data.corpus, encoder, folder, cut=cut, show=how.show)
        run, counts = _search(path, data, how)
        return run, {**counts, "truncated_documents": manifest.truncated}


def evaluate_run(
    data: RetrievalSet,
    run: dict[str, dict[str, float]],
    name: str,
    metrics: Sequence[str] = RETRIEVAL_METRICS,
    *,
    ignore_identical_ids: bool = False,
) -> Evaluation:
    """Score a run that something else made; no encoder, no index.

    ignore_identical_ids  leave out hits with the query's own id; by default they count
    Raises RagvecError if no query of the run is judged.
    """
    import_measures()
    if not run.keys() & data.qrels.keys():
        raise RagvecError(
            f"{name}: none of its {len(run)} queries is in the qrels, such as {min(run)!r}: is it of this data set?"
        )
    if ignore_identical_ids:
        run = {query_id: {key: score for key, score in found.items() if key != query_id} for query_id, found in run.items()}
    values = score_queries(data.qrels, run, metrics)
    counts = {"queries": len(data.qrels), "answered": len(run.keys() & data.qrels.keys())}
    return Evaluation(
        dataset=data.name, split=data.split, task="retrieval", encoder=name, fingerprint="", instruction="",
        figures=mean_figures(values), counts=counts, values=values, run=run,
    )  # fmt: skip


class _Counted:
    """An encoder that counts the queries it had to shorten."""

    def __init__(self, encoder: "Encoder") -> None:
        self.encoder = encoder
        self.truncated = 0

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None) -> np.ndarray:
        if instruction is None:
            instruction = self.settings.query_instruction
        encoded = self.encoder.encode_counted(texts, instruction=instruction)
        self.truncated += int(encoded.truncated.sum())
        return encoded.vectors

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)


class _Searching(NamedTuple):
    """How the queries of a set are searched."""

    encoder: _Counted | None
    reranker: "Reranker | None"
    depth: int
    options: Options
    ignore_identical_ids: bool
    show: bool


def _search(path: Path, data: RetrievalSet, how: _Searching) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """The run, and how much was searched. A document scores as its best passage."""
    query_ids, texts = list(data.queries), list(data.queries.values())
    run: dict[str, dict[str, float]] = {}
    with Index.open(path) as index, progress_bar("queries", total=len(texts), unit="queries", show=how.show) as bar:
        retriever, options = _retriever(index, how)
        for start in range(0, len(texts), _QUERIES):
            block = texts[start : start + _QUERIES]
            found = retriever.retrieve_many(block, how.depth + 1, **options)  # one more: it may be the query's own
            for query_id, text, hits in zip(query_ids[start:], block, found, strict=False):
                kept = (hit for hit in hits if hit.doc_id != query_id or not (how.ignore_identical_ids or _is_query(hit, text)))
                run[query_id] = {hit.doc_id: float(hit.score) for hit in islice(kept, how.depth)}
            bar.update(len(block))
        counts = {"documents": index.describe()["documents"], "queries": len(texts)}
    return run, counts


def _retriever(index: Index, how: _Searching) -> tuple[Retriever, Options]:
    """A retriever, and what to ask of it. An index made for words alone knows no encoder, but one may score its hits again."""
    encoder, rerank = cast("Encoder | None", how.encoder), how.options.get("rerank")
    if how.options.get("mode") != "lexical":
        return Retriever(index, encoder, reranker=how.reranker, rerank=rerank), how.options
    if rerank != MAXSIM:
        return Retriever(index, reranker=how.reranker, rerank=rerank), how.options
    maxsim = load_reranker(MAXSIM, encoder, instruction=how.options.get("instruction"))
    return Retriever(index, reranker=maxsim), {**how.options, "rerank": None}


def _is_query(hit: Hit, query: str) -> bool:
    """Whether a hit with a query's id is the query itself, as in ArguAna and Quora: letter case and white space don't count."""
    asked, text = _folded(query), _folded(hit.text)
    if hit.passage_id != hit.doc_id:  # a part of a document that was cut
        return text in asked
    return asked in (text, _folded(f"{hit.title} {hit.text}"))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _told(search: Options, mode: Mode, cut: CorpusOptions) -> dict[str, Any]:
    """What else was asked for than is asked for by default."""
    names = ["where"] + (["dense_weight"] if mode == "hybrid" else []) + (["rerank_depth"] if search.get("rerank") else [])
    asked: dict[str, Any] = dict(search)
    told = {name: asked[name] for name in names if asked.get(name, DEFAULTS[name]) != DEFAULTS[name]}
    if cut.passage_tokens is not None:
        told |= {"passage_tokens": cut.passage_tokens, "overlap": cut.overlap}
    return told
