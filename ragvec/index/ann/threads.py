"""FAISS and its threads: loaded late with fast matrix products, one query on all cores, no hang in a process made by fork.

FAISS and torch each bring an OpenMP runtime. Its threads don't survive a fork, and a child that asks for them waits for ever;
with one thread it asks for none. A child made by spawn has threads of its own and is not touched.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ragvec.errors import RagvecError, first_line

Result = TypeVar("Result")

KERNELS_NAME = "OPENBLAS_CORETYPE"
# OpenBLAS' kernels and the instructions they use, best first.
KERNELS = {"SkylakeX": {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}, "Haswell": {"avx2", "fma"}}

# Queries of so many values in all are compared by a product of matrices. FAISS 1.15 waits for 128,000, where that is 7 times as
# fast as comparing them one by one (128 queries of 1,024 values; before 1.15 the number is one of queries, and is 20).
PRODUCT_VALUES = 8_192

_lock = threading.Lock()
_guarded = False
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # by process and size: a child's pool is its own


def load_faiss() -> Any:
    """The module faiss, with forks made safe. Raises RagvecError if it can't be loaded."""
    if not faiss_is_loaded():
        try:
            with _kernels_of_this_cpu():
                import faiss
        except (ImportError, RuntimeError, OSError) as error:  # a GPU build without CUDA's libraries raises any
            raise RagvecError(
                f"FAISS does not load ({first_line(error)}): install what is missing, or FAISS for the CPU: "
                "pip uninstall -y faiss-gpu faiss-gpu-cuvs && pip install faiss-cpu"
            ) from error
        faiss.cvar.distance_compute_blas_threshold = min(PRODUCT_VALUES, faiss.cvar.distance_compute_blas_threshold)
    import faiss

    guard_forks()
    return faiss


def faiss_is_loaded() -> bool:
    """Whether this process has FAISS already."""
    return "faiss" in sys.modules


def kernels_for(flags: set[str]) -> str | None:
    """The best of `KERNELS` for a CPU with these flags, as /proc/cpuinfo names them."""
    return next((name for name, needed in KERNELS.items() if needed <= flags), None)


@contextmanager
def _kernels_of_this_cpu() -> Iterator[None]:
    """Until the end a library that loads OpenBLAS gets the kernels for this CPU's instructions.

    The OpenBLAS 0.3.15 in FAISS's wheels knows CPUs by their models, and takes SSE3's kernels for those that came after it:
    on an Emerald Rapids a matrix product takes 4.5 times as long as it need.
    """
    kernels = kernels_for(_cpu_flags())
    if kernels is None or KERNELS_NAME in os.environ:
        yield
        return
    os.environ[KERNELS_NAME] = kernels
    try:
        yield
    finally:
        del os.environ[KERNELS_NAME]


def _cpu_flags() -> set[str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return set()
    with path.open(encoding="utf-8") as lines:  # no further than the first CPU: with many, all of them take long
        return set(next((line for line in lines if line.startswith("flags")), "").split())


def guard_forks() -> None:
    """From now on, a child made by fork computes with one OpenMP thread in FAISS and torch, whichever is loaded by then."""
    global _guarded
    with _lock:
        if not _guarded and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_use_one_thread)
        _guarded = True


def search_threads() -> int:
    """How many threads a search may use: what OpenMP uses in FAISS, set by OMP_NUM_THREADS."""
    return int(load_faiss().omp_get_max_threads())


@contextmanager
def one_thread() -> Iterator[None]:
    """Until the end FAISS computes in the calling thread alone: what is small would wait for threads that have no core."""
    faiss, threads = load_faiss(), search_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def in_parallel(work: Callable[..., Result], *arguments: Iterable[Any]) -> list[Result]:
    """`work` of each set of arguments, side by side on `search_threads()` threads, in each of which FAISS uses one alone."""
    faiss, key = load_faiss(), (os.getpid(), search_threads())
    with _lock:
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(key[1], "ragvec-search", initializer=faiss.omp_set_num_threads, initargs=(1,))
        pool = _pools[key]
    return list(pool.map(work, *arguments))


def _use_one_thread() -> None:
    for name, call in (("faiss", "omp_set_num_threads"), ("torch", "set_num_threads")):
        if name in sys.modules:
            getattr(sys.modules[name], call)(1)
