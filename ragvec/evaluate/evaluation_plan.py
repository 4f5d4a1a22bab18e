"""Everything one call of `ragvec eval` measures: systems, the baselines beside them, and how they compare."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ragvec.corpus.passages import CorpusOptions
from ragvec.errors import WrongUsage
from ragvec.evaluate.baselines import AUTOMATIC_LIMIT, load_baselines
from ragvec.evaluate.compare import TESTS, Comparison, compare
from ragvec.evaluate.report import row_names
from ragvec.evaluate.result import Evaluation
from ragvec.evaluate.sets import RetrievalSet, read_retrieval_set, task_of
from ragvec.metrics import RETRIEVAL_METRICS, import_measures, import_scipy
from ragvec.retrieve import DEFAULTS, Mode, Options, Request

if TYPE_CHECKING:
    from ragvec.encoder import Encoder
    from ragvec.retrieve import Reranker

LABELLED_TASKS = ("classification", "clustering")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationPlan:
    """What to measure. Encoders, instructions and modes are each tried with each; the further ones are compared with the first.

    dataset        None = queries and judgements come from `topics` and `qrels`, the corpus from `index`
    encoders       folders or hub ids; None = the index's, or the bundled one
    instructions   None = the encoder's own
    search         further fields of `Request` for retrieval: fusion, dense_weight, where, rerank, rerank_depth
    cuts           into what passages the corpus is cut, each tried with each; ignore_identical_ids: as in `evaluate_retrieval`
    runs           TREC run files to score; then nothing is encoded
    task           clustering, where labelled texts shall be clustered and not classified; None = what the data's layout says
    probe          the column of tags of a CoNLL file: measures words; probe_previous: off the states before them
    baselines      encoders whose figures stand beside; automatic_baselines: BM25 and all-MiniLM-L6-v2 too, if installed
    options        further arguments of `Encoder.load`
    """

    dataset: Path | None = None
    encoders: tuple[str | None, ...] = (None,)
    instructions: tuple[str | None, ...] = (None,)
    modes: tuple[Mode, ...] = ("dense",)
    search: Options = field(default_factory=Options)
    cuts: tuple[CorpusOptions, ...] = (CorpusOptions(),)
    ignore_identical_ids: bool = False
    split: str = "test"
    topics: Path | None = None
    qrels: Path | None = None
    index: Path | None = None
    runs: tuple[Path, ...] = ()
    task: str | None = None
    probe: str | None = None
    probe_previous: bool = False
    metrics: tuple[str, ...] = RETRIEVAL_METRICS
    baselines: tuple[str, ...] = ()
    automatic_baselines: bool = True
    test: str = TESTS[0]
    cache: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)


class Outcome(NamedTuple):
    """What was found: the systems in the order asked for, the baselines, and each further system against the first.

    best  what does best against what does next best, baselines among them; None where one system was asked for
    """

    systems: list[Evaluation]
    baselines: list[Evaluation]
    comparisons: list[Comparison]
    best: Comparison | None = None

    def comparison_of(self, row: int) -> Comparison | None:
        """The comparison of a system with the first, by its place; None for the first."""
        return self.comparisons[row - 1] if row and self.comparisons else None


def carry_out(plan: EvaluationPlan, *, show_progress: bool = False) -> Outcome:
    """Measure everything in a plan. Raises RagvecError for what can't be measured together, before anything is encoded."""
    if plan.test not in TESTS:
        raise WrongUsage(f"unknown test {plan.test!r}: choose one of {', '.join(TESTS)}")
    task = _task(plan)
    _check_extras(plan, task)
    if task == "retrieval":
        systems, baselines = _retrieval(plan, show_progress)
    else:
        systems, baselines = _of_vectors(plan, task, show_progress)
    return Outcome(systems, baselines, _comparisons(systems, plan.test), _best(systems, baselines, plan.test))


def _check_extras(plan: EvaluationPlan, task: str) -> None:
    """Raises RagvecError for a package that is not installed, before an encoder is loaded."""
    if task == "retrieval":
        import_measures()
    if task in LABELLED_TASKS:
        from ragvec.evaluate.labels import import_sklearn

        import_sklearn()
    if task == "similarity" or plan.test != TESTS[0]:
        import_scipy()


