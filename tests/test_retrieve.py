"""Retrieval: text in, hits out."""

from pathlib import Path

import numpy as np
import pytest

from ragvec.encoder import Encoder
from ragvec.errors import RagvecError
from ragvec.index import Index
from ragvec.records import Document, Hit
from ragvec.retrieve import Retriever, open_retriever
from ragvec.retrieve.fusion import fused_ranks, joined
from tests.test_index import CountingEncoder, run_python

DOCUMENTS = [
    Document("protein", "Women need 46 grams of protein a day.", "Nutrition", {"year": 2020, "tags": ["food"]}),
    Document("fox", "The quick brown fox jumps over the lazy dog."),
    Document("서울", "서울은 대한민국의 수도이다.", "수도"),
    Document("tokyo", "東京は日本の首都です。"),
    Document("empty", ""),
]


@pytest.fixture(scope="module")
def encoder(tiny_decoder: Path) -> Encoder:
    return Encoder.load(tiny_decoder)


@pytest.fixture(scope="module")
def retriever(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory):
    with Index.create(tmp_path_factory.mktemp("index") / "index", encoder=encoder) as index:
        index.add(DOCUMENTS)
        yield Retriever(index, encoder)


def names(hits: list[Hit]) -> list[str]:
    return [hit.doc_id for hit in hits]


def test_dense_hits_are_cosines_in_order(retriever: Retriever, encoder: Encoder) -> None:
    query = "how much protein should a female eat"
    hits = retriever.retrieve(query, 5, mode="dense")
    vectors = encoder.encode_documents([f"{d.title} {d.text}".strip() for d in DOCUMENTS])
    cosines = encoder.encode_queries([query])[0] @ vectors.T
    order = [row for row in np.argsort(-cosines) if DOCUMENTS[row].text]
    assert names(hits) == [DOCUMENTS[row].doc_id for row in order]
    assert np.allclose([hit.score for hit in hits], cosines[order], atol=2e-3)  # stored as float16
    assert [hit.rank for hit in hits] == [1, 2, 3, 4]


def test_a_hit_carries_the_document_as_it_was(retriever: Retriever) -> None:
    (hit,) = retriever.retrieve("grams protein", 1, mode="lexical")
    assert (hit.doc_id, hit.passage_id, hit.title, hit.text, hit.metadata) == (
        "protein",
        "protein",
        "Nutrition",
        "Women need 46 grams of protein a day.",
        {"year": 2020, "tags": ["food"]},
    )


def test_instruction_reaches_the_query(retriever: Retriever, encoder: Encoder) -> None:
    scores = {
        instruction: retriever.retrieve("fox", 1, mode="dense", instruction=instruction)[0].score
        for instruction in (None, "", "Find:")
    }
    assert len(set(scores.values())) == 3


@pytest.mark.parametrize(("query", "name"), [("서울", "서울"), ("수도", "서울"), ("首都", "tokyo"), ("FOX jumping", "fox")])
def test_lexical_finds_words_of_any_script(retriever: Retriever, query: str, name: str) -> None:
    assert names(retriever.retrieve(query, 3, mode="lexical"))[0] == name


def test_lexical_returns_only_what_matches(retriever: Retriever) -> None:
    assert retriever.retrieve("zebra", mode="lexical") == []
    assert retriever.retrieve("!?", mode="lexical") == []
    assert len(retriever.retrieve("!?", mode="hybrid")) == 4


def test_reciprocal_rank_fusion_of_both(retriever: Retriever) -> None:
    query = "the lazy protein"
    dense, lexical = (names(retriever.retrieve(query, 5, mode=mode)) for mode in ("dense", "lexical"))
    expected = {name: sum(1 / (61 + ranking.index(name)) for ranking in (dense, lexical) if name in ranking) for name in dense}
    hits = retriever.retrieve(query, 5, fusion="rrf")
    assert {hit.doc_id: pytest.approx(hit.score) for hit in hits} == expected
    assert [hit.score for hit in hits] == sorted(expected.values(), reverse=True)


def test_hybrid_adds_the_cosine_and_the_words_part(retriever: Retriever) -> None:
    query = "the lazy protein"
    dense, lexical = ({hit.doc_id: hit.score for hit in retriever.retrieve(query, 5, mode=m)} for m in ("dense", "lexical"))
    with retriever.index.reading() as view:
        best, share = max(lexical.values()), max(lexical.values()) / view.words_weight(query)
    worth = min(1, 1.25 * share / (0.25 + share))
    expected = {name: 0.6 * score + 0.4 * worth * lexical.get(name, 0) / best for name, score in dense.items()}
    hits = retriever.retrieve(query, 5)
    assert {hit.doc_id: pytest.approx(hit.score) for hit in hits} == expected
    assert [hit.score for hit in hits] == pytest.approx(sorted(expected.values(), reverse=True))


def test_the_weight_of_a_querys_words_is_the_sum_of_their_idf(retriever: Retriever) -> None:
    with retriever.index.reading() as view:
        assert view.words_weight("the lazy protein zebra") == pytest.approx(2 * np.log(1 + 4.5 / 1.5) + np.log(1 + 5.5 / 0.5))
        assert view.words_weight("!?") == 0


