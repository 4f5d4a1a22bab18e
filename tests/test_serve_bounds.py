"""What one client may cost the others: bodies, errors, connections and answers are bounded, each and all together."""

import json
import random
import re

import pytest
from pydantic import ValidationError

from ragvec.serve import json_route, schemas
from ragvec.serve.inflow import Inflow, Refused
from ragvec.serve.json_route import count_values
from ragvec.serve.limits import SMALL_BODY, Limits
from tests.test_serve_api import client, encoder, folder, service  # noqa: F401 - fixtures

JSON = {"content-type": "application/json"}
MANY = 50_000


def made_up(draw: random.Random, depth: int = 0):
    kind = draw.randint(0, 5) if depth < 4 else 5
    if kind == 0:
        return [made_up(draw, depth + 1) for _ in range(draw.randint(0, 4))]
    if kind == 1:
        return {"".join(draw.choices('a,:[{"\\é', k=3)): made_up(draw, depth + 1) for _ in range(draw.randint(0, 4))}
    return draw.choice([1, 0.5, None, "".join(draw.choices('ab,:[{]}"\\\n한', k=draw.randint(0, 12)))])


def test_values_are_counted_as_they_are_read(monkeypatch):
    draw = random.Random(1)
    for _ in range(2000):
        monkeypatch.setattr(json_route, "_SLICE", draw.randint(1, 9))
        body = json.dumps(made_up(draw), ensure_ascii=draw.random() < 0.5).encode()
        bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", body)
        assert count_values(body, 1000) == sum(bare.count(mark) for mark in b",:[{"), body
    assert count_values(b"[" * 1000, 10) <= 10 + json_route._SLICE


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (schemas.EmbeddingsRequest, {"input": [0.5] * MANY}),
        (schemas.EmbeddingsRequest, {"input": [[0.5] * MANY]}),
        (schemas.EmbeddingsRequest, {"input": [[[]]] * MANY}),
        (schemas.EmbedRequest, {"inputs": [1] * MANY}),
        (schemas.SearchRequest, {"vector": ["x"] * MANY}),
        (schemas.SearchRequest, {f"field{number}": 1 for number in range(MANY)}),
        (schemas.RerankRequest, {"query": "x", "documents": [0.5] * MANY}),
        (schemas.RerankRequest, {"query": "x", "documents": [{}] * MANY}),
        (schemas.AddRequest, {"documents": [{}] * MANY}),
        (schemas.AddRequest, {"documents": [{"doc_id": "a", "text": "x", **{f"f{number}": 1 for number in range(MANY)}}]}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value)[:30],
)
def test_a_million_mistakes_are_one_error(model, body):
    with pytest.raises(ValidationError) as raised:
        model.model_validate(body)
    assert raised.value.error_count() <= 4  # one for each kind of value that would have been right


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed", "/search", "/v1/rerank"])
def test_a_body_of_many_values_is_refused_unread(client, path, monkeypatch):
    monkeypatch.setattr(json_route, "MOST_VALUES", 10_000)
    for values in (b"[],", b"{},", b'"",', b"1,", b'{"a":1},'):
        body = b'{"query": "x", "input": [' + values * (SMALL_BODY // len(values) + 1) + b"1]}"
        answer = client.post(path, content=body, headers=JSON)
        assert answer.status_code == 413 and "over 10,000 values" in answer.text
    words = b'{"query": "x, [y]: {z}", "input": "' + b"a, [b]: {c} " * (SMALL_BODY // 12 + 1) + b'"}'
    assert "values" not in client.post(path, content=words, headers=JSON).text


def test_an_error_quotes_little_of_what_was_sent(client):
    answer = client.post("/search", content=json.dumps({"n" * 90_000: 1}), headers=JSON)
    assert answer.status_code == 422 and len(answer.content) < 2000
    many = client.post("/v1/embeddings", json={"input": "x", **{f"f{number}": 1 for number in range(300)}})
    assert many.status_code == 422 and "301 fields" in many.text


def test_many_vectors_are_written_as_few_are(client, monkeypatch):
    def answers() -> list[bytes]:
        asked = {"/v1/embeddings": {"input": ["fox", "dog"]}, "/embed": {"inputs": ["fox", "dog"]}}
        return [client.post(path, json=body).content for path, body in asked.items()]

    few = answers()
    monkeypatch.setattr(json_route, "MOST_INLINE", 1)
    assert answers() == few and b"Fragment" not in few[0] and json.loads(few[1])[0][0] != 0


def test_large_bodies_are_bounded_together():
    inflow = Inflow(Limits(body_bytes=4 * SMALL_BODY, all_body_bytes=6 * SMALL_BODY))
    piece = b"x" * SMALL_BODY
    with inflow.body() as first:
        for _ in range(4):
            first.add(piece)
        with pytest.raises(Refused, match="over 262,144 bytes") as refused:
            first.add(b"x")
        assert refused.value.status == 413
        with inflow.body() as second:
            second.add(piece)
            assert inflow.held == 4 * SMALL_BODY, "small ones are read in any case"
            second.add(piece)
            with pytest.raises(Refused, match="busy") as refused:
                second.add(b"x")
            assert refused.value.status == 429
            with inflow.body() as small:
                small.add(piece)
                assert small.take() == piece
        assert inflow.held == 4 * SMALL_BODY
        assert first.take() == piece * 4 + b"x" and inflow.held == 4 * SMALL_BODY, "what is made of it is still there"
    assert inflow.held == 0
