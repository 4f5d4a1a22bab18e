"""One request for all doors: fields, defaults and bounds are the same in Python, over HTTP, in MCP and on the command line."""

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from pydantic import ValidationError

from ragvec.cli import search as cli_search
from ragvec.encoder import Encoder
from ragvec.errors import RagvecError, WrongInput
from ragvec.index import Index
from ragvec.records import Passage
from ragvec.retrieve import DEFAULT_MODE, DEFAULTS, MODES, Options, Request, Retriever
from ragvec.retrieve.rerank import blend, maxsim
from ragvec.serve.schemas import SearchRequest

# What only one door has a use for: the CLI has no vectors, and its query is an argument; the others are the door's own.
CLI_OWN = {"index", "queries", "encoder", "device", "dtype", "offline", "format", "context", "server", "api_key", "prompt_name"}
HTTP_OWN = {"highlight", "facets", "context"}
# A value on each side of every bound, (allowed, refused).
BOUNDS = {
    "k": [(1, 0)],
    "offset": [(0, -1)],
    "rerank_depth": [(1, 0)],
    "diversity": [(0.0, -0.01), (1.0, 1.01)],
    "dense_weight": [(0.0, -0.01), (1.0, 1.01)],
    "mode": [(mode, "sparse") for mode in ("hybrid", "dense", "lexical")],
    "fusion": [(fusion, "sum") for fusion in ("weighted", "rrf")],
    "group_by": [("doc_id", "title")],
}
TEXTS = ["a red fox", "a brown fox", "a lazy dog", "the river", "water of the river", "a city"]


