"""What is here, what it can do at most, and whether vectors made on it are those of float32 on the CPU."""

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.gpu.bench import Bench

PRODUCTS = {  # rows, inner, columns: those of a Llama 3 8B over 32,768 tokens
    "8192 cubed": (8192, 8192, 8192),
    "feed-forward": (32768, 4096, 14336),
    "feed-forward back": (32768, 14336, 4096),
    "queries": (32768, 4096, 4096),
    "keys": (32768, 4096, 1024),
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 16},
    "qwen3": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16, "sliding_window": 16},
    "gemma2": {"head_dim": 16},
}
DRY_FAMILIES = ("llama", "gemma3_text")
LEAST_COSINE = {"float32": 0.99999, "bfloat16": 0.99, "float16": 0.999}


def check(bench: Bench) -> None:
    """The machine, its ceilings, and parity."""
    machine(bench)
    ceilings(bench)
    parity(bench)


def machine(bench: Bench) -> None:
    """Versions and the card."""
    import accelerate
    import peft
    import torch
    import transformers

    facts = {
        "python": sys.version.split()[0], "torch": torch.__version__, "transformers": transformers.__version__,
        "peft": peft.__version__, "accelerate": accelerate.__version__,
        "GPU": "none" if bench.dry else torch.cuda.get_device_name(),
        "GPU memory, GiB": 0.0 if bench.dry else torch.cuda.get_device_properties(0).total_memory / 2**30,
    }  # fmt: skip
    bench.figures.put("machine", facts)


def ceilings(bench: Bench) -> None:
    """How fast products and copies are here, alone."""
    import torch

    for name, sizes in PRODUCTS.items():
        rows, inner, columns = (size // 128 if bench.dry else size for size in sizes)
        some = torch.randn(rows, inner, device=bench.device, dtype=torch.bfloat16)
        weight = torch.randn(columns, inner, device=bench.device, dtype=torch.bfloat16)
        seconds = bench.median_seconds(partial(torch.nn.functional.linear, some, weight))
        figures = {"ms": 1e3 * seconds, "TFLOP/s": 2e-12 * rows * inner * columns / seconds}
        bench.figures.put("ceilings", {name: figures})
    count = 2**20 if bench.dry else 2**31
    source = torch.zeros(count, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    seconds = bench.median_seconds(lambda: target.copy_(source))
    bench.figures.put("ceilings", {"copy, read and written": {"ms": 1e3 * seconds, "TB/s": 2e-12 * count / seconds}})


def parity(bench: Bench) -> None:
    """The bundled encoder and tiny decoders of several families. Ends with an error if any vector is another one."""
    from ragvec.data import data_path
    from tests.bench.encode import make_texts
    from tests.tiny import TEXTS, save_tiny_decoder

    wrong = parity_of(bench, "bundled", data_path("encoder"), make_texts(8 if bench.dry else 100), ("bidirectional",))
    for name in DRY_FAMILIES if bench.dry else FAMILIES:
        folder = bench.work / "tiny" / name
        shutil.rmtree(folder, ignore_errors=True)
        save_tiny_decoder(folder, name, **FAMILIES[name])
        directions = ("bidirectional", "causal") if name in ("llama", "mistral") else ("bidirectional",)
        wrong += parity_of(bench, name, folder, [*TEXTS, *make_texts(2 if bench.dry else 30)], directions)
    if wrong:
        raise SystemExit(f"other vectors than on the CPU: {', '.join(wrong)}")


def parity_of(bench: Bench, name: str, source: Path, texts: list[str], directions: tuple[str, ...]) -> list[str]:
    """Least cosine of each precision to float32 on the CPU; returns what is wrong."""
    from ragvec import Encoder

    wrong = []
    for direction in directions:
        wanted = Encoder.load(source, device="cpu", dtype="float32", attention=direction).encode_documents(texts)
        for dtype, least in LEAST_COSINE.items():
            if dtype == "float16" and bench.dry:
                continue
            row = f"{name}, {direction}, {dtype}"
            try:
                encoder = Encoder.load(source, device=bench.device, dtype=dtype, attention=direction)
                cosines = (wanted * encoder.encode_documents(texts)).sum(axis=1)
            except Exception as error:  # the other families' figures are wanted all the same
                bench.figures.failed("parity with float32 on the CPU", row, error)
                wrong.append(row)
                continue
            right = bool(cosines.min() >= least)  # a NaN is not
            wrong += [] if right else [row]
            figures = {"least cosine": float(cosines.min()), "right": right, "packed": encoder.settings.packed}
            bench.figures.put("parity with float32 on the CPU", {row: figures})
    return wrong
