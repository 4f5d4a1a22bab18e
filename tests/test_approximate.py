"""Approximate search: what each kind of index finds, filters inside it, how it is chosen and tuned."""

from pathlib import Path

import numpy as np
import pytest

from ragvec.errors import RagvecError, WrongUsage
from ragvec.index import Index, IndexSettings
from ragvec.index.ann import choice, exact
from ragvec.index.ann.approximate import ApproximateIndex, build_faiss
from ragvec.index.ann.build import filled_index, lists_of
from ragvec.index.ann.choice import lists_for, memory_of, plan_keys, planned_bytes
from ragvec.index.ann.exact import RowFilter, search_exact
from ragvec.index.ann.gpu import gpu_count
from ragvec.index.ann.threads import load_faiss
from ragvec.index.ann.tuning import SampleQueries, SearchParameters, draw_queries, in_blocks, ivf_of, recalls, survey, tune
from tests.test_index import DIMENSION, expected, found, passages_named, put, same, unit_vectors


def clustered(rows: int, dimension: int = DIMENSION, seed: int = 0) -> np.ndarray:
    """(rows, dimension) float32 of length 1, around 16 centres that any seed shares."""
    dice = np.random.default_rng(seed)
    centres = unit_vectors(16, dimension=dimension)
    vectors = centres[dice.integers(0, 16, rows)] + 0.1 * dice.standard_normal((rows, dimension), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def recall(hits, wanted) -> float:
    return float(np.mean([len({n for n, _ in a} & {n for n, _ in b}) / len(b) for a, b in zip(hits, wanted, strict=True)]))


def opened(path: Path, parameters: str, vectors: np.ndarray) -> ApproximateIndex:
    with path.open("rb") as file:
        return ApproximateIndex(file, parameters, vectors)


KEYS = [
    ("IVF16,Flat", 0.95),
    ("SQ8", 0.95),
    ("HNSW16", 0.95),
    ("PCA16,IVF8,SQ8", 0.9),
    ("IVF8,RaBitQ", 0.9),
    ("IVF8,RaBitQfs", 0.9),
    ("IVF8_HNSW8,RaBitQfs4", 0.9),
    ("PCA16,IVF4,RaBitQfs", 0.9),
    ("RaBitQfs", 0.9),
    ("IVF8,PQ6x4fs", 0.9),
    ("Pad28,IVF8,PQ7x4fs", 0.9),
    ("IVF8,PQ12x4fsr", 0.9),
    ("IVF8_HNSW8,PQ12x4fs", 0.9),
    ("IVF8_HNSW8,PQ12x4fsr", 0.9),
    ("PQ12x4fs", 0.9),
]


@pytest.mark.parametrize(("key", "least"), KEYS)
def test_faiss_keys_find_what_exact_search_finds(tmp_path: Path, key: str, least: float) -> None:
    vectors = clustered(2000)
    with Index.create_with(tmp_path / "index", IndexSettings("e", "f", DIMENSION, faiss_key=key)) as index:
        put(index, passages_named(range(2000)), vectors)
        put(index, passages_named(range(2000, 2003)), unit_vectors(3))
        large, small = index.describe()["segments"]
        assert (large["faiss_key"], small["faiss_key"]) == (key, "exact")
        assert large["recall@10"] >= least
        index.delete([str(row) for row in range(1000)])
        names, live = list(range(1000, 2003)), np.vstack([vectors[1000:], unit_vectors(3)])
        queries = vectors[1500:1520]
        hits = found(index, queries, 10)
        assert recall(hits, expected(names, live, queries, 10)) >= least
        assert all(abs(score - 1) < 1e-3 for ((_, score), *_) in hits)  # the exact score of a vector with itself
        assert {name for line in hits for name, _ in line} <= {str(name) for name in names}
        half = np.arange(1001, 1501)  # documents 1000 … 1499
        assert recall(found(index, queries, 10, half), expected(range(1000, 1500), vectors[1000:1500], queries, 10)) >= least
        few = found(index, queries[:2], 10, np.arange(1996, 2000))  # documents 1995 … 1998
        assert same(few, expected(range(1995, 1999), vectors[1995:1999], queries[:2], 10))
        assert len(found(index, queries[:1], 5000)[0]) == 1003


@pytest.mark.parametrize("kind", ["anywhere", "far from the query"])
def test_the_fewer_a_filter_allows_the_more_lists_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("ragvec.index.ann.approximate.FEW_VALUES", 0)
    vectors = clustered(8000, 64).astype(np.float16)
    path = tmp_path / "index.faiss"
    index = opened(path, build_faiss("IVF32,PQ16x4fs", vectors, path, recall=0.95)[1], vectors)
    queries = vectors[:40].astype(np.float32)
    shares = []
    for query in queries:
        order = np.argsort(vectors.astype(np.float32) @ query)
        chosen = order[:600] if kind.startswith("far") else order[::13]
        allowed = RowFilter(np.isin(np.arange(8000), chosen))
        rows = index.search(query[None], 10, allowed).ids
        assert rows.shape == (1, 10) and np.isin(rows, chosen).all()
        shares.append(np.isin(rows, search_exact(vectors, query[None], 10, allowed).ids).mean())
    assert np.mean(shares) >= (0.9 if kind.startswith("far") else 0.95)


def test_small_segments_are_searched_exactly_and_large_ones_by_index() -> None:
    assert plan_keys(10_000, 1024) == ["exact"]
    assert plan_keys(100_000, 1024) == ["IVF320,PQ128x4fs", "IVF320,PQ256x4fs", "IVF320,PQ512x4fs", "exact"]
    assert plan_keys(1_000_000, 256, normalized=False) == ["IVF1600,PQ64x4fs", "IVF1600,PQ128x4fs", "exact"]
    assert plan_keys(100_000, 768)[:2] == ["IVF432,PQ96x4fs", "IVF432,PQ192x4fs"]
    assert plan_keys(50_000, 4096)[0] == "IVF64,PQ512x4fs"
    assert plan_keys(1_000_000, 256) == ["IVF1600,PQ64x4fsr", "IVF1600,PQ128x4fsr", "exact"]
    assert plan_keys(50_000_000, 1024)[0] == "IVF7072_HNSW32,PQ128x4fs"
    assert plan_keys(100_000, 303)[0] == "Pad304,IVF512,PQ76x4fsr"
    assert [lists_for(rows, 1024) for rows in (1, 1_000, 10**9)] == [16, 32, 31632]
    assert planned_bytes(10_000, 1024) == 0 and planned_bytes(100_000, 1024) == memory_of(100_000, 1024, 320, 128)
    assert planned_bytes(10**7, 128) == memory_of(10**7, 128, lists_for(10**7, 128), 64) == pytest.approx(407e6, rel=0.01)


def test_memory_is_kept_to_by_smaller_codes_and_then_by_no_index() -> None:
    whole = memory_of(100_000, 1024, 320, 256)
    assert plan_keys(100_000, 1024, max_memory=whole) == ["IVF320,PQ128x4fs", "IVF320,PQ256x4fs", "exact"]
    assert plan_keys(100_000, 1024, max_memory=whole - 1) == ["IVF320,PQ128x4fs", "exact"]
    assert plan_keys(100_000, 1024, max_memory=4_000_000) == ["IVF320,PQ32x4fs", "exact"]
    assert plan_keys(100_000, 1024, max_memory=1_000_000) == ["exact"]


def test_an_index_holds_the_same_whatever_is_added_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(5000, 64).astype(np.float16)
    whole = filled_index("IVF16,PQ16x4fs", vectors)
    monkeypatch.setattr(exact, "BLOCK_VALUES", 700 * 64)
    parts = filled_index("IVF16,PQ16x4fs", vectors)
    queries = vectors[:50].astype(np.float32)
    assert parts.ntotal == 5000
    for one, other in zip(whole.search(queries, 20), parts.search(queries, 20), strict=True):
        assert np.array_equal(one, other)


def test_similarities_are_to_the_bit_what_a_search_tells(tmp_path: Path) -> None:
    vectors = clustered(3000, 30).astype(np.float16)
    path = tmp_path / "index.faiss"
    index = opened(path, build_faiss("IVF16,SQ8", vectors, path, recall=0.9)[1], vectors)
    queries = clustered(3000, 30)[::100].astype(np.float32)
    together = index.search(queries, 50, None)
    for number, query in enumerate(queries):
        alone = index.search(query[None], 50, None)
        assert np.array_equal(alone.ids[0], together.ids[number]) and np.array_equal(alone.scores[0], together.scores[number])
        shuffled = np.random.default_rng(number).permutation(50)
        assert np.array_equal(index.similarities(query, alone.ids[0, shuffled]), alone.scores[0, shuffled])
    assert index.similarities(queries[0], np.empty(0, np.int64)).shape == (0,)
    vectors[7], beyond = np.float16([6e4, -6e4, *[0] * 28]), np.float32([3e38, 3e38, *[0] * 28])
    assert index.similarities(beyond, np.array([7])).tolist() == [-np.inf]  # infinity less infinity


@pytest.mark.parametrize(("dimension", "nlist", "subquantizers"), [(64, 64, 16), (256, 64, 32), (64, 256, 32)])
def test_what_is_expected_to_fit_fits(tmp_path: Path, dimension: int, nlist: int, subquantizers: int) -> None:
    vectors = clustered(20_000, dimension).astype(np.float16)
    build_faiss(f"IVF{nlist},PQ{subquantizers}x4fs", vectors, tmp_path / "index.faiss", recall=0.5)
    expected_size = memory_of(20_000, dimension, nlist, subquantizers)
    assert (tmp_path / "index.faiss").stat().st_size == pytest.approx(expected_size, rel=0.1)


def test_a_graph_over_lists_is_filled_with_their_centroids(tmp_path: Path) -> None:
    import faiss

    vectors = clustered(5000).astype(np.float16)
    build_faiss("IVF32_HNSW16,RaBitQfs", vectors, tmp_path / "index.faiss", recall=0.9)
    index = faiss.read_index(str(tmp_path / "index.faiss"))
    ivf = faiss.extract_index_ivf(index)
    graph = faiss.downcast_index(ivf.quantizer)
    assert isinstance(graph, faiss.IndexHNSWFlat) and graph.ntotal == 32
    nearest = vectors.astype(np.float32) @ graph.reconstruct_n(0, 32).T
    sizes = [ivf.get_list_size(number) for number in range(32)]
    assert sizes == np.bincount(nearest.argmax(axis=1), minlength=32).tolist()


@pytest.mark.parametrize("target", [0.9, 0.99])
def test_auto_reaches_its_target_and_says_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: float
) -> None:
    monkeypatch.setattr(choice, "EXACT_VALUES", 100_000)
    monkeypatch.setattr("ragvec.index.ann.approximate._is_faster", lambda index, queries: True)  # so few rows: a toss-up
    settings = IndexSettings("e", "f", 64, recall_target=target)
    vectors = clustered(6000, 64)
    with Index.create_with(tmp_path / "index", settings) as index:
        put(index, passages_named(range(6000)), vectors)
        (segment,) = index.describe()["segments"]
        assert segment["faiss_key"] == "IVF128,PQ16x4fsr" and segment["recall@10"] >= target
        queries = clustered(200, 64, seed=1)  # none of them in the index
        assert recall(found(index, queries, 10), expected(range(6000), vectors, queries, 10)) >= target - 0.03
        assert recall(found(index, queries, 100), expected(range(6000), vectors, queries, 100)) >= target - 0.03


