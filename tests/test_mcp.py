"""The MCP server, asked by the official SDK's own client: in memory, over stdin and stdout, and over HTTP."""

import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ragvec.encoder import Encoder
from ragvec.errors import RagvecError
from ragvec.index import Index
from ragvec.records import Document, Passage
from ragvec.retrieve import Retriever
from tests.serving import RUN
from tests.test_page import running

pytest.importorskip("mcp", reason="the MCP SDK is not installed: pip install 'ragvec[mcp]'")

import anyio

from ragvec.serve.mcp import create_mcp_server, http_app

DOCUMENTS = [
    Document("fox", "The quick brown fox jumps over the lazy dog.", "Foxes", {"year": 2020}),
    Document("문서/서울", "서울은 대한민국의 수도이다.", "대한민국", {"year": 1999}),
]


@pytest.fixture(scope="module")
def folder(tiny_decoder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("mcp") / "index"
    with Index.create(path, encoder=Encoder.load(tiny_decoder)) as index:
        index.add(DOCUMENTS)
    return path


def ask(transport, conversation):
    """What an async function returns that is given a connected client."""
    from mcp.client.client import Client

    async def main():
        with anyio.fail_after(120):
            async with Client(transport) as client:
                return await conversation(client)

    return anyio.run(main)


def content(result):
    """A tool's structured answer; its text says the same."""
    assert not result.is_error, result.content
    value = result.structured_content
    texts = [json.loads(part.text) for part in result.content]
    assert texts == value.get("result", [value])
    return value.get("result", value)


async def conversation(client):
    tools = await client.list_tools()
    found = await client.call_tool("search", {"query": "서울", "mode": "lexical"})
    document = await client.call_tool("get_document", {"doc_id": content(found)[0]["doc_id"]})
    return [tool.name for tool in tools.tools], content(found), content(document)


def check(names, found, document) -> None:
    assert names == ["search", "get_document"]
    assert [(hit["doc_id"], hit["title"], hit["metadata"]) for hit in found] == [("문서/서울", "대한민국", {"year": 1999})]
    assert document == {
        "doc_id": "문서/서울",
        "title": "대한민국",
        "text": "서울은 대한민국의 수도이다.",
        "metadata": {"year": 1999},
    }


def test_search_and_get_document(folder):
    check(*ask(create_mcp_server(folder), conversation))


def test_the_tools_describe_themselves_and_the_index(folder):
    async def look(client):
        return (await client.list_tools()).tools, client.instructions

    tools, instructions = ask(create_mcp_server(folder), look)
    assert instructions == "The index holds 2 documents. Metadata for filters: year."
    search = tools[0].input_schema
    assert search["required"] == ["query"] and set(search["properties"]) == {"query", "k", "mode", "where"}
    assert all(field["description"] for field in search["properties"].values()) and "2 documents" in tools[0].description


def test_search_is_the_retrievers(folder):
    async def search(client):
        return content(await client.call_tool("search", {"query": "quick fox", "k": 2, "where": "year > 1990"}))

    found = ask(create_mcp_server(folder), search)
    with Index.open(folder) as index:
        hits = Retriever(index, index.encoder).retrieve("quick fox", 2, where="year > 1990")
    assert [(hit["doc_id"], hit["text"]) for hit in found] == [(hit.doc_id, hit.text) for hit in hits]
    assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in hits], abs=1e-6)


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("search", {"query": " "}, "a query is empty"),
        ("search", {"query": "x", "k": 0}, "greater than or equal to 1"),
        ("search", {"query": "x", "k": 10_000}, "less than or equal to 50"),
        ("search", {"query": "x", "mode": "lexical", "where": "yeer > 1"}, "yeer"),
        ("search", {}, "query"),
        ("get_document", {"doc_id": "nothing"}, "there is no document 'nothing': use a doc_id that search gave"),
    ],
)
def test_mistakes_are_told_to_the_assistant(folder, tool, arguments, message):
    async def mistake(client):
        return await client.call_tool(tool, arguments)

    result = ask(create_mcp_server(folder), mistake)
    assert result.is_error and message in result.content[0].text


def test_an_index_that_grows_is_searched_as_it_is(folder, tmp_path):
    encoder = Encoder.load(Index.open(folder).settings.encoder_source)
    with Index.create(tmp_path / "index", encoder=encoder) as index:
        server = create_mcp_server(tmp_path / "index")
        index.add([Document("zebra", "a zebra")])

        async def search(client):
            return content(await client.call_tool("search", {"query": "zebra", "mode": "lexical"}))

        assert [hit["doc_id"] for hit in ask(server, search)] == ["zebra"]


def test_a_document_of_many_passages_is_read_without_what_they_repeat(folder, tmp_path):
    from ragvec.corpus.chunk import Cutter

    text = " ".join(f"Sentence {number} is here." for number in range(40))
    cut = Cutter(lambda texts: [len(one.split()) for one in texts], 20, 8).cut(Document("long", text, "Title"))
    apart = [Passage("two#0", "two", "An end."), Passage("two#1", "two", "end. And more.")]
    with Index.create(tmp_path / "index", encoder=Encoder.load(Index.open(folder).settings.encoder_source)) as index:
        index.add_passages([*cut, *apart])
    assert len(cut) > 5 and sum(len(passage.text) for passage in cut) > 1.2 * len(text)

    async def read(client):
        return [content(await client.call_tool("get_document", {"doc_id": name}))["text"] for name in ("long", "two")]

    assert ask(create_mcp_server(tmp_path / "index"), read) == [text, "An end.\n\nend. And more."]


def test_over_stdin_and_stdout(folder, monkeypatch):
    from mcp.client.stdio import StdioServerParameters, stdio_client

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = StdioServerParameters(command=sys.executable, args=["-c", RUN, "mcp", "-i", str(folder)])
    check(*ask(stdio_client(command), conversation))


def test_over_http_with_a_key(folder):
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    with running(http_app(create_mcp_server(folder), host="127.0.0.1", api_key="sesame"), lifespan="on") as address:
        assert httpx2.post(f"{address}/mcp", json={}).status_code == 401

        @asynccontextmanager
        async def transport():
            async with (
                httpx2.AsyncClient(headers={"authorization": "Bearer sesame"}) as client,
                streamable_http_client(f"{address}/mcp", http_client=client) as streams,
            ):
                yield streams

        check(*ask(transport(), conversation))


def test_pages_of_other_sites_are_shut_out(folder):
    import httpx2

    with running(http_app(create_mcp_server(folder), host="127.0.0.1", api_key=None), lifespan="on") as address:
        for headers in ({"origin": "http://evil.example"}, {"host": "evil.example"}):
            assert httpx2.post(f"{address}/mcp", json={}, headers=headers).status_code == 403


def test_no_index_is_one_line(tmp_path):
    with pytest.raises(RagvecError, match="no index in .*nowhere"):
        create_mcp_server(tmp_path / "nowhere")
