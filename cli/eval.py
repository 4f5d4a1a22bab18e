"""`ragvec eval`: figures of encoders, indices and runs on a data set."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import typer

from ragvec.cli.choices import Device, DocumentInstruction, Dtype, Instructions, MaxLength, Offline, Revision, prompted
from ragvec.cli.corpus_options import Overlap
from ragvec.cli.help import COMPARED, CORPUS, DATA, ENCODER, HOW, WRITTEN
from ragvec.cli.output import Form, wants_json
from ragvec.cli.search import DenseWeight, FusionKind, RerankDepth, Where
from ragvec.metrics import RETRIEVAL_METRICS
from ragvec.retrieve import DEFAULTS, MODES, Fusion, Mode, Options

if TYPE_CHECKING:
    from ragvec.evaluate import Evaluation
    from ragvec.evaluate.evaluation_plan import EvaluationPlan, Outcome
    from ragvec.evaluate.output import Files

_FILE = "A file for"


DatasetPath = Annotated[
    Path | None,
    typer.Argument(help="BEIR folder, corpus (with --topics and --qrels), STS table or labelled texts (.tsv)."),
]
Encoders = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder", "-e", help="Folder or hub id; several are compared; default: the bundled one.", rich_help_panel=ENCODER
    ),
]
IndexFolder = Annotated[
    Path | None, typer.Option("--index", "-i", help="Search this index, not one made for this.", rich_help_panel=DATA)
]
Modes = Annotated[
    list[str] | None,
    typer.Option(
        metavar=f"<{'|'.join(MODES)}>", help="dense (default), lexical or hybrid; several are compared.", rich_help_panel=HOW
    ),
]
PassageSizes = Annotated[
    list[int] | None,
    typer.Option(
        "--passage-tokens",
        min=1,
        help="Cut documents into passages of so many tokens at most; several are compared.",
        rich_help_panel=CORPUS,
    ),
]
Rerank = Annotated[str | None, typer.Option(help="Score the best hits again: maxsim, or a cross-encoder.", rich_help_panel=HOW)]
Split = Annotated[str, typer.Option(help="Which qrels of a BEIR folder to use.", rich_help_panel=DATA)]
Topics = Annotated[
    Path | None, typer.Option(help="Queries: TREC topics, JSONL, or lines of id, tab, text.", rich_help_panel=DATA)
]
Qrels = Annotated[Path | None, typer.Option(help="Judgements: TREC's four columns, or BEIR's TSV.", rich_help_panel=DATA)]
RunFiles = Annotated[
    list[Path] | None, typer.Option("--run", help="Score this TREC run file; several are compared.", rich_help_panel=DATA)
]
PromptNames = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt-name",
        help="A prompt of the encoder's, by name, instead of an instruction; may be repeated.",
        rich_help_panel=ENCODER,
    ),
]
Metrics = Annotated[list[str] | None, typer.Option(help="nDCG@k, recall@k, MRR@k, MAP@k, P@k; may be repeated.")]
TaskName = Annotated[
    str | None, typer.Option(help="clustering: cluster labelled texts instead of classifying them.", rich_help_panel=DATA)
]
Probe = Annotated[
    str | None,
    typer.Option(help="Probe words of a CoNLL file: pos, chunk, ner, upos, xpos, or a column's number.", rich_help_panel=DATA),
]
ProbePrevious = Annotated[
    bool,
    typer.Option(
        "--probe-previous",
        help="Read words off the states before them, as the paper does of MNTP models.",
        rich_help_panel=DATA,
    ),
]
MtebNames = Annotated[
    list[str] | None,
    typer.Option(
        help="MTEB's tasks (SciFact) or benchmarks ('MTEB(eng, v1)'); joined by commas or repeated.", rich_help_panel=DATA
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="With --mteb: print the prompts and settings, and stop.")]
NamedBaselines = Annotated[
    list[str] | None, typer.Option(help="An encoder whose figures stand beside; may be repeated.", rich_help_panel=COMPARED)
]
Baselines = Annotated[
    bool, typer.Option(help="Show BM25, and all-MiniLM-L6-v2 where installed, beside.", rich_help_panel=COMPARED)
]
TestName = Annotated[
    str, typer.Option(help="How systems are compared: bootstrap or t-test, both paired.", rich_help_panel=COMPARED)
]
SaveRun = Annotated[
    Path | None,
    typer.Option(
        help=f"{_FILE} the hits, as a TREC run; of several systems each gets FILE-SYSTEM beside it.", rich_help_panel=WRITTEN
    ),
]
IgnoreIdenticalIds = Annotated[
    bool,
    typer.Option(
        "--ignore-identical-ids", help="Leave out hits with the query's id, whatever they say. Default: only the same text."
    ),
]
PerQuery = Annotated[Path | None, typer.Option(help=f"{_FILE} the figures by query (.tsv).", rich_help_panel=WRITTEN)]
ReportFile = Annotated[Path | None, typer.Option(help=f"{_FILE} a report (.md or .json).", rich_help_panel=WRITTEN)]
ChartFile = Annotated[Path | None, typer.Option(help=f"{_FILE} a chart (.png, .svg or .pdf).", rich_help_panel=WRITTEN)]
CacheFolder = Annotated[
    Path | None, typer.Option(envvar="RAGVEC_CACHE", help="Where vectors of corpora are kept. Default: ~/.cache/ragvec.")
]
Summary = Annotated[Form | None, typer.Option(help="Default: a table on a terminal, JSON on a pipe.", rich_help_panel=WRITTEN)]


def _other_command(wanted: bool) -> None:
    from ragvec.errors import WrongUsage

    if wanted:
        raise WrongUsage("questions are made by `ragvec generate FOLDER`; then `ragvec eval FOLDER`")


Generate = Annotated[bool, typer.Option("--generate", hidden=True, is_eager=True, callback=_other_command)]

_NOT_OF_MTEB = (
    "dataset", "index", "where", "rerank", "passage_tokens", "overlap", "ignore_identical_ids", "topics", "qrels", "score_run",
    "metric", "task", "probe", "probe_previous", "save_run", "per_query", "report", "chart",
)  # fmt: skip


PAGE = "evaluation.md"
EXAMPLES = (
    "ragvec eval data/scifact",
    "ragvec eval data/scifact -e my-encoder -e other --mode dense --mode hybrid",
    "ragvec eval --mteb 'MTEB(kor, v1)' -e my-encoder",
)


def run(
    dataset: DatasetPath = None,
    encoder: Encoders = None,
    index: IndexFolder = None,
    mode: Modes = None,
    fusion: FusionKind = DEFAULTS["fusion"],
    dense_weight: DenseWeight = DEFAULTS["dense_weight"],
    where: Where = DEFAULTS["where"],
    rerank: Rerank = DEFAULTS["rerank"],
    rerank_depth: RerankDepth = DEFAULTS["rerank_depth"],
    passage_tokens: PassageSizes = None,
    overlap: Overlap = 0,
    ignore_identical_ids: IgnoreIdenticalIds = False,
    instruction: Instructions = None,
    prompt_name: PromptNames = None,
    split: Split = "test",
    topics: Topics = None,
    qrels: Qrels = None,
    score_run: RunFiles = None,
    metric: Metrics = None,
    task: TaskName = None,
    probe: Probe = None,
    probe_previous: ProbePrevious = False,
    mteb: MtebNames = None,
    dry_run: DryRun = False,
    baseline: NamedBaselines = None,
    baselines: Baselines = True,
    test: TestName = "bootstrap",
    save_run: SaveRun = None,
    per_query: PerQuery = None,
    report: ReportFile = None,
    chart: ChartFile = None,
    cache: CacheFolder = None,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    max_length: MaxLength = None,
    document_instruction: DocumentInstruction = None,
    format: Summary = None,
    generate: Generate = False,
) -> None:
    """Measure each system on the data set, beside the baselines, and print or write the figures."""
    given = dict(locals())
    options = {name: given[name] for name in ("revision", "device", "dtype", "offline", "max_length", "document_instruction")}
    kept = cache or Path.home() / ".cache" / "ragvec"
    modes = _modes(mode or [])
    instruction = given["instruction"] = _instructions(instruction, prompt_name, encoder, revision=revision, offline=offline)
    if mteb:
        _only_mteb({name: given[name] for name in _NOT_OF_MTEB})
        source = _one_of_each(encoder, mode, instruction)
        how = _Mteb(modes[0], fusion, dense_weight, instruction[0] if instruction else None, results=kept / "mteb")
        _mteb(mteb, source, options, how, named=baseline or [], automatic=baselines, dry=dry_run, as_json=wants_json(format))
        return
    if dry_run:
        raise typer.BadParameter("it goes with --mteb", param_hint="--dry-run")
    from ragvec.evaluate.output import Files

    plan = _plan(given, modes=modes, cache=kept, options=options)
    _measure(plan, Files(save_run=save_run, per_query=per_query, report=report, chart=chart), as_json=wants_json(format))


def _plan(given: dict[str, Any], **others: Any) -> "EvaluationPlan":
    """What is to be measured, from what was given on the command line."""
    from ragvec.corpus.passages import CorpusOptions
    from ragvec.evaluate.evaluation_plan import EvaluationPlan

    alike = ("dataset", "split", "topics", "qrels", "index", "ignore_identical_ids", "task", "probe", "probe_previous", "test")
    asked = ("fusion", "dense_weight", "where", "rerank", "rerank_depth")
    return EvaluationPlan(
        **{name: given[name] for name in alike},
        encoders=tuple(given["encoder"] or (None,)),
        search=cast("Options", {name: given[name] for name in asked}),
        cuts=tuple(CorpusOptions(passage_tokens=size, overlap=given["overlap"]) for size in given["passage_tokens"] or (None,)),
        instructions=tuple((None,) if given["instruction"] is None else given["instruction"]),
        runs=tuple(given["score_run"] or ()),
        metrics=tuple(given["metric"] or RETRIEVAL_METRICS),
        baselines=tuple(given["baseline"] or ()),
        automatic_baselines=given["baselines"],
        **others,
    )


def _instructions(
    instructions: list[str] | None, names: list[str] | None, encoders: list[str] | None, *, revision: str | None, offline: bool
) -> list[str] | None:
    """The instructions given, and the prompts named, of the one encoder."""
    if not names:
        return instructions
    if len(encoders or ()) > 1:
        raise typer.BadParameter("it names a prompt of one encoder: give one", param_hint="'--prompt-name'")
    source = encoders[0] if encoders else None
    named = [prompted(None, name, source, revision=revision, offline=offline) or "" for name in names]
    return [*(instructions or ()), *named]


def _measure(plan: "EvaluationPlan", files: "Files", *, as_json: bool) -> None:
    """Carry a plan out, write its files, and print what was found."""
    from ragvec.evaluate.evaluation_plan import carry_out

    outcome = carry_out(plan, show_progress=True)
    files.write(outcome)
    print("\n".join(_json_lines(outcome)) if as_json else _table(outcome))


class _Mteb(NamedTuple):
    """How MTEB's tasks are measured, and where it keeps its results."""

    mode: Mode
    fusion: Fusion
    dense_weight: float | None
    instruction: str | None
    results: Path


