"""The server's answers, in process: the encoder's and the index's own values, and errors that say what is wrong."""

import base64
import json

import numpy as np
import pytest
from starlette.testclient import TestClient

from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.records import Document
from ragvec.retrieve import Retriever
from ragvec.serve import Limits, Service, create_app
from tests.tiny import TEXTS

DOCUMENTS = [
    Document("protein", TEXTS[1], "Nutrition", {"year": 2020}),
    Document("문서/서울", TEXTS[2], "대한민국"),
    Document("fox", "filler words " * 60 + "then a quick brown fox appears " + "more filler " * 60),
]
INSTRUCTION = "Given a question, find passages that answer it:"


@pytest.fixture(scope="module")
def encoder(tiny_decoder, tmp_path_factory) -> Encoder:
    from ragvec.encoder import convert

    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    convert(str(tiny_decoder), folder, query_instruction=INSTRUCTION, max_length=64)
    return Encoder.load(folder)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    path = tmp_path_factory.mktemp("serve") / "index"
    with Index.create(path, encoder=encoder) as index:
        index.add(DOCUMENTS)
    return path


@pytest.fixture(scope="module")
def service(encoder, folder):
    with Service(encoder, folder, limits=Limits(body_bytes=100_000, texts=20, query_characters=200, k=50)) as service:
        yield service