def test_an_index_that_is_slower_than_exact_search_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a kind by name gets it."""
    monkeypatch.setattr(choice, "EXACT_VALUES", 100_000)
    monkeypatch.setattr("ragvec.index.ann.approximate._is_faster", lambda index, queries: False)
    vectors = clustered(6000, 64).astype(np.float16)
    assert build_faiss("auto", vectors, tmp_path / "index.faiss", recall=0.9) == ("exact", "", None)
    assert not (tmp_path / "index.faiss").exists()
    assert build_faiss("IVF16,SQ8", vectors, tmp_path / "index.faiss", recall=0.9)[0] == "IVF16,SQ8"


def test_a_target_that_no_index_reaches_is_met_by_exact_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "EXACT_VALUES", 100_000)
    monkeypatch.setattr("ragvec.index.ann.approximate.plan_keys", lambda *shape, **limits: ["PQ1x4", "exact"])
    vectors = unit_vectors(6000, dimension=64).astype(np.float16)
    assert build_faiss("auto", vectors, tmp_path / "index.faiss", recall=1.0) == ("exact", "", None)
    assert not (tmp_path / "index.faiss").exists()


def test_a_cagra_graph_is_searched_where_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its building needs one; here the same kind of index is filled by the CPU."""
    import faiss

    def filled(degree: int, vectors: np.ndarray):
        index = faiss.IndexHNSWCagra(vectors.shape[1], degree // 2, faiss.METRIC_INNER_PRODUCT)
        index.add(vectors.astype(np.float32))
        return index

    monkeypatch.setattr("ragvec.index.ann.build.build_cagra", filled)
    monkeypatch.setattr("ragvec.index.ann.build.check_cagra", lambda key: None)
    vectors = clustered(2000)
    with Index.create_with(tmp_path / "index", IndexSettings("e", "f", DIMENSION, faiss_key="CAGRA32")) as index:
        put(index, passages_named(range(2000)), vectors)
        assert index.describe()["segments"][0]["recall@10"] >= 0.95
        assert recall(found(index, vectors[:50], 10), expected(range(2000), vectors, vectors[:50], 10)) >= 0.95


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", ""),
        ("Nonsense7", ""),
        ("IVF10", ""),
        ("LSH", ""),
        ("PQ7x4", r" \(The dimension .* multiple of .*\)"),
    ],
)
def test_a_key_of_no_index_is_told_with_what_is_one(tmp_path: Path, key: str, why: str) -> None:
    told = rf"^`faiss_key` '{key}' makes no FAISS index of {DIMENSION} dimensions{why}: give auto, exact, or a factory string"
    with pytest.raises(WrongUsage, match=told) as caught:
        Index.create_with(tmp_path / "index", IndexSettings("e", "f", DIMENSION, faiss_key=key))
    assert ".cpp" not in str(caught.value) and "std::" not in str(caught.value)