def _modes(words: list[str]) -> tuple[Mode, ...]:
    """The modes named, dense by default; typer knows no list of choices but an enumeration of its own."""
    if unknown := [word for word in words if word not in MODES]:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(map(repr, MODES))}.", param_hint="'--mode'")
    return tuple(mode for word in words for mode in MODES if mode == word) or ("dense",)


def _only_mteb(others: dict[str, Any]) -> None:
    names = {"dataset": "DATASET", "score_run": "--run"}
    if given := [names.get(name, f"--{name.replace('_', '-')}") for name, value in others.items() if value]:
        raise typer.BadParameter(f"it brings data and metrics of its own: leave {', '.join(given)} out", param_hint="--mteb")


def _one_of_each(encoder: list[str] | None, *others: list[str] | None) -> str | None:
    """The one encoder, where no option was given several times."""
    from ragvec.errors import WrongUsage

    if any(len(given or ()) > 1 for given in (encoder, *others)):
        raise WrongUsage("--mteb measures one encoder, mode and instruction a call: MTEB keeps the results for comparison")
    return encoder[0] if encoder else None


def _mteb(
    words: list[str],
    source: str | None,
    options: dict[str, Any],
    how: _Mteb,
    *,
    named: list[str],
    automatic: bool,
    dry: bool,
    as_json: bool,
) -> None:
    """Measure an encoder, loaded with these options, on MTEB's tasks, with baselines beside; `dry`: only say how."""
    from ragvec.encoder import Encoder
    from ragvec.evaluate.baselines import load_baselines
    from ragvec.integrations.mteb import evaluate_mteb, preview_mteb
    from ragvec.integrations.mteb_baselines import evaluate_beside
    from ragvec.integrations.mteb_tasks import find_tasks, split_names

    tasks = find_tasks(split_names(words))  # before seconds are spent on loading an encoder
    loaded = Encoder.load(source, **options)
    if dry:
        for record in preview_mteb(tasks, loaded, mode=how.mode, instruction=how.instruction):
            print(json.dumps(record, ensure_ascii=False) if as_json else "\n".join(_described(record)))
        return
    beside = list(load_baselines(named, automatic=automatic, but={loaded.fingerprint}, **options))
    by_words = automatic and how.mode != "lexical"
    scores = []
    for task in tasks:
        for one in evaluate_mteb([task], loaded, **how._asdict(), show_progress=True):
            scores.append(one.figures["main_score"])
            others = evaluate_beside(task, loaded, beside, named=named, words=by_words, results=how.results, show_progress=True)
            print(_mteb_line(one, others, as_json), flush=True)
    if len(scores) > 1 and not as_json:
        print(f"{f'mean of {len(scores)} tasks':<58}  {sum(scores) / len(scores):.4f}")