def test_reciprocal_ranks_by_hand() -> None:
    def fused(weight: float, near: list[int], words: list[int]) -> list[tuple[int, float]]:
        scores = np.linspace(1, 0, len(near), dtype=np.float32)
        found = joined(np.array(near), scores, [(passage, 1.0) for passage in words], lambda ids: np.zeros(len(ids)))
        return [(one.passage, one.score) for one in found.best(fused_ranks(found, weight), 1000)]

    assert fused(0.5, [7, 8], [8, 9]) == [(8, 1 / 62 + 1 / 61), (7, 1 / 61), (9, 1 / 62)]
    assert fused(0.75, [7], [9]) == [(7, 1.5 / 61), (9, 0.5 / 61)]
    far = dict(fused(0.5, list(range(1, 103)), [101]))
    assert (far[101], far[102], far[100]) == (1 / 61, 1 / 162, 1 / 160), "ranks beyond 100 don't count beside words"


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_many_queries_equal_one_by_one(retriever: Retriever, mode: str) -> None:
    queries = ["protein", "수도 서울", "dog"]
    together = retriever.retrieve_many(queries, 3, mode=mode)
    for query, hits in zip(queries, together, strict=True):
        alone = retriever.retrieve(query, 3, mode=mode)
        assert names(alone) == names(hits)
        assert [hit.score for hit in alone] == pytest.approx([hit.score for hit in hits], abs=1e-6)
    assert retriever.retrieve_many([], 3, mode=mode) == []


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_filter_leaves_only_what_matches(retriever: Retriever, mode: str) -> None:
    hits = retriever.retrieve("protein dog", 10, mode=mode, where='year is null and not doc_id = "tokyo"')
    assert "fox" in names(hits) and not {"protein", "tokyo"} & set(names(hits))
    assert names(retriever.retrieve("protein dog", 10, mode=mode, where="tags = 'food'")) == ["protein"]
    assert retriever.retrieve("protein", 10, mode=mode, where="year > 2020") == []
    with pytest.raises(RagvecError, match="column 1: no field yaer; there are tags, year, doc_id"):
        retriever.retrieve("protein", mode=mode, where="yaer > 2020")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(query=" \n"), "a query is empty"),
        (dict(query="x", k=0), "k is 0: ask for at least 1"),
        (dict(query="x", mode="sparse"), "unknown mode 'sparse': choose one of hybrid, dense, lexical"),
        (dict(query="\udcff"), "not valid UTF-8"),
        (dict(query="x", offset=-1), "offset is -1"),
        (dict(query="x", group_by="year"), "can't group by 'year': choose doc_id"),
        (dict(query="x", diversity=1.5), "diversity is 1.5: choose from 0 to 1"),
        (dict(query="x", fusion="sum"), "unknown fusion 'sum': choose one of weighted, rrf"),
        (dict(query="x", dense_weight=-0.1), "dense weight is -0.1: choose from 0 to 1"),
        (dict(query="x", rerank_depth=0), "rerank depth is 0"),
    ],
)
def test_bad_requests(retriever: Retriever, arguments: dict, message: str) -> None:
    with pytest.raises(RagvecError, match=message):
        retriever.retrieve(**arguments)


def test_one_shape_per_argument(retriever: Retriever) -> None:
    with pytest.raises(TypeError, match="retrieve_many"):
        retriever.retrieve(["a"])
    with pytest.raises(TypeError, match="call retrieve"):
        retriever.retrieve_many("a")
    with pytest.raises(TypeError, match="unexpected keyword argument 'were'"):
        retriever.retrieve("a", were="year = 1")


def test_another_encoder_is_refused(retriever: Retriever) -> None:
    with pytest.raises(RagvecError, match="built with encoder .*use the index's encoder, or build a new index"):
        Retriever(retriever.index, CountingEncoder())
    with pytest.raises(RagvecError, match="hybrid retrieval needs an encoder"):
        Retriever(retriever.index).retrieve("x")


def test_open_retriever_loads_the_encoder_the_index_names(retriever: Retriever, encoder: Encoder, tmp_path: Path) -> None:
    opened = open_retriever(retriever.index.path)
    assert opened.encoder.fingerprint == encoder.fingerprint
    assert names(opened.retrieve("dog", 3)) == names(retriever.retrieve("dog", 3))
    assert open_retriever(retriever.index.path, mode="lexical").encoder is None
    with Index.create(tmp_path / "empty", encoder=encoder):
        pass
    with pytest.raises(RagvecError, match="is empty: fill it with `ragvec index CORPUS"):
        open_retriever(tmp_path / "empty")


def test_lexical_retrieval_loads_no_model_library(retriever: Retriever) -> None:
    code = f"""
        import sys
        from ragvec.retrieve import open_retriever
        hits = open_retriever({str(retriever.index.path)!r}, mode="lexical").retrieve("fox", mode="lexical")
        print(hits[0].doc_id, sorted({{"torch", "transformers", "peft", "faiss", "pyarrow"}} & set(sys.modules)))
    """
    assert run_python(code).stdout == "fox []\n"