@pytest.fixture(scope="module")
def client(service):
    with TestClient(create_app(service), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def embeddings(client, **body):
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text
    return np.array([row["embedding"] for row in answer.json()["data"]], dtype=np.float32), answer.json()


def test_embeddings_are_the_encoders_own(client, encoder):
    vectors, body = embeddings(client, input=TEXTS, model="any-name")
    np.testing.assert_allclose(vectors, encoder.encode_documents(TEXTS), atol=1e-6)
    assert [row["index"] for row in body["data"]] == list(range(len(TEXTS)))
    assert (body["object"], body["model"], body["truncated"]) == ("list", "tiny", 0)
    tokens = sum(len(ids) for ids in encoder.prompts.build(TEXTS).ids)
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_one_string_is_one_embedding(client, encoder):
    vectors, _ = embeddings(client, input="fox")
    np.testing.assert_allclose(vectors, encoder.encode_documents(["fox"]), atol=1e-6)


def test_the_instruction_reaches_queries_only(client, encoder):
    query, _ = embeddings(client, input="fox", input_type="query")
    np.testing.assert_allclose(query, encoder.encode_queries(["fox"]), atol=1e-6)
    assert np.abs(query - embeddings(client, input="fox", input_type="document")[0]).max() > 0.01
    given, _ = embeddings(client, input="fox", instruction="Find animals:")
    np.testing.assert_allclose(given, encoder.encode_queries(["fox"], instruction="Find animals:"), atol=1e-6)
    none, _ = embeddings(client, input="fox", input_type="query", instruction="")
    np.testing.assert_allclose(none, encoder.encode_documents(["fox"]), atol=1e-6)


def test_dimensions_and_base64(client, encoder):
    vectors, _ = embeddings(client, input=["fox", "dog"], dimensions=8)
    np.testing.assert_allclose(vectors, encoder.encode_documents(["fox", "dog"], truncate_dim=8), atol=1e-6)
    answer = client.post("/v1/embeddings", json={"input": ["fox", "dog"], "encoding_format": "base64"}).json()
    rows = [np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in answer["data"]]
    np.testing.assert_array_equal(rows, embeddings(client, input=["fox", "dog"])[0])


def test_what_was_cut_is_counted(client):
    _, body = embeddings(client, input=["word " * 500, "fox"])
    assert body["truncated"] == 1
    answer = client.post("/embed", json={"inputs": ["word " * 500, "fox"]})
    assert answer.headers["x-ragvec-truncated"] == "1"
    answer = client.post("/embed", json={"inputs": ["word " * 500], "truncate": False})
    assert answer.status_code == 413 and "longer than 64 tokens" in answer.json()["error"]["message"]
    total = [line for line in client.get("/metrics").text.splitlines() if line.startswith("ragvec_texts_truncated_total")]
    assert float(total[0].split()[1]) >= 3


def test_tei_embed(client, encoder):
    answer = client.post("/embed", json={"inputs": TEXTS})
    np.testing.assert_allclose(answer.json(), encoder.encode_documents(TEXTS), atol=1e-6)
    answer = client.post("/embed", json={"inputs": "fox", "normalize": False})
    np.testing.assert_allclose(answer.json(), encoder.encode_documents(["fox"], normalize=False), atol=1e-5)
    answer = client.post("/embed", json={"inputs": "fox", "prompt_name": "query"})
    np.testing.assert_allclose(answer.json(), encoder.encode_queries(["fox"]), atol=1e-6)
    asked = {"input": "fox", "prompt_name": "query"}
    [found] = client.post("/v1/embeddings", json=asked).json()["data"]
    np.testing.assert_allclose([found["embedding"]], encoder.encode_queries(["fox"]), atol=1e-6)
    assert client.post("/v1/embeddings", json={**asked, "instruction": "x"}).status_code == 422


def test_rerank_is_the_cosine_of_query_and_documents(client, encoder):
    documents = [TEXTS[1], {"text": TEXTS[2]}, TEXTS[4]]
    body = {"query": "fox", "documents": documents, "top_n": 2, "return_documents": True}
    results = client.post("/v1/rerank", json=body).json()["results"]
    texts = [TEXTS[1], TEXTS[2], TEXTS[4]]
    cosines = (encoder.encode_documents(texts) @ encoder.encode_queries(["fox"])[0]).tolist()
    best = sorted(range(3), key=lambda row: -cosines[row])[:2]
    assert [result["index"] for result in results] == best
    assert [result["document"]["text"] for result in results] == [texts[row] for row in best]
    np.testing.assert_allclose([result["relevance_score"] for result in results], [cosines[row] for row in best], atol=1e-5)


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_search_gives_the_retrievers_hits(client, encoder, folder, mode):
    answer = client.post("/search", json={"query": "quick fox", "k": 2, "mode": mode}).json()
    with Index.open(folder) as index:
        hits = Retriever(index, encoder).retrieve("quick fox", 2, mode=mode)
    assert [(hit["rank"], hit["doc_id"], hit["text"]) for hit in answer["hits"]] == [(h.rank, h.doc_id, h.text) for h in hits]
    np.testing.assert_allclose([hit["score"] for hit in answer["hits"]], [hit.score for hit in hits], atol=1e-6)
    assert answer["mode"] == mode and 0 < answer["seconds"]["search"] <= answer["seconds"]["all"]


def test_search_by_vector_is_dense_search(client, encoder):
    vector = encoder.encode_queries(["quick fox"])[0].tolist()
    by_vector = client.post("/search", json={"vector": vector}).json()
    by_query = client.post("/search", json={"query": "quick fox", "mode": "dense"}).json()
    assert [hit["doc_id"] for hit in by_vector["hits"]] == [hit["doc_id"] for hit in by_query["hits"]]
    np.testing.assert_allclose(
        [hit["score"] for hit in by_vector["hits"]], [hit["score"] for hit in by_query["hits"]], atol=1e-6
    )
    assert by_vector["mode"] == "dense"


def test_search_with_another_instruction(client):
    scores = [
        [hit["score"] for hit in client.post("/search", json={"query": "fox", "mode": "dense", **more}).json()["hits"]]
        for more in ({}, {"instruction": "Find animals:"}, {"instruction": INSTRUCTION})
    ]
    assert scores[0] == scores[2] != scores[1]


def test_highlights_show_the_stretch_with_the_words(client):
    hits = client.post("/search", json={"query": "foxes", "mode": "lexical", "highlight": True}).json()["hits"]
    shown = hits[0]["highlight"]
    assert [shown["text"][start:end] for start, end in shown["marks"]] == ["fox"] and len(shown["text"]) < 330


def test_signs_mean_something_if_a_request_says_so(client):
    def found(query, **options):
        hits = client.post("/search", json={"query": query, **options}).json()["hits"]
        return {hit["doc_id"]: hit.get("highlight") for hit in hits}

    query = "protein -nutrition fox"
    assert found(query).keys() == {"protein", "문서/서울", "fox"}
    for mode in ("hybrid", "dense"):
        assert found(query, syntax=True, mode=mode).keys() == {"문서/서울", "fox"}
    shown = found('"quick brown" -appears* filler -nutrition', mode="lexical", highlight=True)["fox"]
    assert shown["marks"]
    assert found('"quick brown" filler -appears', mode="lexical", syntax=True) == {}
    shown = found('"quick brown" -protein', mode="lexical", syntax=True, highlight=True)["fox"]
    assert {shown["text"][start:end] for start, end in shown["marks"]} == {"quick", "brown"}
    [passage] = client.get("/documents/protein?query=women%20-protein&syntax=true").json()["passages"]
    marked = {passage["text"][start:end].lower() for start, end in passage["marks"]}
    assert "protein" not in marked
    [passage] = client.get("/documents/protein?query=women%20-protein").json()["passages"]
    assert "protein" in {passage["text"][start:end].lower() for start, end in passage["marks"]}


def test_a_document_by_its_id(client):
    answer = client.get("/documents/%EB%AC%B8%EC%84%9C%2F%EC%84%9C%EC%9A%B8")
    assert answer.json() == {
        "doc_id": "문서/서울",
        "title": "대한민국",
        "metadata": {},
        "passages": [{"passage_id": "문서/서울", "text": TEXTS[2]}],
    }
    assert client.get("/documents/nothing").status_code == 404


def test_info_tells_what_is_served_and_not_where(client, encoder, folder):
    info = client.get("/info").json()
    assert info["encoder"]["fingerprint"] == info["index"]["fingerprint"] == encoder.fingerprint
    assert info["index"]["documents"] == 3 and info["limits"]["texts"] == 20 and info["writable"] is False
    assert str(folder.parent) not in json.dumps(info)
    models = client.get("/v1/models").json()["data"]
    assert [(model["id"], model["dimension"]) for model in models] == [("tiny", 32)]


def test_health_and_readiness(client):
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}