def _mteb_line(one: "Evaluation", others: "dict[str, Evaluation]", as_json: bool) -> str:
    if as_json:
        beside = {"baselines": {name: other.figures for name, other in others.items()}} if others else {}
        return json.dumps({**one.as_record(), **beside}, ensure_ascii=False)
    told = "".join(f"  {name} {other.figures['main_score']:.4f}" for name, other in others.items())
    return f"{one.dataset:<38}  {one.task:<18}  {one.figures['main_score']:.4f}{told}"


def _described(record: dict[str, Any]) -> list[str]:
    width = max(map(len, record))
    lines = [f"{name:<{width}}  {value if isinstance(value, str) else json.dumps(value)}" for name, value in record.items()]
    return [*lines, ""]


def _json_lines(outcome: "Outcome") -> list[str]:
    """A line for each system."""
    from ragvec.evaluate.report import record

    records = (record(one, outcome.baselines, outcome.comparison_of(row)) for row, one in enumerate(outcome.systems))
    return [json.dumps(found, ensure_ascii=False) for found in records]


def _table(outcome: "Outcome") -> str:
    from ragvec.evaluate.report import table, verdict

    told = table([*outcome.systems, *outcome.baselines], outcome.comparisons)
    return told if outcome.best is None else f"{told}\n{verdict(outcome.best)}"
