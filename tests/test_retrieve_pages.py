"""Pages: the first hits of many are the hits of few, whatever is asked for, over corpora drawn at random."""

from pathlib import Path

import numpy as np
import pytest

from ragvec.index import Index, IndexSettings
from ragvec.records import Hit, Passage
from ragvec.retrieve import Request, Retriever
from ragvec.retrieve.fusion import words_worth
from tests.test_index import put

PAGE = 10
WORDS = [f"word{number}" for number in range(40)]
DIMENSION = 8
WAYS = [
    {"mode": "dense"},
    {"mode": "lexical"},
    {},
    {"fusion": "rrf"},
    {"fusion": "rrf", "dense_weight": 0.2},
    {"dense_weight": 0.3},
    {"where": "even = true"},
    {"group_by": "doc_id"},
    {"diversity": 0.5},
    {"group_by": "doc_id", "diversity": 0.3},
    {"min_score": 0.45},
    {"rerank": "length", "rerank_depth": 30},
    {"rerank": "length", "rerank_depth": 30, "group_by": "doc_id", "where": "even = true"},
]


def passages(dice: np.random.Generator, count: int) -> list[Passage]:
    """Random words; each fifth text is that of the one before, and documents have three passages."""
    texts: list[str] = []
    for number in range(count):
        fresh = " ".join(dice.choice(WORDS, dice.integers(1, 12)))
        texts.append(texts[-1] if number % 5 == 4 else fresh)
    return [Passage(f"{n}", f"{n // 3}", text, metadata={"even": n % 2 == 0}) for n, text in enumerate(texts)]


def vectors(dice: np.random.Generator, count: int) -> np.ndarray:
    """Unit vectors of few values: many passages are as near as others."""
    drawn = dice.integers(-1, 2, (count, DIMENSION)).astype(np.float32)
    drawn[:, 0] += 2
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture(scope="module", params=["one segment", "many segments"])
def retriever(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    dice = np.random.default_rng(0)
    drawn, near = passages(dice, 600), vectors(dice, 600)
    with Index.create_with(tmp_path_factory.mktemp("pages") / "index", IndexSettings("none", "0", DIMENSION)) as index:
        size = 600 if request.param == "one segment" else 150
        for start in range(0, 600, size):
            put(index, drawn[start : start + size], near[start : start + size])
        index.delete(["7", "100"])

        def lengths(query: str, texts: list[str]) -> np.ndarray:
            return np.array([len(text) for text in texts], dtype=np.float32)

        yield Retriever(index, reranker=lengths, rerank="length")


def asked(seed: int) -> tuple[str, np.ndarray | None]:
    dice = np.random.default_rng(seed)
    return " ".join(dice.choice(WORDS, 4)), vectors(dice, 1)[0]


def found(retriever: Retriever, k: int, offset: int, way: dict, seed: int) -> list[Hit]:
    query, vector = asked(seed)
    if way.get("mode") == "lexical":
        vector = None
    if "rerank" not in way:
        retriever = Retriever(retriever.index)
    return retriever.answer(Request(query=query, vector=vector, k=k, offset=offset, **way))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join(f"{name}={value}" for name, value in way.items()) or "hybrid")
def test_pages_are_parts_of_one_ranking(retriever: Retriever, way: dict) -> None:
    for seed in range(3):
        whole = found(retriever, 200, 0, way, seed)
        pages = [hit for offset in range(0, 200, PAGE) for hit in found(retriever, PAGE, offset, way, seed)]
        assert pages == whole, "each hit with its score and rank, however deep was looked"
        assert len({hit.passage_id for hit in whole}) == len(whole) > 20
        assert found(retriever, 101, 0, way, seed) == whole[:101] and found(retriever, 1, 0, way, seed) == whole[:1]


def test_scores_say_what_they_are_made_of(retriever: Retriever) -> None:
    hybrid = found(retriever, 596, 0, {}, 1)
    dense = {hit.passage_id: hit for hit in found(retriever, 596, 0, {"mode": "dense"}, 1)}
    lexical = {hit.passage_id: hit for hit in found(retriever, 596, 0, {"mode": "lexical"}, 1)}
    most = max(hit.score for hit in lexical.values())
    with retriever.index.reading() as view:
        weight, near = view.words_weight(asked(1)[0]), view.near
    worth = words_worth(most / weight)
    assert len(hybrid) == len(dense) == 594
    for hit in hybrid:
        assert hit.similarity == dense[hit.passage_id].score == dense[hit.passage_id].similarity
        assert hit.dense_rank == dense[hit.passage_id].dense_rank
        words = lexical.get(hit.passage_id)
        if hit.bm25 is not None:
            assert words is not None and (hit.bm25, hit.lexical_rank) == (words.bm25, words.lexical_rank)
        else:
            assert words is None or words.rank > 100
        assert hit.score == pytest.approx(0.6 * hit.similarity + 0.4 * worth * (hit.bm25 or 0) / most)
        assert hit.weak == (hit.similarity < near and (hit.bm25 or 0) < weight / 2)
    assert {hit.weak for hit in hybrid} == {True, False}
    assert all(hit.weak == (hit.score < near) for hit in dense.values())
    assert all(hit.weak == (hit.score < weight / 2) for hit in lexical.values())


def test_near_is_half_way_from_any_two_to_neighbours(tmp_path: Path) -> None:
    dice = np.random.default_rng(5)
    near = dice.standard_normal((40, DIMENSION)).astype(np.float32) + 1
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    with Index.create_with(tmp_path / "index", IndexSettings("none", "0", DIMENSION)) as index:
        put(index, passages(dice, 15), near[:15])
        with index.reading() as view:
            assert view.near is None, "too few to tell"
        put(index, [Passage(f"more {n}", f"more {n}", "x") for n in range(25)], near[15:])
        with index.reading() as view:
            stored = view.vectors([number for number, _ in view.listing()])
            products = stored @ stored.T
            any_two = products[~np.eye(40, dtype=bool)].mean()
            neighbours = np.median(np.sort(products, axis=1)[:, -2])
            assert view.near == pytest.approx((any_two + neighbours) / 2, abs=1e-5)
        index.delete([f"more {n}" for n in range(20)])
        index.compact()
        with index.reading() as view:
            assert len(view) == 20 and view.near == pytest.approx((any_two + neighbours) / 2, abs=0.2)
