"""`ragvec mcp`: an index for assistants, over the Model Context Protocol."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ragvec.cli.choices import Device, Dtype, IndexEncoder, Offline
from ragvec.cli.help import REACHED
from ragvec.errors import RagvecError

PAGE = "serving.md"
EXAMPLES = (
    "claude mcp add my-documents -- ragvec mcp -i my-index",
    "ragvec mcp --http --port 8001",
)


def run(
    index: Annotated[Path, typer.Option("--index", "-i", envvar="RAGVEC_INDEX", help="Index folder.")] = Path("ragvec-index"),
    encoder: IndexEncoder = None,
    http: Annotated[
        bool, typer.Option("--http", help="Serve over HTTP, at /mcp, instead of stdin and stdout.", rich_help_panel=REACHED)
    ] = False,
    host: Annotated[str, typer.Option(help="With --http: address to listen on.", rich_help_panel=REACHED)] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="With --http: port; 0 = any that is free.", rich_help_panel=REACHED)
    ] = 8001,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="RAGVEC_API_KEY", show_default=False, help="With --http: clients must send it.", rich_help_panel=REACHED
        ),
    ] = None,
    host_name: Annotated[
        list[str] | None,
        typer.Option(
            help="With --http: a name that it is reached by, such as behind a proxy; repeatable.", rich_help_panel=REACHED
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="With --http: another site whose pages may use it; repeatable.", rich_help_panel=REACHED),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
) -> None:
    """Answer assistants over standard input and output, or over HTTP."""
    try:
        import mcp.server.mcpserver  # noqa: F401
    except ImportError as error:
        raise RagvecError("the MCP server needs the official SDK, version 2: pip install 'ragvec[mcp]'") from error
    from ragvec.serve.mcp import create_mcp_server, http_app

    server = create_mcp_server(index, encoder, device=device, dtype=dtype, offline=offline)
    if not http:
        server.run("stdio")
        return
    from ragvec.serve.run import run_app, warn_if_open

    warn_if_open(host, api_key)
    run_app(
        http_app(server, host=host, api_key=api_key, host_names=host_name or (), origins=origin or ()),
        host=host,
        port=port,
        on_start=lambda url: print(f"serving {index} on {url}/mcp", file=sys.stderr, flush=True),
    )
