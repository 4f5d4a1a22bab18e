"""What a GPU build of FAISS takes over where a GPU is: clustering, filling and searching inverted files, CAGRA graphs."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from ragvec.errors import WrongInput
from ragvec.index.ann.threads import load_faiss

MOST_RESULTS = 2_048  # that FAISS finds, and lists that it visits, on a GPU
TURN = threading.Lock()  # of the memory that searches share on a GPU: FAISS lets one thread at a time use it
_CAGRA = re.compile(r"CAGRA(\d+)")


def gpu_count() -> int:
    """How many GPUs this build of FAISS can use."""
    return int(getattr(load_faiss(), "get_num_gpus", int)())


def cagra_degree(key: str) -> int | None:
    """The links of a node that a key such as CAGRA64 asks for; None = another kind of index."""
    match = _CAGRA.fullmatch(key)
    return int(match.group(1)) if match else None


def check_cagra(key: str) -> None:
    """Raises RagvecError if no CAGRA graph can be built here."""
    if not gpu_count() or not hasattr(load_faiss(), "GpuIndexCagra"):
        raise WrongInput(
            f"`faiss_key` {key}: a CAGRA graph is built on a GPU, by a build of FAISS with cuVS (pip uninstall -y faiss-cpu "
            f"faiss-gpu && pip install faiss-gpu-cuvs); HNSW32 is the like on a CPU"
        )


def build_cagra(degree: int, vectors: np.ndarray) -> Any:
    """A CAGRA graph over vectors (rows, d) float16, built on the GPU; on the CPU it is searched like an HNSW."""
    faiss = load_faiss()
    config = faiss.GpuIndexCagraConfig()
    config.graph_degree, config.intermediate_graph_degree = degree, 2 * degree
    dimension = vectors.shape[1]
    graph = faiss.GpuIndexCagra(faiss.StandardGpuResources(), dimension, faiss.METRIC_INNER_PRODUCT, config)
    graph.train(vectors.astype(np.float32))
    copied = faiss.IndexHNSWCagra(dimension, degree // 2, faiss.METRIC_INNER_PRODUCT)
    graph.copyTo(copied)
    return copied


def on_gpu(index: Any, resources: Any = None) -> Any | None:
    """A copy of a FAISS index on the first GPU; None where there is none, or FAISS has no such kind for it.

    resources  FAISS's, of one thread; None = those that all searches share, each in its `TURN`
    It has inverted files of whole vectors, of scalars (SQ8) and of PQ's codes of 8 bits, whose lists are compared one by one:
    no codes of 4 bits, no RaBitQ, no lists found by a graph.
    """
    faiss = load_faiss()
    if not gpu_count() or not isinstance(faiss.downcast_index(index), faiss.IndexIVF):
        return None
    try:
        with TURN:
            return faiss.index_cpu_to_gpu(resources or _resources(), 0, index)
    except RuntimeError:
        return None


@contextmanager
def clustering_on_gpu(ivf: Any) -> Iterator[Any]:
    """Until the end the GPU, where there is one, finds the lists that rows belong to in an inverted file.

    Gives FAISS's resources for more work of this thread on it; None where there is no GPU.
    """
    if not gpu_count():
        yield None
        return
    faiss = load_faiss()
    resources = faiss.StandardGpuResources()  # of this building alone: searches go on meanwhile
    centroids = faiss.index_cpu_to_gpu(resources, 0, faiss.IndexFlatIP(ivf.d))  # held here: `ivf` only points to it
    ivf.clustering_index = centroids
    try:
        yield resources
    finally:
        ivf.clustering_index = None


@cache
def _resources() -> Any:
    return load_faiss().StandardGpuResources()