def test_building_a_cagra_graph_without_a_gpu_is_refused_with_the_remedy(tmp_path: Path) -> None:
    if gpu_count():
        pytest.skip("there is a GPU")
    with pytest.raises(RagvecError, match="`faiss_key` CAGRA64: .* on a GPU, .*pip install faiss-gpu-cuvs.*HNSW32"):
        Index.create_with(tmp_path / "index", IndexSettings("e", "f", DIMENSION, faiss_key="CAGRA64"))


def test_what_a_gpu_holds_is_searched_there_unless_a_filter_or_too_many_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = clustered(3000, 64).astype(np.float16)
    path = tmp_path / "index.faiss"
    parameters = build_faiss("IVF16,SQ8", vectors, path, recall=0.95)[1]
    plain = opened(path, parameters, vectors)
    monkeypatch.setattr("ragvec.index.ann.approximate.on_gpu", _reversed)
    index = opened(path, parameters, vectors)
    queries = vectors[:30].astype(np.float32)
    assert (index.search(queries, 10, None).ids != plain.search(queries, 10, None).ids).any()  # the copy was asked
    monkeypatch.setattr("ragvec.index.ann.approximate.FEW_VALUES", 0)
    half = RowFilter(np.arange(3000) % 2 == 0)
    assert (index.search(queries, 10, half).ids == plain.search(queries, 10, half).ids).all()
    monkeypatch.setattr("ragvec.index.ann.approximate.MOST_RESULTS", 5)
    assert (index.search(queries, 10, None).ids == plain.search(queries, 10, None).ids).all()


