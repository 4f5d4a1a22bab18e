"""The machine: what it computes with, and whether the libraries make use of it."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ragvec import __version__
from ragvec.doctor.check import ADVICE, OK, Check, judged
from ragvec.errors import RagvecError
from ragvec.index.ann.threads import load_faiss

AREA = "machine"
_NVIDIA = Path("/proc/driver/nvidia/version")
_FAISS_PACKAGES = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs", "faiss-gpu-cu12", "faiss-gpu-cu11")
_FAISS_ON_GPU = "pip uninstall -y faiss-cpu && pip install faiss-gpu"


def examine_machine() -> Iterator[Check]:
    """Versions, GPU, FAISS's build, bfloat16, threads, memory."""
    import torch

    versions = f"ragvec {__version__}, Python {platform.python_version()}, torch {torch.__version__}"
    yield Check(AREA, "versions", OK, f"{versions}, transformers {version('transformers')}")
    yield _gpu(torch)
    yield from _faiss(torch.cuda.is_available())
    yield _bfloat16(torch)
    yield _threads(
        torch.get_num_threads(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )


def _gpu(torch: Any) -> Check:
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        return Check(AREA, "GPU", OK, ", ".join(f"{device.name}, {device.total_memory / 1e9:.0f} GB" for device in devices))
    if torch.backends.mps.is_available():
        return Check(AREA, "GPU", OK, "Apple's, through mps")
    found = "there is one, and torch can't use it" if _NVIDIA.exists() else "none"
    remedy = f"install a CUDA build of torch that fits the driver (this is {torch.__version__})"
    return judged(AREA, "GPU", not _NVIDIA.exists(), found, remedy=remedy)


def _faiss(has_cuda: bool) -> Iterator[Check]:
    try:
        faiss = load_faiss()
    except RagvecError as error:
        yield judged(AREA, "FAISS", False, "it does not load", remedy=str(error))
        return
    instructions = faiss.get_compile_options().strip()
    on_gpu = hasattr(faiss, "StandardGpuResources")
    found = f"{faiss.__version__}, {instructions}, {'with' if on_gpu else 'without'} GPU support"
    yield judged(
        AREA, "FAISS", on_gpu or not has_cuda, found, remedy=f"build indices on the GPU: {_FAISS_ON_GPU}", otherwise=ADVICE
    )
    owners = [name for name in _FAISS_PACKAGES if _installed(name)]
    if len(owners) > 1:
        remedy = f"keep one: pip uninstall -y {' '.join(owners)}, then install the one you want"
        yield judged(AREA, "FAISS packages", False, f"{' and '.join(owners)} both own the module faiss", remedy=remedy)


def _bfloat16(torch: Any) -> Check:
    from ragvec.encoder.weights import choose_device, choose_dtype, cpu_has_bfloat16

    device = choose_device(None)
    chosen = str(choose_dtype(None, device)).removeprefix("torch.")
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has = device.type == "cpu" and cpu_has_bfloat16()
    return Check(
        AREA, "bfloat16", OK, f"{'in' if has else 'not in'} the {device.type}'s hardware: encoders compute in {chosen}"
    )


def _threads(threads: int, processors: int | None) -> Check:
    found = f"{threads} for {processors} processors"
    remedy = f"set OMP_NUM_THREADS to {processors}, or leave it unset"
    return judged(AREA, "threads", threads == processors, found, remedy=remedy, otherwise=ADVICE)


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
