"""`ragvec serve`: embeddings and search over HTTP."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragvec.cli.ask import PromptTemplate
from ragvec.cli.choices import Device, Dtype, Offline
from ragvec.cli.endpoint_options import BaseUrl, ModelName, endpoint_of
from ragvec.cli.help import ENCODER, ENDPOINT, REACHED
from ragvec.cli.search import with_key
from ragvec.errors import RagvecError

if TYPE_CHECKING:
    from ragvec.serve.ask_routes import Asking


ServedIndex = Annotated[
    list[str] | None,
    typer.Option(
        "--index",
        "-i",
        metavar="INDEX",
        help="Index folder, or http://host:8000 of another server; repeatable: several are searched as one. "
        "Default: $RAGVEC_INDEX, or ragvec-index if there.",
    ),
]
EncoderOfIndex = Annotated[
    str | None, typer.Option("--encoder", "-e", help="Default: the index's own, or the bundled.", rich_help_panel=ENCODER)
]
Host = Annotated[
    str, typer.Option(help="Address to listen on; 0.0.0.0 = reachable from other machines.", rich_help_panel=REACHED)
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 = any that is free.", rich_help_panel=REACHED)]
ClientKey = Annotated[
    str | None,
    typer.Option(
        envvar="RAGVEC_API_KEY",
        show_default=False,
        help="Clients must send it; best set in the environment.",
        rich_help_panel=REACHED,
    ),
]
ServersKey = Annotated[
    str | None,
    typer.Option(
        envvar="RAGVEC_SERVERS_KEY",
        show_default=False,
        help="The key of the other servers that are searched; best set in the environment.",
        rich_help_panel=REACHED,
    ),
]
Writable = Annotated[bool, typer.Option("--writable", help="Let clients add and delete documents.")]
Origins = Annotated[
    list[str] | None, typer.Option(help="Another site whose pages may use the server; repeatable.", rich_help_panel=REACHED)
]
HostNames = Annotated[
    list[str] | None,
    typer.Option(help="A name that it is reached by, such as behind a proxy; repeatable.", rich_help_panel=REACHED),
]
RootPath = Annotated[
    str, typer.Option(help="The path that a proxy puts before the server's own: /search.", rich_help_panel=REACHED)
]
Answers = Annotated[
    bool,
    typer.Option(
        "--ask",
        envvar="RAGVEC_ASK",
        help="Answer questions by a language model; its key: OPENAI_API_KEY.",
        rich_help_panel=ENDPOINT,
    ),
]
BatchTokens = Annotated[int | None, typer.Option(min=1, help="Most tokens in one batch.", rich_help_panel=ENCODER)]


PAGE = "serving.md"
EXAMPLES = (
    "ragvec serve",
    "RAGVEC_API_KEY=… ragvec serve --host 0.0.0.0",
    "ragvec serve --ask --base-url http://localhost:11434/v1",
)


def run(
    index: ServedIndex = None,
    encoder: EncoderOfIndex = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_key: ClientKey = None,
    servers_key: ServersKey = None,
    writable: Writable = False,
    origin: Origins = None,
    host_name: HostNames = None,
    root_path: RootPath = "",
    ask: Answers = False,
    base_url: BaseUrl = None,
    model: ModelName = None,
    prompt_template: PromptTemplate = None,
    batch_tokens: BatchTokens = None,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
) -> None:
    """Serve until the process is told to end."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise RagvecError(f"the server needs {error.name}: pip install 'ragvec[serve]'") from error
    from ragvec.retrieve.searched import named_places, shown_place
    from ragvec.serve.run import serve, warn_if_open
    from ragvec.serve.source import choose_index, loader

    asking = _asking(base_url, model, prompt_template) if ask else None
    warn_if_open(host, api_key)
    told = os.environ.get("RAGVEC_INDEX")
    path = choose_index(with_key(index or ([told] if told else []), servers_key), writable=writable)
    served = [] if path is None else named_places(path)
    what = ", ".join(map(shown_place, served)) or "embeddings alone, for want of an index,"
    serve(
        loader(path, encoder, device=device, dtype=dtype, offline=offline, batch_tokens=batch_tokens),
        path,
        host=host,
        port=port,
        api_key=api_key,
        host_names=host_name or (),
        origins=origin or (),
        root_path=root_path,
        writable=writable,
        asking=asking,
        on_start=lambda url: print(f"serving {what} on {url}", file=sys.stderr, flush=True),
    )


def _asking(base_url: str | None, model: str | None, prompt_template: Path | None) -> "Callable[[], Asking]":
    """What makes the answers; wrong options show before anything is loaded."""
    from ragvec.retrieve.templates import read_template

    # --api-key is the server's own
    endpoint = endpoint_of(base_url, model=model, api_key=os.environ.get("OPENAI_API_KEY"), timeout=None)
    template = None if prompt_template is None else read_template(prompt_template)

    def make() -> "Asking":
        from ragvec.serve.ask_routes import Asking

        return Asking(endpoint, template=template)

    return make