def _reversed(index):
    """An index of the same kind that finds other rows: its ids run backwards."""
    import faiss

    other = faiss.clone_index(index)
    other.reset()
    index.make_direct_map()
    other.add_with_ids(index.reconstruct_n(0, index.ntotal), np.arange(index.ntotal)[::-1].copy())
    return other


def test_recall_is_what_numpy_says_it_is() -> None:
    import faiss

    vectors = clustered(3000)
    index = faiss.index_factory(DIMENSION, "IVF8,RaBitQ", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    sample = draw_queries(vectors.astype(np.float16))
    scores = sample.queries @ vectors.astype(np.float16).astype(np.float32).T
    scores[np.arange(len(scores)), sample.own] = -np.inf
    truth = np.argsort(-scores, axis=1)[:, :10]
    assert np.mean([len(set(a) & set(b)) for a, b in zip(truth, sample.truth, strict=True)]) > 9.9  # equal scores aside
    measured = recalls(index, sample)
    _, rows = index.search(sample.queries, 41)
    by_hand = [len(set(line[line != own][:40]) & set(true)) / 10 for line, own, true in zip(rows, *sample[:0:-1], strict=True)]
    assert measured[40].recall == pytest.approx(np.mean(by_hand))
    assert measured[40].least == pytest.approx(np.mean(by_hand) - 1.645 * np.std(by_hand) / len(by_hand) ** 0.5)
    assert list(measured.values()) == sorted(measured.values())
    assert isinstance(sample, SampleQueries)


@pytest.mark.parametrize("key", ["IVF32,Flat", "PCA40,IVF32,Flat"])
def test_the_survey_foretells_what_perfect_codes_find(key: str) -> None:
    index = filled_index(key, vectors := unit_vectors(6000, dimension=40).astype(np.float16))
    sample, ivf = draw_queries(vectors), ivf_of(index)
    nearer, visited = survey(index, ivf, sample)
    for ivf.nprobe in (1, 5, 20, 32):
        reached = recalls(index, sample)[640].recall
        assert (nearer < ivf.nprobe).mean() == pytest.approx(reached, abs=0.002)  # a neighbour's score may be another's
    assert visited[-1] == 6000 and (np.diff(visited) > 0).all()
    best = tune(index, sample, 0.9)
    assert best.recall > best.least >= 0.9 and (nearer < best.parameters.nprobe).mean() >= best.recall - 0.002


def test_queries_are_searched_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What FAISS makes for a query and a list it makes for all queries at once: at 2 GB it crashes."""
    sizes = []

    def search(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        sizes.append(len(queries))
        return queries[:, :k], queries[:, :k].astype(np.int64)

    queries = np.arange(70, dtype=np.float32).reshape(10, 7)
    monkeypatch.setattr("ragvec.index.ann.tuning.TABLE_BYTES", 4 * 7 * 2 * 4)
    scores, rows = in_blocks(search, queries, 3, 2)
    assert sizes == [4, 4, 2] and scores.tolist() == queries[:, :3].tolist() == rows.tolist()


def test_a_vector_of_zeros_is_as_near_to_all(tmp_path: Path) -> None:
    """FAISS's tables for it hold 0 / 0; exact search answers."""
    vectors = clustered(3000)
    with Index.create_with(tmp_path / "index", IndexSettings("e", "f", DIMENSION, faiss_key="IVF8,PQ12x4fs")) as index:
        put(index, passages_named(range(3000)), vectors)
        result = index.search(np.vstack([np.zeros(DIMENSION), vectors[7]]), 5)
    assert result.ids[0].tolist() == [1, 2, 3, 4, 5] and not result.scores[0].any() and result.ids[1, 0] == 8


def test_what_a_reader_sees_can_be_searched_after_it_was_merged_away(tmp_path: Path) -> None:
    vectors = clustered(3000)
    with Index.create_with(tmp_path / "index", IndexSettings("e", "f", DIMENSION, faiss_key="IVF8,PQ12x4fs")) as index:
        put(index, passages_named(range(2000)), vectors[:2000])
        put(index, passages_named(range(2000, 3000)), vectors[2000:])
        with Index.open(index.path) as other, index.writing() as writer, other.reading() as view:
            writer.compact()
            assert not (index.path / "segments" / "0001").exists()
            rows = view.search(vectors[[5, 2500]], 1).ids
        assert [passage.doc_id for passage in index.passages(rows[:, 0].tolist())] == ["5", "2500"]


def test_search_parameters_are_written_and_read() -> None:
    assert str(SearchParameters(nprobe=8, candidates=120)) == "nprobe=8 candidates=120"
    assert SearchParameters.parse("nprobe=8 candidates=120") == SearchParameters(nprobe=8, candidates=120)
    assert [SearchParameters(candidates=100).pool(k) for k in (1, 10, 100, 1000)] == [18, 100, 562, 3162]


def test_compacting_renews_an_index_of_a_kind_that_is_chosen_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "EXACT_VALUES", 40_000)
    monkeypatch.setattr("ragvec.index.ann.approximate._is_faster", lambda index, queries: True)
    with Index.create_with(tmp_path / "index", IndexSettings("e", "f", DIMENSION)) as index:
        with monkeypatch.context() as former:
            former.setattr(choice, "LISTS_PER_ROOT", 0.5)
            put(index, passages_named(range(2000)), clustered(2000))
        keys = []
        for _ in range(3):
            (segment,) = index.describe()["segments"]
            keys.append((segment["number"], segment["faiss_key"]))
            index.compact()
        assert keys == [(1, "IVF32,PQ6x4fsr"), (2, "IVF80,PQ6x4fsr"), (2, "IVF80,PQ6x4fsr")]