def _task(plan: EvaluationPlan) -> str:
    if plan.runs or plan.qrels or plan.topics or plan.dataset is None:
        return "retrieval"
    if plan.probe is not None:
        return "tagging"
    task = task_of(plan.dataset)
    if plan.task is None or plan.task == task:
        return task
    if task == "classification" and plan.task in LABELLED_TASKS:
        return plan.task
    raise WrongUsage(f"{plan.dataset} is a {task} data set, so it can't be measured as {plan.task}")


def _retrieval(plan: EvaluationPlan, show: bool) -> tuple[list[Evaluation], list[Evaluation]]:
    from ragvec.evaluate.retrieval import evaluate_retrieval, evaluate_run
    from ragvec.evaluate.trec import read_run

    data = read_retrieval_set(
        plan.dataset, plan.split, topics=plan.topics, qrels=plan.qrels, index=plan.index, needs_queries=not plan.runs
    )
    if plan.runs:
        ignored = {"ignore_identical_ids": plan.ignore_identical_ids}
        return [evaluate_run(data, read_run(path), str(path), plan.metrics, **ignored) for path in plan.runs], []
    if plan.index is not None and _cuts_passages(plan):
        raise WrongUsage("an index holds passages already: leave `passage_tokens` out, or the index")
    Request(**plan.search)  # what can't be asked for shows before anything is loaded
    common: dict[str, Any] = {
        "index": plan.index,
        "ignore_identical_ids": plan.ignore_identical_ids,
        "metrics": plan.metrics,
        "cache": plan.cache,
        "show_progress": show,
    }
    systems: list[Evaluation] = []
    words: list[Evaluation] = []
    reranker = _reranker(plan)
    for encoder in _encoders(plan):
        for cut, (mode, instruction) in product(plan.cuts, _ways(plan)):
            asked: Options = {**plan.search, "mode": mode, "instruction": instruction}
            systems.append(evaluate_retrieval(data, encoder, reranker=reranker, cut=cut, **common, **asked))
        if not words and _wants_words(plan):  # here, as it takes the encoder's tokens where passages are cut
            beside: dict[str, Any] = {"cut": plan.cuts[0], "where": plan.search.get("where")}
            words = [evaluate_retrieval(data, encoder, mode="lexical", **beside, **common)]
    return systems, [*words, *_retrieval_baselines(plan, data, systems, common)]


def _wants_words(plan: EvaluationPlan) -> bool:
    return plan.automatic_baselines and ("lexical" not in plan.modes or plan.search.get("rerank") is not None)


def _retrieval_baselines(
    plan: EvaluationPlan, data: RetrievalSet, systems: list[Evaluation], common: dict[str, Any]
) -> Iterator[Evaluation]:
    from ragvec.evaluate.retrieval import evaluate_retrieval

    if data.corpus is not None:
        small = systems[0].counts["documents"] <= AUTOMATIC_LIMIT
        for encoder in _baseline_encoders(plan, systems, automatic=small):
            room = encoder.prompts.room() if plan.cuts[0].passage_tokens is not None else 0
            options = {**common, "index": None, "cut": _fitting(plan.cuts[0], room), "where": plan.search.get("where")}
            yield evaluate_retrieval(data, encoder, **options)


