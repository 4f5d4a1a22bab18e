"""An MCP server: an assistant's way to search an index and to read its documents.

Speaks the Model Context Protocol over stdin and stdout, or over HTTP, through the official SDK.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anyio.to_thread
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import BaseModel, Field

from ragvec import __version__
from ragvec.errors import RagvecError
from ragvec.index import Index
from ragvec.retrieve import DEFAULT_MODE, DEFAULTS, Mode, Request, Retriever
from ragvec.retrieve.lookup import metadata_fields, read_document, whole_text
from ragvec.serve.lazy import LazyEncoder
from ragvec.serve.live import LiveIndex

MOST_HITS = 50
DEFAULT_HITS = 5  # fewer than elsewhere: an assistant reads all of them
Answer = TypeVar("Answer")


class FoundPassage(BaseModel):
    """A passage that answers a query; doc_id names the document it is part of, weak says that it hardly matches."""

    doc_id: str
    title: str
    text: str
    score: float
    weak: bool
    metadata: dict[str, Any]


class FoundDocument(BaseModel):
    """A whole document."""

    doc_id: str
    title: str
    text: str
    metadata: dict[str, Any]


def create_mcp_server(
    path: str | Path,
    encoder: str | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    offline: bool = False,
) -> MCPServer:
    """A server of the official SDK with the tools `search` and `get_document` over an index folder.

    encoder  another place of the index's encoder; loaded when a search first needs it
    device, dtype, offline  as for `Encoder.load`; they change no vector
    Raises RagvecError if there is no index.
    """
    live = LiveIndex(path, None)
    settings = live.call(lambda index: index.settings)
    loaded = LazyEncoder(settings, encoder, device=device, dtype=dtype, offline=offline)
    instructions = live.call(_describe)
    server = MCPServer("ragvec", instructions=instructions, version=__version__)

    async def answer(work: Callable[[Index], Answer]) -> Answer:
        try:
            return await anyio.to_thread.run_sync(lambda: live.call(work))
        except RagvecError as error:
            raise ToolError(str(error)) from error

    @server.tool(description=f"Find passages that answer a question. {instructions}")
    async def search(
        query: Annotated[str, Field(description="What to look for, in plain words or as a question.")],
        k: Annotated[int, Field(ge=1, le=MOST_HITS, description="How many passages.")] = DEFAULT_HITS,
        mode: Annotated[Mode, Field(description="dense: by meaning; lexical: by words; hybrid: by both.")] = DEFAULT_MODE,
        where: Annotated[str | None, Field(description='A filter on metadata: year >= 2020 and lang = "ko"')] = DEFAULTS[
            "where"
        ],
    ) -> list[FoundPassage]:
        def work(index: Index) -> list[FoundPassage]:
            retriever = Retriever(index, None if mode == "lexical" else loaded.get())
            hits = retriever.answer(Request(query=query, k=k, mode=mode, where=where))
            return [
                FoundPassage(
                    doc_id=hit.doc_id, title=hit.title, text=hit.text, score=hit.score, weak=hit.weak, metadata=hit.metadata
                )
                for hit in hits
            ]

        return await answer(work)

    @server.tool(description="Read a whole document by the doc_id that search gave.")
    async def get_document(doc_id: Annotated[str, Field(description="The document's id, as search gave it.")]) -> FoundDocument:
        def work(index: Index) -> FoundDocument:
            passages = read_document(index, doc_id)
            if not passages:
                raise ToolError(f"there is no document {doc_id!r}: use a doc_id that search gave")
            first = passages[0]
            return FoundDocument(doc_id=doc_id, title=first.title, text=whole_text(passages), metadata=first.metadata)

        return await answer(work)

    return server


def http_app(
    server: MCPServer,
    *,
    host: str,
    api_key: str | None,
    host_names: Sequence[str] = (),
    origins: Sequence[str] = (),
) -> Any:
    """The server over streamable HTTP at /mcp, as an ASGI application behind the guard of `ragvec serve`.

    host_names  further names that it is reached by, such as behind a proxy
    origins     of other sites whose pages may use it
    """
    from ragvec.serve.guard import Guard, names_answered_to
    from ragvec.serve.limits import Limits
    from ragvec.serve.metrics import Metrics

    names = names_answered_to(host, api_key, host_names)
    # one place looks at Host and Origin: the guard, which knows of keys and of names given
    app = server.streamable_http_app(transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False))
    return Guard(app, limits=Limits(), metrics=Metrics(), api_key=api_key, host_names=names, origins=origins, open_paths=())


def _describe(index: Index) -> str:
    """What an assistant should know of the index before it asks."""
    described = index.describe()
    fields = metadata_fields(index)
    about = f"The index holds {described['documents']:,} documents."
    return f"{about} Metadata for filters: {', '.join(fields)}." if fields else about