def test_metrics_count_requests_and_batches(client):
    def values() -> dict[str, float]:
        lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    before = values()
    client.post("/embed", json={"inputs": ["one", "two"]})
    after = values()
    path = 'ragvec_requests_total{path="/embed",status="200"}'
    assert after[path] == before.get(path, 0) + 1
    assert after["ragvec_texts_total"] == before["ragvec_texts_total"] + 2
    for name in ("tokenize", "queue", "encode"):
        assert after[f"ragvec_{name}_seconds_count"] > before[f"ragvec_{name}_seconds_count"]
    assert after["ragvec_queue_tokens"] == 0 and after["ragvec_requests_in_flight"] == 1


def test_a_server_without_an_index_embeds_and_says_why_it_does_not_search(encoder):
    with Service(encoder) as service, TestClient(create_app(service)) as client:
        assert client.post("/v1/embeddings", json={"input": "fox"}).status_code == 200
        assert client.get("/ready").status_code == 200 and client.get("/info").json()["index"] is None
        for answer in (client.post("/search", json={"query": "fox"}), client.get("/documents/fox")):
            assert answer.status_code == 404 and "ragvec serve -i INDEX" in answer.json()["error"]["message"]


def test_writing_is_off_unless_asked_for(client):
    assert client.post("/documents", json={"documents": [{"doc_id": "x", "text": "y"}]}).status_code in (404, 405)
    assert client.delete("/documents/fox").status_code == 405


def test_documents_are_added_replaced_and_deleted(encoder, tmp_path):
    Index.create(tmp_path / "index", encoder=encoder).close()
    with Service(encoder, tmp_path / "index") as service, TestClient(create_app(service, writable=True)) as client:
        new = {"doc_id": "dog", "text": "a lazy dog", "title": "Dog", "metadata": {"year": 2020}}
        assert client.post("/documents", json={"documents": [new]}).json() == {"added": 1, "replaced": 0, "unchanged": 0}
        assert client.post("/documents", json={"documents": [new]}).json()["unchanged"] == 1
        for change in ({"metadata": {"year": 2021}}, {"title": "Dog a", "text": "lazy dog"}, new):
            given = {**new, **change}
            assert client.post("/documents", json={"documents": [given]}).json() == {"added": 0, "replaced": 1, "unchanged": 0}
            [hit] = client.post("/search", json={"query": "lazy", "mode": "lexical"}).json()["hits"]
            assert {name: hit[name] for name in given} == given
        newer = {**new, "text": "a busy dog"}
        assert client.post("/documents", json={"documents": [newer]}).json()["replaced"] == 1
        hits = client.post("/search", json={"query": "busy", "mode": "lexical"}).json()["hits"]
        assert [(hit["doc_id"], hit["title"], hit["metadata"]) for hit in hits] == [("dog", "Dog", {"year": 2020})]
        stored = service.index.call(lambda index: index.search(encoder.encode_documents(["Dog a busy dog"]), 1)).scores
        assert stored[0, 0] == pytest.approx(1, abs=1e-3), "encoded as a document, through the queue"
        assert client.delete("/documents/dog").json() == {"deleted": 1}
        assert client.delete("/documents/dog").status_code == 404
        assert client.post("/search", json={"query": "busy"}).json()["hits"] == []


def test_documents_are_cut_as_the_index_cuts_them(encoder, tmp_path):
    text = " ".join(f"Sentence {number} is here." for number in range(9))
    with Index.create(tmp_path / "other", encoder=encoder, passage_tokens=40, overlap=10) as index:
        index.add([Document("long", text, "Title")])
        wanted = [(p.passage_id, p.text) for p in index.passages(range(1, len(index) + 1))]
    assert len(wanted) > 2
    Index.create(tmp_path / "index", encoder=encoder, passage_tokens=40, overlap=10).close()
    with Service(encoder, tmp_path / "index") as service, TestClient(create_app(service, writable=True)) as client:
        client.post("/documents", json={"documents": [{"doc_id": "long", "text": text, "title": "Title"}]})
        found = client.get("/documents/long").json()["passages"]
        assert [(passage["passage_id"], passage["text"]) for passage in found] == wanted
        assert client.get("/info").json()["index"]["passage_tokens"] == 40
        assert client.delete("/documents/long").json() == {"deleted": 1}


def test_a_locked_index_is_a_conflict(encoder, tmp_path):
    Index.create(tmp_path / "index", encoder=encoder).close()
    with Service(encoder, tmp_path / "index") as service, TestClient(create_app(service, writable=True)) as client:
        with Index.open(tmp_path / "index") as other, other.writing():
            answer = client.post("/documents", json={"documents": [{"doc_id": "x", "text": "y"}]})
        assert answer.status_code == 409 and "being written by process" in answer.json()["error"]["message"]
        assert client.post("/documents", json={"documents": [{"doc_id": "x", "text": "y"}]}).json()["added"] == 1
