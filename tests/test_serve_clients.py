"""The server as other projects' clients ask it: their requests as they send them, their packages where they are installed."""

import numpy as np
import pytest
from starlette.testclient import TestClient

from ragvec.serve import Service, create_app
from ragvec.serve import schemas as requests
from tests.test_page import running
from tests.test_serve_api import client, encoder, folder, service  # noqa: F401 - fixtures
from tests.tiny import TEXTS

pytestmark = pytest.mark.filterwarnings("default")  # other people's deprecations are theirs
LONG = "word " * 500


@pytest.fixture(scope="module")
def address(service):
    with running(create_app(service)) as address:
        yield address


@pytest.fixture(scope="module")
def cosines(encoder) -> np.ndarray:
    return encoder.encode_documents(TEXTS) @ encoder.encode_queries(["fox"])[0]


@pytest.fixture(scope="module")
def order(cosines) -> list[int]:
    return sorted(range(len(TEXTS)), key=lambda row: -cosines[row])


MODELS = [
    (requests.EmbeddingsRequest, {"input": "x"}),
    (requests.EmbedRequest, {"inputs": "x"}),
    (requests.SearchRequest, {"query": "x"}),
    (requests.RerankRequest, {"query": "x", "documents": ["y"]}),
    (requests.EitherRerankRequest, {"query": "x", "texts": ["y"]}),
    (requests.DocumentIn, {"doc_id": "x", "text": "y"}),
    (requests.AddRequest, {"documents": [{"doc_id": "x", "text": "y"}]}),
]


@pytest.mark.parametrize(("model", "least"), MODELS, ids=[model.__name__ for model, _ in MODELS])
def test_null_is_the_default_of_every_optional_field(model, least):
    optional = {name for name, field in model.model_fields.items() if not field.is_required()}
    nulls = dict.fromkeys(optional - set(least))
    assert model.model_validate({**least, **nulls}) == model.model_validate(least)
    for name in set(model.model_fields) - optional:
        with pytest.raises(ValueError, match=name):
            model.model_validate({**least, name: None})
    described = model.model_json_schema()["properties"]
    assert {name for name in described if {"type": "null"} in described[name].get("anyOf", [])} == optional


@pytest.mark.parametrize(
    ("path", "body", "nulls"),
    [
        ("/v1/embeddings", {"input": "fox"}, ("encoding_format", "dimensions", "input_type", "instruction", "user", "timeout")),
        ("/embed", {"inputs": "fox"}, ("normalize", "truncate", "prompt_name", "dimensions", "truncation_direction")),
        (
            "/v1/rerank",
            {"query": "fox", "documents": TEXTS},
            ("top_n", "return_documents", "rank_fields"),
        ),
        ("/rerank", {"query": "fox", "texts": TEXTS}, ("truncate", "return_text", "raw_scores", "documents")),
        ("/search", {"query": "fox"}, ("k", "mode", "where", "offset", "diversity", "fusion", "rerank_depth", "snippets")),
    ],
)
def test_clients_that_send_null_are_answered_as_those_that_do_not(client, path, body, nulls):
    answers = [client.post(path, json=sent) for sent in (body, {**body, **dict.fromkeys(nulls)})]
    assert [answer.status_code for answer in answers] == [200, 200]
    plain, with_nulls = (answer.json() for answer in answers)
    for answer in (plain, with_nulls):
        if isinstance(answer, dict):
            answer.pop("id", None), answer.pop("seconds", None)
    assert plain == with_nulls


def test_fields_of_other_apis_do_no_harm(client, encoder):
    body = {"input": ["fox"], "user": "u1", "dimensions": 8, "timeout": 600, "extra": {"a": 1}}
    answer = client.post("/v1/embeddings", json=body).json()
    np.testing.assert_allclose(answer["data"][0]["embedding"], encoder.encode_documents(["fox"], truncate_dim=8)[0], atol=1e-6)
    wrong = client.post("/search", json={"query": "x", "modee": None})
    assert wrong.status_code == 422 and "modee: there is no such field" in wrong.text


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_coheres_request_on_each_of_its_paths(client, cosines, order, path):
    body = {"model": "x", "query": "fox", "documents": TEXTS, "top_n": 3, "max_tokens_per_doc": 4096}
    answer = client.post(path, json=body).json()
    assert [one["index"] for one in answer["results"]] == order[:3] and answer["id"]
    np.testing.assert_allclose([one["relevance_score"] for one in answer["results"]], cosines[order[:3]], atol=1e-5)
    assert all(set(one) == {"index", "relevance_score"} for one in answer["results"])
    answer = client.post(path, json={**body, "return_documents": True}).json()
    assert [one["document"] for one in answer["results"]] == [{"text": TEXTS[row]} for row in order[:3]]