class Counting:
    """An encoder that counts what it is asked to encode."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.asked: list[str] = []

    def encode_queries(self, texts: list[str], **options: Any) -> np.ndarray:
        self.asked += texts
        return self._encoder.encode_queries(texts, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


@pytest.fixture(scope="module")
def encoder(tiny_decoder: Path) -> Encoder:
    return Encoder.load(tiny_decoder)


@pytest.fixture(scope="module")
def index(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with Index.create(tmp_path_factory.mktemp("request") / "index", encoder=encoder) as index:
        index.add_passages([Passage(f"p{n}", f"d{n // 2}", text, metadata={"n": n}) for n, text in enumerate(TEXTS)])
        yield index


def hints(of: type) -> dict[str, Any]:
    return get_type_hints(of, localns={"np": np})


def test_keywords_are_the_requests_fields() -> None:
    fields = {name: kind for name, kind in hints(Request).items() if name not in ("query", "vector", "k")}
    assert hints(Options) == fields
    for method in (Retriever.retrieve, Retriever.retrieve_many):
        parameters = inspect.signature(method).parameters
        assert parameters["k"].default == DEFAULTS["k"] and parameters["options"].annotation == "Unpack[Options]"


def test_http_has_the_requests_fields_and_defaults() -> None:
    fields = {name: field.default for name, field in SearchRequest.model_fields.items()}
    assert {name: value for name, value in fields.items() if name not in HTTP_OWN} == DEFAULTS
    assert set(fields) >= HTTP_OWN


def test_the_command_line_has_the_requests_fields_and_defaults() -> None:
    parameters = inspect.signature(cli_search.run).parameters
    assert set(parameters) - CLI_OWN == set(DEFAULTS) - {"vector"}
    of_a_query = {**DEFAULTS, "mode": DEFAULT_MODE, "syntax": None}  # by where the query comes from
    assert {name: parameters[name].default for name in parameters if name not in CLI_OWN} == {
        name: value for name, value in of_a_query.items() if name != "vector"
    }
    kinds = hints(Request)
    for name in set(parameters) - CLI_OWN - {"mode", "syntax"}:
        assert parameters[name].annotation.__origin__ == kinds[name], name
    assert get_args(kinds["mode"])[0] == parameters["mode"].annotation.__origin__  # which is never None here


def test_every_bounded_field_is_tried() -> None:
    properties = SearchRequest.model_json_schema()["properties"]
    bounded = {name for name, field in properties.items() if is_bounded(field) and name not in HTTP_OWN}
    assert bounded == set(BOUNDS) | {"rerank"}  # over HTTP no model is named


def is_bounded(field: dict[str, Any]) -> bool:
    kinds = field.get("anyOf", [field])
    return any({"minimum", "maximum", "enum", "const"} & set(kind) for kind in kinds)


@pytest.mark.parametrize(
    ("name", "allowed", "refused"), [(name, *pair) for name, pairs in BOUNDS.items() for pair in pairs], ids=str
)
def test_bounds_are_the_same_everywhere(name: str, allowed: Any, refused: Any) -> None:
    assert getattr(Request(query="x", **{name: allowed}), name) == allowed
    assert getattr(SearchRequest(query="x", **{name: allowed}), name) == allowed
    with pytest.raises(WrongInput):
        Request(query="x", **{name: refused})
    with pytest.raises(ValidationError):
        SearchRequest(query="x", **{name: refused})


def test_mcp_offers_the_requests_choices(index: Index) -> None:
    pytest.importorskip("mcp")
    from ragvec.serve.mcp import DEFAULT_HITS, create_mcp_server

    [search] = [tool for tool in asyncio.run(create_mcp_server(index.path).list_tools()) if tool.name == "search"]
    offered = search.input_schema["properties"]
    assert offered["mode"]["enum"] == list(MODES)
    defaults = {name: field["default"] for name, field in offered.items() if name != "query"}
    assert defaults == {"k": DEFAULT_HITS, "mode": DEFAULT_MODE, "where": DEFAULTS["where"]}
    assert set(offered) <= set(DEFAULTS)


def test_a_vector_finds_what_its_query_finds_and_nothing_is_encoded(index: Index, encoder: Encoder) -> None:
    counting = Counting(encoder)
    retriever = Retriever(index, counting)
    vector = encoder.encode_queries(["fox"])[0]
    by_query = retriever.retrieve("fox", 4, mode="dense")
    assert counting.asked == ["fox"]
    assert retriever.answer(Request(vector=vector, k=4)) == by_query
    assert retriever.answer(Request(query="fox", vector=vector, k=4)) == retriever.retrieve("fox", 4, mode="hybrid")
    assert counting.asked == ["fox", "fox"], "for the last retrieve alone"
    assert Retriever(index).answer(Request(vector=vector, k=4)) == by_query, "a vector needs no encoder"


@pytest.mark.parametrize(
    "options",
    [{"group_by": "doc_id"}, {"diversity": 0.7}, {"where": "n < 2"}, {"offset": 2}, {"group_by": "doc_id", "diversity": 0.5}],
)
def test_a_vector_is_grouped_and_diversified_like_a_query(index: Index, encoder: Encoder, options: dict[str, Any]) -> None:
    retriever = Retriever(index, encoder)
    plain = retriever.retrieve("fox", 3, mode="dense")
    expected = retriever.retrieve("fox", 3, mode="dense", **options)
    vector = encoder.encode_queries(["fox"])[0]
    assert retriever.answer(Request(vector=vector, k=3, **options)) == expected != plain


def test_a_least_score_bounds_a_vectors_hits(index: Index, encoder: Encoder) -> None:
    retriever, vector = Retriever(index, encoder), encoder.encode_queries(["fox"])[0]
    hits = retriever.answer(Request(vector=vector))
    assert retriever.answer(Request(vector=vector, min_score=hits[2].score)) == [h for h in hits if h.score >= hits[2].score]


@pytest.mark.parametrize(
    ("request_of", "message"),
    [
        (lambda vector: Request(vector=vector, mode="lexical"), "a vector has no words for lexical search"),
        (lambda vector: Request(vector=vector, mode="hybrid"), "a vector has no words for hybrid search"),
        (lambda vector: Request(vector=vector, rerank="maxsim"), "rerank needs a query, not a vector"),
        (lambda vector: Request(vector=vector, snippets=True), "snippets needs a query, not a vector"),
        (lambda vector: Request(vector=vector[None]), "a query's vector has one dimension, this has 2"),
        (lambda vector: Request(k=3), "the request is empty: give it a query or a vector"),
        (
            lambda vector: Request(query="x", rerank="some/model"),
            "has no reranker some/model: open it with rerank='some/model'",
        ),
        (lambda vector: Request(vector=vector[:3]), "32-d"),
        (lambda vector: Request(vector=vector * np.inf), "NaN or infinity"),
    ],
)
def test_what_no_request_may_ask(index: Index, encoder: Encoder, request_of: Any, message: str) -> None:
    with pytest.raises(RagvecError, match=message), np.errstate(invalid="ignore"):
        Retriever(index, encoder).answer(request_of(encoder.encode_queries(["fox"])[0]))


def test_a_request_may_ask_for_a_reranker_and_its_instruction_counts(index: Index, encoder: Encoder) -> None:
    retriever = Retriever(index, encoder)
    for instruction in (None, "Find:"):
        pool = retriever.retrieve("lazy fox", 6, instruction=instruction)
        hits = retriever.retrieve("lazy fox", 6, rerank="maxsim", instruction=instruction)
        expected = maxsim(encoder, "lazy fox", [hit.text for hit in pool], instruction=instruction)
        blended = blend([hit.score for hit in pool], expected, least=0.0)
        assert [hit.score for hit in hits] == pytest.approx(sorted(blended.tolist(), reverse=True), abs=1e-5)
        assert Retriever(index, encoder, rerank="maxsim").retrieve("lazy fox", 6, instruction=instruction) == hits
    with pytest.raises(RagvecError, match="maxsim needs an encoder"):
        Retriever(index).retrieve("fox", mode="lexical", rerank="maxsim")


def test_the_retrievers_own_reranker_is_known_by_its_name(index: Index) -> None:
    def longest(query: str, texts: list[str]) -> np.ndarray:
        return np.array([len(text) for text in texts], dtype=np.float32)

    retriever = Retriever(index, reranker=longest, rerank="longest")
    by_default = retriever.retrieve("river fox", mode="lexical")
    assert by_default == retriever.retrieve("river fox", mode="lexical", rerank="longest")
    assert [hit.score for hit in by_default] == sorted(
        (len(text) for text in TEXTS if {"river", "fox"} & set(text.split())), reverse=True
    )


def test_requests_choices_load_neither_numpy_nor_an_index() -> None:
    code = "import sys; import ragvec.cli.search; print(sorted({'numpy', 'ragvec.index', 'sqlite3'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_filters_values_are_given_apart_through_every_door(index: Index, tmp_path: Path) -> None:
    where, values = "n in $some", {"some": [1, 4]}
    request = SearchRequest(query="fox", where=where, where_values=values)
    assert request.where_values == values
    hits = Retriever(index).retrieve("fox dog water river", 6, mode="lexical", where=where, where_values=values)
    assert sorted(hit.metadata["n"] for hit in hits) == [1, 4]
    assert Retriever(index).retrieve("fox", mode="lexical", where=where, where_values={"some": []}) == []
    with pytest.raises(WrongInput, match="give `where` too"):
        Request(query="x", where_values=values)
    with pytest.raises(ValidationError):
        SearchRequest(query="x", where=where, where_values={"some": [{"a": 1}]})
    program = [sys.executable, "-c", "from ragvec.cli.main import main; main()"]
    command = [*program, "search", "fox dog water river", "-i", str(index.path), "--mode", "lexical"]
    found = subprocess.run(
        [*command, "--where", where, "--where-values", '{"some": [1, 4]}'], capture_output=True, text=True, check=True
    )
    assert len(found.stdout.splitlines()) == 2 and '"n": 4' in found.stdout
    wrong = subprocess.run([*command, "--where", where, "--where-values", "[1]"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "is no JSON object" in wrong.stderr.replace("\n", " ")
