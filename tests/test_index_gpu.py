"""What FAISS does on a GPU, where a copy in memory stands for one: the index that comes back, and who holds what meanwhile."""

import gc
import weakref

import numpy as np
import pytest

from ragvec.index.ann.build import filled_index
from ragvec.index.ann.gpu import clustering_on_gpu, on_gpu
from tests.test_approximate import clustered
from tests.test_index import DIMENSION


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> list:
    """FAISS says that it has a GPU; what is copied there, which a copy in memory stands for. Like FAISS it takes no graph."""
    import faiss

    copies: list = []

    def copied(_, device: int, index):
        kinds = (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer)
        bare = faiss.downcast_index(index)
        finder = faiss.downcast_index(bare.quantizer) if isinstance(bare, faiss.IndexIVF) else None
        if type(bare) not in (*kinds, faiss.IndexFlatIP) or isinstance(finder, faiss.IndexHNSW):
            raise RuntimeError("This index type is not implemented on GPU.")
        copy = faiss.clone_index(index)
        copies.append(weakref.ref(copy))
        return copy

    def copied_back(index):
        copy = faiss.clone_index(index)
        copy.clustering_index = None
        return copy

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", copied, raising=False)
    monkeypatch.setattr(faiss, "index_gpu_to_cpu", copied_back, raising=False)
    return copies


@pytest.mark.parametrize("key", ["IVF32_HNSW32,SQ8", "IVF32_HNSW32,Flat", "IVF32_HNSW32,PQ8x4fs", "IVF32,SQ8", "IVF32,PQ8x4fs"])
def test_filled_on_a_gpu_an_index_is_what_it_is_without(key: str, pretended_gpu: list, monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    vectors = clustered(3000).astype(np.float16)
    on_gpu = filled_index(key, vectors)
    cells = faiss.extract_index_ivf(on_gpu)
    assert len(pretended_gpu) == (1 if "x4fs" in key else 2)  # the cells' centres, and the inverted file
    assert cells.clustering_index is None  # what it pointed to is gone
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    plain = filled_index(key, vectors)
    assert len(pretended_gpu) == (1 if "x4fs" in key else 2)
    for one in (on_gpu, plain):
        finder = faiss.downcast_index(faiss.extract_index_ivf(one).quantizer)
        assert isinstance(finder, faiss.IndexHNSWFlat if "HNSW" in key else faiss.IndexFlat)
        faiss.extract_index_ivf(one).nprobe = 4
    queries = vectors[:40].astype(np.float32)
    np.testing.assert_array_equal(on_gpu.search(queries, 10)[1], plain.search(queries, 10)[1])
    written = faiss.deserialize_index(faiss.serialize_index(on_gpu))
    np.testing.assert_array_equal(written.search(queries, 10)[1], plain.search(queries, 10)[1])
    if "HNSW" in key:
        graph = faiss.downcast_index(cells.quantizer)
        assert (graph.ntotal, graph.hnsw.efSearch, cells.quantizer_trains_alone, cells.own_fields) == (32, 128, "\x02", True)


def test_the_centres_on_a_gpu_are_there_while_cells_are_found(pretended_gpu: list) -> None:
    import faiss

    cells = faiss.index_factory(DIMENSION, "IVF16,Flat", faiss.METRIC_INNER_PRODUCT)
    with clustering_on_gpu(cells):
        gc.collect()
        assert pretended_gpu[0]() is not None and cells.clustering_index.this == pretended_gpu[0]().this
        cells.train(clustered(1000))
    gc.collect()
    assert pretended_gpu[0]() is None and cells.clustering_index is None and cells.is_trained


def test_cells_that_a_graph_finds_are_searched_on_the_cpu(pretended_gpu: list) -> None:
    vectors = clustered(2000).astype(np.float16)
    assert on_gpu(filled_index("IVF32,SQ8", vectors)) is not None
    assert on_gpu(filled_index("IVF32_HNSW32,SQ8", vectors)) is None
    assert on_gpu(filled_index("IVF32,PQ8x4fs", vectors)) is None


def test_a_gpu_with_too_little_memory_leaves_the_filling_to_the_cpu(
    pretended_gpu: list, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import faiss

    def too_small(index):
        raise RuntimeError("CUDA error 2 out of memory")

    vectors = clustered(3000).astype(np.float16)
    monkeypatch.setattr(faiss, "index_gpu_to_cpu", too_small)
    with caplog.at_level("INFO", "ragvec"):
        filled = filled_index("IVF32,SQ8", vectors)
    assert filled.ntotal == 3000 and "is filled on the CPU" in caplog.text
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    plain = filled_index("IVF32,SQ8", vectors)
    queries = vectors[:40].astype(np.float32)
    np.testing.assert_array_equal(filled.search(queries, 5)[1], plain.search(queries, 5)[1])