def _fitting(cut: CorpusOptions, room: int) -> CorpusOptions:
    """The same passages, or as long ones as an encoder reads that stands beside."""
    if cut.passage_tokens is None or cut.passage_tokens <= room:
        return cut
    return replace(cut, passage_tokens=room, overlap=min(cut.overlap, room // 2))


def _of_vectors(plan: EvaluationPlan, task: str, show: bool) -> tuple[list[Evaluation], list[Evaluation]]:
    given = {"modes": plan.modes != ("dense",), "index": plan.index, "passage_tokens": _cuts_passages(plan)}
    given |= {name: value != DEFAULTS[name] for name, value in plan.search.items()}
    given |= {"ignore_identical_ids": plan.ignore_identical_ids}
    if unfit := [f"`{name}`" for name, value in given.items() if value]:
        raise WrongUsage(f"{plan.dataset} is a {task} data set: it takes no {', '.join(unfit)}")
    measure = _measure(plan, task)
    systems = [
        measure(plan.dataset, encoder, instruction=instruction or "", show_progress=show)
        for encoder in _encoders(plan)
        for instruction in plan.instructions
    ]
    encoders = _baseline_encoders(plan, systems)
    return systems, [measure(plan.dataset, encoder, show_progress=show) for encoder in encoders]


def _measure(plan: EvaluationPlan, task: str) -> Callable[..., Evaluation]:
    """The function that measures vectors on a task."""
    if task == "similarity":
        from ragvec.evaluate.similarity import evaluate_similarity

        return evaluate_similarity
    if task == "tagging":
        from ragvec.evaluate.words import evaluate_words

        assert plan.probe is not None
        return partial(evaluate_words, column=plan.probe, previous=plan.probe_previous)
    from ragvec.evaluate.labels import evaluate_classification, evaluate_clustering

    return partial(evaluate_classification, split=plan.split) if task == "classification" else evaluate_clustering


def _encoders(plan: EvaluationPlan) -> "Iterator[Encoder | None]":
    """One after another, so that only one is in memory; None where words alone are searched."""
    from ragvec.index import Index
    from ragvec.index.encoder import load_encoder

    needs_none = not _cuts_passages(plan) and plan.search.get("rerank") != "maxsim"
    if set(plan.modes) == {"lexical"} and needs_none:
        yield None
        return
    from ragvec.encoder import Encoder

    for source in plan.encoders:
        if plan.index is None:
            yield Encoder.load(source, **plan.options)
        else:
            with Index.open(plan.index) as index:
                settings = index.settings
            yield load_encoder(settings, source, **plan.options)


def _cuts_passages(plan: EvaluationPlan) -> bool:
    return any(cut.passage_tokens is not None for cut in plan.cuts)


def _ways(plan: EvaluationPlan) -> Iterator[tuple[Mode, str | None]]:
    """Modes and instructions; words alone carry none, so they are searched once."""
    for mode in plan.modes:
        for instruction in plan.instructions[:1] if mode == "lexical" else plan.instructions:
            yield mode, None if mode == "lexical" else instruction


def _reranker(plan: EvaluationPlan) -> "Reranker | None":
    """A cross-encoder, loaded once; maxsim is the encoder's own."""
    from ragvec.retrieve import MAXSIM, load_reranker

    name = plan.search.get("rerank")
    if name in (None, MAXSIM):
        return None

    loading = {name: value for name, value in plan.options.items() if name in ("device", "offline")}
    return load_reranker(name, None, **loading)


def _baseline_encoders(plan: EvaluationPlan, systems: Sequence[Evaluation], *, automatic: bool = True) -> "Iterator[Encoder]":
    measured = {system.fingerprint for system in systems}
    return load_baselines(plan.baselines, automatic=automatic and plan.automatic_baselines, but=measured, **plan.options)


def _comparisons(systems: list[Evaluation], test: str) -> list[Comparison]:
    names = row_names(systems)
    return [
        compare(system, systems[0], names=(name, names[0]), test=test)
        for name, system in list(zip(names, systems, strict=True))[1:]
        if len(systems[0].values) > 1
    ]


def _best(systems: list[Evaluation], baselines: list[Evaluation], test: str) -> Comparison | None:
    """What does best by the first metric against the next, of what has values by query."""
    rows = [*systems, *baselines]
    metric = next(iter(systems[0].figures), None)
    ranked = sorted(
        ((one.figures[metric], name, one) for name, one in zip(row_names(rows), rows, strict=True) if metric in one.figures),
        key=lambda row: -row[0],
    )
    if metric is None or len(systems) < 2 or any(len(one.values) < 2 for *_, one in ranked[:2]):
        return None
    (_, name, first), (_, next_name, second) = ranked[:2]
    return compare(first, second, names=(name, next_name), metric=metric, test=test)
