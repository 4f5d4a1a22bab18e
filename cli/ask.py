"""`ragvec ask`: a question in, an answer with its sources out."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragvec.cli.choices import Device, Dtype, IndexEncoder, Offline
from ragvec.cli.endpoint_options import BaseUrl, EndpointKey, EndpointTimeout, ModelName, endpoint_of
from ragvec.cli.filter_values import WhereValues
from ragvec.cli.help import ENDPOINT, SERVER
from ragvec.cli.output import Form, is_control, write_lines
from ragvec.cli.search import AskServer, IndexFolders, MinScore, SearchMode, Where, as_json, chosen_places, elsewhere, with_key
from ragvec.errors import RagvecError
from ragvec.records import Hit
from ragvec.retrieve import DEFAULT_MODE, DEFAULTS, Request
from ragvec.serve.client import search_served

if TYPE_CHECKING:
    from ragvec.answers import Reply

Question = Annotated[str, typer.Argument(help="What to answer.")]
Passages = Annotated[int, typer.Option("-k", help="Passages to look for; weak matches among them are left out.")]
PromptTemplate = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A prompt with {passages} and {question} in it, in place of ragvec's own.",
        rich_help_panel=ENDPOINT,
    ),
]
ContextTokens = Annotated[
    int | None,
    typer.Option(
        "--context",
        min=1,
        metavar="TOKENS",
        help="Most tokens of the prompt, by the index's tokenizer; default: 2000.",
        rich_help_panel=ENDPOINT,
    ),
]
ServerKey = Annotated[
    str | None,
    typer.Option(
        "--server-key",
        envvar="RAGVEC_API_KEY",
        show_default=False,
        help="The servers' key.",
        rich_help_panel=SERVER,
    ),
]
AnswerFormat = Annotated[Form | None, typer.Option(help="json: one object at the end; default: the text as it comes.")]

TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # Unicode's marks that turn the direction of text


PAGE = "rag.md"
EXAMPLES = (
    "export OPENAI_BASE_URL=http://localhost:11434/v1",
    'ragvec ask "how do plants make food?"',
)


def run(
    question: Question,
    index: IndexFolders = None,
    k: Passages = DEFAULTS["k"],
    mode: SearchMode = DEFAULT_MODE,
    where: Where = DEFAULTS["where"],
    where_values: WhereValues = DEFAULTS["where_values"],
    min_score: MinScore = DEFAULTS["min_score"],
    base_url: BaseUrl = None,
    model: ModelName = None,
    api_key: EndpointKey = None,
    timeout: EndpointTimeout = None,
    prompt_template: PromptTemplate = None,
    context: ContextTokens = None,
    encoder: IndexEncoder = None,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    server: AskServer = True,
    server_key: ServerKey = None,
    format: AnswerFormat = None,
) -> None:
    """Find the passages, ask the endpoint, and print its answer and what it cites."""
    request = Request(query=question, k=k, mode=mode, where=where, where_values=where_values, min_score=min_score)
    endpoint = endpoint_of(base_url, model=model, api_key=api_key, timeout=timeout)
    from ragvec.retrieve.templates import read_template

    template = None if prompt_template is None else read_template(prompt_template)
    encoding = {"encoder": encoder, "device": device, "dtype": dtype}
    places = chosen_places(index)
    served = server and not elsewhere(places) and not any(encoding.values())
    hits = _served(Path(places[0]), request, server_key) if served else None
    from ragvec.answers import CONTEXT_TOKENS, Reply, find_grounds
    from ragvec.index import Index
    from ragvec.retrieve import open_retriever
    from ragvec.retrieve.context import token_counter

    if hits is None:
        retriever = open_retriever(
            with_key(places, server_key), mode=mode, where=where, where_values=where_values, offline=offline, **encoding
        )
        hits, settings, loaded = retriever.answer(request), retriever.index.settings, retriever.encoder
    else:
        with Index.open(places[0]) as opened:
            settings, loaded = opened.settings, None
    count = token_counter(settings, loaded, offline=offline)
    grounds = find_grounds(question, hits, count, template=template, max_tokens=context or CONTEXT_TOKENS)
    with Reply(grounds, endpoint) as reply:
        _print_json(reply) if format is Form.json else _print_text(reply)


def _served(index: Path, request: Request, key: str | None) -> list[Hit] | None:
    """The hits of the server of this index, which has its encoder loaded; None = ask the index itself."""
    answer = search_served(index, as_json(request, None), api_key=key)
    return None if answer is None else [Hit(**record) for record in answer["hits"]]


def _print_json(reply: "Reply") -> None:
    write_lines([json.dumps(reply.answer().record(), ensure_ascii=False)])


def _print_text(reply: "Reply") -> None:
    """Print the answer as it comes, and below it what it cites, or all that it was given where it cites nothing."""
    written = False
    try:
        for piece in reply:
            _write(_harmless(piece))
            written = True
    except (RagvecError, KeyboardInterrupt):
        _write("\n" if written else "")  # what came stands whole above the error
        raise
    answer = reply.answer()
    _write("\n")
    if sources := answer.cited or answer.sources:
        write_lines(["", *(_harmless(str(source)).replace("\n", " ") for source in sources)])
    if answer.found and not answer.cited:
        print("it cites none of the passages above, which it was given: look whether they say so", file=sys.stderr)
    if answer.cut:
        print("the answer was cut: it has as many tokens as are asked for", file=sys.stderr)


def _write(text: str) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def _harmless(text: str) -> str:
    """Without what would move a terminal's cursor, or turn the direction of what is read: models repeat what they read."""
    return "".join(char for char in text if char in "\n\t" or not (char in TURNS or is_control(char)))
