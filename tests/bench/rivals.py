"""The libraries that the index is compared with, each as its own documentation uses it, behind the same two functions.

build(vectors, folder, threads)   make an index of vectors (rows, d) float32 and save it
open(folder, vectors)             → Opened; vectors is the mapped .npy, for those that score again from the exact ones
"""

import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

K = 10
LINKS, BUILD_EFFORT = 16, 200  # of a graph: the usual compromise between building and searching


class Opened(NamedTuple):
    """An index ready to search.

    search   (queries (n, d) float32, threads, effort) → rows (n, 10)
    efforts  to try in order until the recall is reached; one that tunes itself has a single one
    key      what kind of index it is
    """

    search: Callable[[np.ndarray, int, int], np.ndarray]
    efforts: Iterable[int]
    key: str


class Rival(NamedTuple):
    build: Callable[[np.ndarray, Path, int], None]
    open: Callable[[Path], Opened]


def build_ragvec(vectors: np.ndarray, folder: Path, threads: int, *, faiss_key: str = "auto") -> None:
    """A segment as `ragvec index` writes it: float16 vectors, index, tuning and checksums, all on disk."""
    from ragvec.index import Index, IndexSettings, store
    from ragvec.index.ann.threads import load_faiss
    from ragvec.index.segment import SegmentWriter

    load_faiss().omp_set_num_threads(threads)
    settings = IndexSettings("bench", "0", vectors.shape[1], faiss_key=faiss_key)
    with Index.create_with(folder / "ragvec", settings) as index, index.writing() as writer:
        segment = SegmentWriter(index.path, 1, vectors.shape[1])
        for start in range(0, len(vectors), 65_536):
            block = vectors[start : start + 65_536]
            segment.append(block, np.arange(start, start + len(block)))
        store.insert_segment(writer.connection, segment.finish(settings))


def open_ragvec(folder: Path) -> Opened:
    from ragvec.index import Index
    from ragvec.index.ann.threads import load_faiss

    faiss = load_faiss()
    index = Index.open(folder / "ragvec")
    (segment,) = index.describe()["segments"]
    index.search(np.ones((1, index.settings.dimension), np.float32), 1)  # reads the codes

    def search(queries: np.ndarray, threads: int, effort: int) -> np.ndarray:
        faiss.omp_set_num_threads(threads)
        return index.search(queries, K).ids

    return Opened(search, [0], f"{segment['faiss_key']} {segment['search_parameters']}".strip())


def build_hnswlib(vectors: np.ndarray, folder: Path, threads: int) -> None:
    import hnswlib

    index = hnswlib.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), M=LINKS, ef_construction=BUILD_EFFORT)
    index.add_items(vectors, num_threads=threads)
    index.save_index(str(folder / "hnswlib"))
    (folder / "hnswlib.dimension").write_text(str(vectors.shape[1]))


def open_hnswlib(folder: Path) -> Opened:
    import hnswlib

    index = hnswlib.Index("ip", int((folder / "hnswlib.dimension").read_text()))
    index.load_index(str(folder / "hnswlib"))

    def search(queries: np.ndarray, threads: int, effort: int) -> np.ndarray:
        index.set_ef(effort)
        found: np.ndarray = index.knn_query(queries, K, num_threads=threads)[0]
        return found

    return Opened(search, (10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 640, 1280), f"M={LINKS}")


def build_usearch(vectors: np.ndarray, folder: Path, threads: int) -> None:
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1], metric="ip", dtype="f16", connectivity=LINKS, expansion_add=BUILD_EFFORT, expansion_search=64
    )
    index.add(np.arange(len(vectors)), vectors, threads=threads)
    index.save(str(folder / "usearch"))


def open_usearch(folder: Path) -> Opened:
    from usearch.index import Index

    index = Index.restore(str(folder / "usearch"))

    def search(queries: np.ndarray, threads: int, effort: int) -> np.ndarray:
        index.expansion_search = effort
        return np.asarray(index.search(queries, K, threads=threads).keys, dtype=np.int64).reshape(len(queries), -1)

    return Opened(search, (10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 640, 1280), f"connectivity={LINKS} f16")


def build_scann(vectors: np.ndarray, folder: Path, threads: int) -> None:
    import scann

    leaves, sample = int(len(vectors) ** 0.5), min(len(vectors), 250_000)
    builder = scann.scann_ops_pybind.builder(vectors, K, "dot_product").set_n_training_threads(threads)
    builder = builder.tree(num_leaves=leaves, num_leaves_to_search=leaves // 10, training_sample_size=sample)
    index = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100).build()
    (folder / "scann").mkdir()
    index.serialize(str(folder / "scann"))


def open_scann(folder: Path) -> Opened:
    import scann

    index = scann.scann_ops_pybind.load_searcher(str(folder / "scann"))

    def search(queries: np.ndarray, threads: int, effort: int) -> np.ndarray:
        rows: np.ndarray
        if len(queries) == 1:
            rows = index.search(queries[0], leaves_to_search=effort)[0][None]
        elif threads > 1:
            index.set_num_threads(threads)
            rows = index.search_batched_parallel(queries, leaves_to_search=effort)[0]
        else:
            rows = index.search_batched(queries, leaves_to_search=effort)[0]
        return rows.astype(np.int64)

    return Opened(search, (1, 2, 3, 4, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128, 256, 512), "tree, AH, reorder 100")


RIVALS = {
    "ragvec": Rival(build_ragvec, open_ragvec),
    "hnswlib": Rival(build_hnswlib, open_hnswlib),
    "usearch": Rival(build_usearch, open_usearch),
    "scann": Rival(build_scann, open_scann),
}


def installed(names: Iterable[str]) -> list[str]:
    """Those of them that can be imported here; says how to install the others."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        print(f"not installed, left out: pip install {' '.join(missing)}")
    return [name for name in names if name not in missing]


def load(name: str) -> None:
    """Import a library, so that no figure holds that."""
    if name != "ragvec":
        __import__(name)
        return
    import ragvec.index.ann.approximate  # noqa: F401
    from ragvec.index.ann.threads import load_faiss

    load_faiss()