def test_compacting_with_another_key_builds_anew_without_encoding(tmp_path: Path) -> None:
    vectors = clustered(2000)
    with Index.create_with(tmp_path / "index", IndexSettings("e", "f", DIMENSION, faiss_key="exact")) as index:
        put(index, passages_named(range(2000)), vectors)
        index.compact(faiss_key="IVF4,SQ8", recall_target=0.99)
        assert [s["faiss_key"] for s in index.describe()["segments"]] == ["IVF4,SQ8"]
        assert Index.open(index.path).settings.recall_target == 0.99
        assert recall(found(index, vectors[:50], 10), expected(range(2000), vectors, vectors[:50], 10)) >= 0.97
        index.compact()  # nothing to do
        assert [s["number"] for s in index.describe()["segments"]] == [2]


@pytest.mark.parametrize(
    ("dimension", "first", "second"),
    [(64, "IVF32,PQ8x4fsr", "IVF32,PQ16x4fsr"), (66, "Pad68,IVF32_HNSW32,PQ17x4fs", "Pad68,IVF32_HNSW32,PQ34x4fs")],
)
def test_codes_that_come_second_take_over_the_lists_of_the_first(dimension: int, first: str, second: str) -> None:
    faiss = load_faiss()
    vectors = np.random.default_rng(5).standard_normal((4_000, dimension)).astype(np.float16)
    lists = lists_of(filled_index(first, vectors))
    assert lists is not None and len(lists.numbers) == 4_000
    anew, taken_over = filled_index(second, vectors), filled_index(second, vectors, lists)
    assert np.array_equal(faiss.serialize_index(anew), faiss.serialize_index(taken_over))
    others = lists._replace(numbers=np.zeros(4_000, np.int32))
    assert not np.array_equal(faiss.serialize_index(anew), faiss.serialize_index(filled_index(second, vectors, others)))
