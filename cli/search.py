"""`ragvec search`: a query in, hits out."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragvec.cli.choices import Device, Dtype, IndexEncoder, Offline, PromptName, QueryInstruction, prompted
from ragvec.cli.filter_values import WhereValues
from ragvec.cli.help import HOW, SERVER, SHOWN, WHICH
from ragvec.cli.output import Format, default_format, print_context, print_hits
from ragvec.errors import RagvecError, WrongUsage
from ragvec.records import Hit
from ragvec.retrieve import DEFAULT_MODE, DEFAULTS, Fusion, Group, Mode, Options, Request, check_queries
from ragvec.serve.client import search_served

if TYPE_CHECKING:
    from ragvec.retrieve import Retriever
    from ragvec.retrieve.searched import Place

BATCH_QUERIES = 512


Query = Annotated[str | None, typer.Argument(help='What to look for; "-" reads queries from stdin, one a line.')]
IndexFolder = Annotated[Path, typer.Option("--index", "-i", envvar="RAGVEC_INDEX", help="Index folder.")]
IndexFolders = Annotated[
    list[str] | None,
    typer.Option(
        "--index",
        "-i",
        metavar="INDEX",
        help="Index folder, or http://host:8000 of a ragvec serve; repeatable: several are searched as one. "
        "Default: $RAGVEC_INDEX, or ragvec-index.",
    ),
]
Hits = Annotated[int, typer.Option("-k", help="Hits per query.")]
SearchMode = Annotated[Mode, typer.Option(help="By vectors, by words, or by both.", rich_help_panel=HOW)]
FusionKind = Annotated[Fusion, typer.Option(help="Hybrid: by weighted scores, or by reciprocal ranks.", rich_help_panel=HOW)]
QueryFile = Annotated[
    Path | None, typer.Option(help="Read queries from a file: JSONL (_id, text), CSV or TSV (id, text), or one a line.")
]
Syntax = Annotated[
    bool | None,
    typer.Option(
        "--syntax/--plain",
        help='Signs in the query mean something: "in sequence", +word, -word, title:word, begin*, wrod~; '
        "default: in one that is typed, not in those of a file or stdin.",
    ),
]
Where = Annotated[str | None, typer.Option(help="Filter, e.g. 'year >= 2020 and lang = \"ko\"'.", rich_help_panel=WHICH)]
Offset = Annotated[int, typer.Option(help="Hits to pass over, for pages.", rich_help_panel=WHICH)]
MinScore = Annotated[float | None, typer.Option(help="No hit below this score.", rich_help_panel=WHICH)]
GroupBy = Annotated[Group | None, typer.Option(help="Of each document only its best passage.", rich_help_panel=WHICH)]
Diversity = Annotated[
    float, typer.Option(help="0 to 1: how much hits shall differ from those above them (MMR).", rich_help_panel=WHICH)
]
DenseWeight = Annotated[
    float | None,
    typer.Option(help="Hybrid: the share of the vectors, 0 to 1; default: what suits --fusion.", rich_help_panel=HOW),
]
Rerank = Annotated[
    str | None,
    typer.Option(
        help='Score the best hits again: "maxsim" (the encoder\'s token vectors) or a cross-encoder.', rich_help_panel=HOW
    ),
]
RerankDepth = Annotated[int, typer.Option(help="How many hits are scored again.", rich_help_panel=HOW)]
Snippets = Annotated[bool, typer.Option("--snippets", help="Show the sentence nearest to the query.", rich_help_panel=SHOWN)]
Context = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="TOKENS",
        help="Print a prompt with the hits as numbered passages, of at most so many tokens.",
        rich_help_panel=SHOWN,
    ),
]
AskServer = Annotated[
    bool, typer.Option(help="Ask the `ragvec serve` of this index, where one runs on this machine.", rich_help_panel=SERVER)
]
ApiKey = Annotated[
    str | None, typer.Option(envvar="RAGVEC_API_KEY", show_default=False, help="The servers' key.", rich_help_panel=SERVER)
]
HitFormat = Annotated[
    Format | None, typer.Option(help="Default: a table on a terminal, NDJSON on a pipe.", rich_help_panel=SHOWN)
]


PAGE = "retrieval.md"
EXAMPLES = (
    'ragvec search "how do plants make food?" -k 3',
    'ragvec search "leaves" --where \'year >= 2020 and lang = "en"\'',
    'ragvec search "how do plants make food?" --context 2000',
    "ragvec search --queries queries.tsv --format trec > run.trec",
)


def run(
    query: Query = None,
    index: IndexFolders = None,
    k: Hits = DEFAULTS["k"],
    mode: SearchMode = DEFAULT_MODE,
    queries: QueryFile = None,
    instruction: QueryInstruction = DEFAULTS["instruction"],
    prompt_name: PromptName = None,
    encoder: IndexEncoder = None,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    format: HitFormat = None,
    syntax: Syntax = None,
    where: Where = DEFAULTS["where"],
    where_values: WhereValues = DEFAULTS["where_values"],
    offset: Offset = DEFAULTS["offset"],
    min_score: MinScore = DEFAULTS["min_score"],
    group_by: GroupBy = DEFAULTS["group_by"],
    diversity: Diversity = DEFAULTS["diversity"],
    fusion: FusionKind = DEFAULTS["fusion"],
    dense_weight: DenseWeight = DEFAULTS["dense_weight"],
    rerank: Rerank = DEFAULTS["rerank"],
    rerank_depth: RerankDepth = DEFAULTS["rerank_depth"],
    snippets: Snippets = DEFAULTS["snippets"],
    context: Context = None,
    server: AskServer = True,
    api_key: ApiKey = None,
) -> None:
    """Answer one query, or a file of them, and print the hits."""
    places = chosen_places(index)
    instruction = prompted(instruction, prompt_name, encoder or (prompt_name and _source(places, api_key)), offline=offline)
    single = queries is None and query != "-"
    options = Options(
        offset=offset, mode=mode, syntax=single if syntax is None else syntax, where=where, where_values=where_values,
        fusion=fusion, dense_weight=dense_weight, diversity=diversity, rerank=rerank, rerank_depth=rerank_depth,
        min_score=min_score, snippets=snippets, instruction=instruction,
        group_by="doc_id" if group_by or format is Format.trec else None,  # a TREC run names a document once
    )  # fmt: skip
    request = Request(k=k, **options)  # what can't be answered shows before seconds are spent on loading an encoder
    asked = [("1", query or "")] if single else list(_read_queries(query, queries))
    check_queries([text for _, text in asked])
    _check_context(context, single, format)
    request = replace(request, query=asked[0][1] if single else None)
    if single and server and not elsewhere(places) and not (encoder or device or dtype) and rerank in (None, "maxsim"):
        answer = search_served(Path(places[0]), as_json(request, context), api_key=api_key)
        if answer is not None:
            _print_single(request.meaning, [Hit(**record) for record in answer["hits"]], answer.get("context"), format)
            return
    from ragvec.retrieve import open_retriever

    retriever = open_retriever(
        with_key(places, api_key), mode=mode, where=where, where_values=where_values, rerank=rerank, encoder=encoder,
        device=device, dtype=dtype, offline=offline)  # fmt: skip
    if context is not None:
        hits = retriever.answer(request)
        _print_single(request.meaning, hits, _context(request.meaning, hits, context, retriever, offline=offline), format)
        return
    for batch in (asked[start : start + BATCH_QUERIES] for start in range(0, len(asked), BATCH_QUERIES)):
        found = retriever.retrieve_many([text for _, text in batch], k, **options)
        print_hits([(*pair, hits) for pair, hits in zip(batch, found, strict=True)], format or default_format(), single=single)


def _context(query: str, hits: list[Hit], tokens: int, retriever: "Retriever", *, offline: bool) -> dict[str, Any]:
    """A prompt with the hits, as `POST /search` gives it too."""
    from ragvec.retrieve.context import build_context, token_counter

    count_tokens = token_counter(retriever.index.settings, retriever.encoder, offline=offline)
    return build_context(query, hits, tokens, count_tokens).record()


def as_json(request: Request, context: int | None) -> dict[str, Any]:
    """A request as `POST /search` takes it."""
    return {**{name: getattr(request, name) for name in DEFAULTS if name != "vector"}, "context": context}


def chosen_places(named: Sequence[str] | None) -> list[str]:
    """The indices that are named, else the one that the environment names, else the default one."""
    return list(named or [os.environ.get("RAGVEC_INDEX") or "ragvec-index"])


def elsewhere(places: Sequence[str]) -> bool:
    """Whether no server of an index folder can answer: there are several, or it lies elsewhere."""
    return len(places) > 1 or "://" in places[0]


def with_key(places: Sequence[str], key: str | None) -> "list[Place]":
    """The places, with the key for those that are servers."""
    from ragvec.remote import Server
    from ragvec.retrieve.searched import server_of

    return [place if server_of(place) is None else Server(place, key) for place in places]


def _source(places: Sequence[str], key: str | None) -> str | None:
    """Where the encoder of an index lies; None = the bundled one."""
    from ragvec.index.encoder import BUNDLED
    from ragvec.retrieve.searched import open_searched

    with closing(open_searched(with_key(places, key))) as searched:
        return None if searched.settings.encoder_source == BUNDLED else searched.settings.encoder_source


def _print_single(query: str, hits: list[Hit], context: dict[str, Any] | None, format: Format | None) -> None:
    if context is None:
        print_hits([("1", query, hits)], format or default_format(), single=True)
    else:
        print_context(context, format)


def _check_context(context: int | None, single: bool, format: Format | None) -> None:
    if context is None:
        return
    if not single:
        raise WrongUsage("a context is made for one query: give --context with a query, not with many")
    if format is Format.trec:
        raise WrongUsage("a context is a prompt, not a TREC run: leave --format out, or use --format json")


def _read_queries(query: str | None, path: Path | None) -> Iterator[tuple[str, str]]:
    from ragvec.corpus.queries import parse_queries

    if path is None or path == Path("-"):
        yield from parse_queries(sys.stdin, "stdin")
        return
    if query is not None:
        raise WrongUsage(f"both a query and --queries {path} are given: choose one")
    try:
        with open(path, encoding="utf-8-sig") as lines:
            yield from parse_queries(lines, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RagvecError(f"can't read queries from {path}: {error}") from error