def test_text_embeddings_inferences_rerank(client, cosines, order):
    body = {"query": "fox", "texts": TEXTS, "raw_scores": False, "return_text": True, "truncation_direction": "Right"}
    answer = client.post("/rerank", json=body)
    assert [(one["index"], one["text"]) for one in answer.json()] == [(row, TEXTS[row]) for row in order]
    np.testing.assert_allclose([one["score"] for one in answer.json()], cosines[order], atol=1e-5)
    assert [set(one) for one in client.post("/rerank", json={"query": "fox", "texts": ["a"]}).json()] == [{"index", "score"}]
    cut = client.post("/rerank", json={"query": "fox", "texts": [LONG, "a"]})
    assert cut.status_code == 200 and cut.headers["x-ragvec-truncated"] == "1"
    cut = client.post("/rerank", json={"query": "fox", "texts": [LONG, "a"], "truncate": False})
    assert cut.status_code == 413 and "longer than 64 tokens" in cut.text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"query": "x"}, "send either documents or texts"),
        ({"query": "x", "texts": ["a"], "documents": ["a"]}, "send either documents or texts"),
        ({"query": "x", "texts": []}, "texts"),
        ({"query": "x", "texts": [1]}, "texts"),
        ({"query": " ", "texts": ["a"]}, "query: is empty"),
        ({"query": "x" * 201, "texts": ["a"]}, "the query has 201 characters"),
        ({"query": "x", "texts": ["a"] * 21}, "21 texts at once"),
    ],
)
def test_wrong_requests_to_rerank(client, body, message):
    answer = client.post("/rerank", json=body)
    assert answer.status_code == 422 and message in answer.json()["error"]["message"]


def test_head_is_get_without_its_body(client):
    for path in ("/", "/health", "/ready", "/docs", "/info", "/metrics", "/v1/models", "/documents/fox"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (200, b"") and head.headers["content-type"] == get.headers["content-type"]
    assert client.head("/nothing").status_code == 404 and client.head("/search").status_code == 405
    counted = [line for line in client.get("/metrics").text.splitlines() if line.startswith("ragvec_requests_total")]
    assert any('path="/health"' in line for line in counted)


def test_head_over_a_real_connection(address):
    from http.client import HTTPConnection

    connection = HTTPConnection(address.removeprefix("http://"), timeout=30)
    for path in ("/health", "/nothing", "/health"):  # one after another on one connection: nothing may be left in it
        connection.request("HEAD", path)
        answer = connection.getresponse()
        assert answer.read() == b"" and answer.status == (404 if path == "/nothing" else 200)
        assert int(answer.headers["content-length"]) > 0
    connection.close()


def test_options_says_what_there_is(encoder, folder):
    with Service(encoder, folder) as roomy, TestClient(create_app(roomy, writable=True, api_key="k")) as client:
        for path, allowed in [
            ("/health", "GET, HEAD, OPTIONS"),
            ("/search", "OPTIONS, POST"),
            ("/documents/a/b", "DELETE, GET, HEAD, OPTIONS"),
        ]:
            answer = client.options(path)
            assert (answer.status_code, answer.headers["allow"]) == (204, allowed)
        assert client.options("/nothing").status_code == 404


def test_a_model_by_its_name(client, encoder):
    [listed] = client.get("/v1/models").json()["data"]
    assert client.get("/v1/models/tiny").json() == listed and listed["object"] == "model"
    answer = client.get("/v1/models/gpt-4")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": "there is no model 'gpt-4': this server has tiny alone", "type": "not_found_error", "code": 404
    }  # fmt: skip


class TestOpenAI:
    @pytest.fixture
    def openai(self, address):
        package = pytest.importorskip("openai", reason="openai is not installed: pip install openai")
        with package.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0) as openai:
            yield openai

    def test_embeddings(self, openai, encoder):
        for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}, {"user": "me", "timeout": 60}):
            answer = openai.embeddings.create(model="x", input=["fox", "dog"], **options)
            got = [one.embedding for one in answer.data]
            if options.get("encoding_format") != "base64":
                np.testing.assert_allclose(got, encoder.encode_documents(["fox", "dog"]), atol=1e-6)
        assert answer.usage.total_tokens > 0

    def test_models(self, openai):
        import openai as package

        assert [one.id for one in openai.models.list()] == ["tiny"] and openai.models.retrieve("tiny").id == "tiny"
        with pytest.raises(package.NotFoundError, match="there is no model 'gpt-4'"):
            openai.models.retrieve("gpt-4")


class TestCohere:
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("cohere", reason="cohere is not installed: pip install cohere")

    def test_both_clients_rerank(self, address, cosines, order):
        import cohere

        for make in (cohere.Client, cohere.ClientV2):
            answer = make(api_key="unused", base_url=address).rerank(model="x", query="fox", documents=TEXTS, top_n=2)
            assert [one.index for one in answer.results] == order[:2]
            np.testing.assert_allclose([one.relevance_score for one in answer.results], cosines[order[:2]], atol=1e-5)


class TestLiteLLM:
    @pytest.fixture(autouse=True)
    def _installed(self, monkeypatch):
        monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        pytest.importorskip("litellm", reason="litellm is not installed: pip install litellm")

    def test_embedding(self, address, encoder):
        import litellm

        answer = litellm.embedding(model="openai/x", input=["fox"], api_base=f"{address}/v1", api_key="unused")
        np.testing.assert_allclose(answer.data[0]["embedding"], encoder.encode_documents(["fox"])[0], atol=1e-5)

    @pytest.mark.parametrize("provider", ["hosted_vllm", "jina_ai", "cohere"])
    def test_rerank(self, address, cosines, order, provider):
        import litellm

        answer = litellm.rerank(
            model=f"{provider}/x", query="fox", documents=TEXTS, top_n=2, api_base=address, api_key="unused"
        )
        assert [one["index"] for one in answer.results] == order[:2]
        np.testing.assert_allclose([one["relevance_score"] for one in answer.results], cosines[order[:2]], atol=1e-5)


def test_huggingfaces_client_embeds(address, encoder):
    from huggingface_hub import InferenceClient

    answer = InferenceClient(model=f"{address}/embed").feature_extraction("fox", normalize=True)
    np.testing.assert_allclose(np.asarray(answer).reshape(-1), encoder.encode_documents(["fox"])[0], atol=1e-5)
