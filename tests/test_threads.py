"""FAISS's threads and the kernels it computes with: forks, one query on all cores, CPUs that its OpenBLAS doesn't know."""

from pathlib import Path

import numpy as np
import pytest

from ragvec.index.ann.exact import RowFilter, search_exact
from ragvec.index.ann.threads import KERNELS_NAME, kernels_for
from tests.test_index import run_python, unit_vectors

CPU_FLAGS = Path("/proc/cpuinfo")


def test_kernels_are_chosen_by_what_a_cpu_can_do() -> None:
    haswell = {"sse2", "avx2", "fma"}
    assert kernels_for(haswell) == "Haswell"
    assert kernels_for(haswell | {"avx512f"}) == "Haswell"  # a Xeon Phi lacks the rest
    assert kernels_for(haswell | {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}) == "SkylakeX"
    assert kernels_for({"sse2"}) is None and kernels_for({"asimd", "sve"}) is None


_KERNELS = f"""
    import ctypes, os
    from ragvec.index.ann.threads import load_faiss
    load_faiss()
    with open("/proc/self/maps") as maps:
        found = {{line.split()[-1] for line in maps if "faiss" in line and "openblas" in line}}
    for path in found:
        core = ctypes.CDLL(path).openblas_get_corename
        core.restype = ctypes.c_char_p
        print(core().decode(), os.environ.get("{KERNELS_NAME}"))
"""


@pytest.mark.skipif(not CPU_FLAGS.exists(), reason="only Linux tells what a CPU can do")
def test_the_openblas_in_faiss_uses_this_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KERNELS_NAME, raising=False)
    out = run_python(_KERNELS).stdout.split()
    best = kernels_for(set(CPU_FLAGS.read_text(encoding="utf-8").split()))
    if not out or best is None:
        pytest.skip("this build of FAISS brings no OpenBLAS of its own, or the CPU has neither AVX512 nor AVX2")
    assert out == [best, "None"]
    monkeypatch.setenv(KERNELS_NAME, "Prescott")  # what a user sets stays
    assert run_python(_KERNELS).stdout.split() == ["Prescott", "Prescott"]


@pytest.mark.parametrize("order", ["torch, faiss", "faiss, torch"])
def test_a_forked_child_searches_and_encodes_without_hanging(order: str) -> None:
    """Both OpenMP runtimes have run in the parent; without the guard the child would wait for threads that are not there."""
    code = f"""
        import os, signal
        import numpy as np
        import {order}
        from ragvec.index.ann.exact import search_exact
        from ragvec.index.ann.threads import guard_forks
        guard_forks()
        faiss.omp_set_num_threads(2)
        torch.set_num_threads(2)
        vectors = np.ones((30_000, 256), np.float16)
        queries = np.ones((20, 256), np.float32)
        def work():
            search_exact(vectors, queries, 3, None)
            search_exact(vectors, queries[:1], 3, None)
            torch.ones(500, 500).matmul(torch.ones(500, 500)).sum()
        work()
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            work()
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run_python(code).stdout == "7\n"


def test_one_query_is_shared_out_among_threads_and_equals_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit_vectors(40_000, dimension=256).astype(np.float16)
    query = unit_vectors(1, seed=1, dimension=256)
    for threads in (1, 3):
        monkeypatch.setattr("ragvec.index.ann.exact.search_threads", lambda threads=threads: threads)
        for mask in (None, np.arange(40_000) % 7 > 2):
            result = search_exact(vectors, query, 12, None if mask is None else RowFilter(mask))
            scores = vectors.astype(np.float32) @ query[0]
            scores[~mask if mask is not None else slice(0)] = -np.inf
            assert result.ids[0].tolist() == np.argsort(-scores, kind="stable")[:12].tolist()


@pytest.mark.parametrize("raised", [
    "RuntimeError('faiss-gpu installed but nvidia-cuda-runtime-cu12 is missing')", "OSError('libcublas.so.12: cannot open')",
    "ModuleNotFoundError('No module named faiss')",
])  # fmt: skip
def test_a_faiss_that_does_not_load_is_one_line_with_the_remedy(raised: str, tmp_path: Path) -> None:
    """As faiss-gpu 1.15 does where its CUDA libraries are missing; and again at the next try."""
    (tmp_path / "faiss").mkdir()
    (tmp_path / "faiss" / "__init__.py").write_text(f"raise {raised}\n")
    out = run_python("""
        import sys
        sys.path.insert(0, sys.argv[1])
        from ragvec.doctor.machine import _faiss
        from ragvec.errors import RagvecError
        from ragvec.index.ann.threads import load_faiss
        for _ in range(2):
            try:
                load_faiss()
            except RagvecError as error:
                print(error)
        [check] = _faiss(False)
        print(check.state, check.found)
    """, tmp_path).stdout.splitlines()  # fmt: skip
    reason = raised.split("'")[1]
    line = f"FAISS does not load ({reason}): install what is missing, or FAISS for the CPU: "
    assert out[:2] == [line + "pip uninstall -y faiss-gpu faiss-gpu-cuvs && pip install faiss-cpu"] * 2
    assert out[2] == "failed it does not load"
