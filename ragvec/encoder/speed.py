"""How much work texts are for a model, and how much the machine can do: the share of its peak that encoding reaches."""

import re
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from ragvec.encoder.int8 import int8_weights

if TYPE_CHECKING:
    from ragvec.encoder.encoder import Encoder

# Dense half-precision tensor-core peaks of NVIDIA's data sheets, FLOP/s (sums in float32; a sheet that names sparsity alone
# gives twice as much), by words of the name that torch gives a GPU; the most words that fit count. GeForce: the white papers of
# Ampere, Ada and Blackwell. A10G: the sheet that NVIDIA made for Amazon, 70 (140 with sparsity); tables elsewhere lend it the
# A10's 125.
_DATA_SHEETS = {
    "B200": 2250e12, "GB200": 2500e12, "GH200": 989e12, "H200": 989e12, "H200 NVL": 835e12,
    "H100": 989e12, "H100 NVL": 835e12, "H100 PCIe": 756e12, "A100": 312e12, "A30": 165e12, "A40": 150e12,
    "L40S": 362e12, "L40": 181e12, "L4": 121e12, "A10": 125e12, "A10G": 70e12,
    "RTX 5090": 209e12, "RTX 4090": 165e12, "RTX 3090": 71e12, "T4": 65e12, "V100": 125e12, "V100 PCIE": 112e12,
}  # fmt: skip
H100_PEAK = _DATA_SHEETS["H100"]
_OTHERS = {"MIG", "Ti", "D", "Laptop", "SUPER"}  # a slice of a GPU, or another one of a similar name: measured
# Compiling on a GPU, estimated: seconds it takes, the share of time it saves, the share of the peak that is reached without.
COMPILE_SECONDS = 90.0
COMPILE_SAVES = 0.1
COMPILE_PARAMETERS = 1_000_000_000  # below this launching kernels, not computing, takes the time
REACHED = 0.5
_USUAL_PEAK = 312e12  # of a GPU that no data sheet here names
_ROWS = 2048
_SECONDS = 0.3


class Speed:
    """An encoder's work per text, and the peak of where it runs."""

    def __init__(self, encoder: "Encoder") -> None:
        """Measures the peak where no data sheet names it: a third of a second."""
        config = encoder.model.config.get_text_config()
        heads = config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // heads
        self._attention: float = 4.0 * config.num_hidden_layers * heads * head
        weights = sum(p.numel() for name, p in encoder.model.named_parameters() if "embed" not in name)
        self._weights: float = 2.0 * (weights + int8_weights(encoder.model))
        self.peak = data_sheet_peak(encoder.device, encoder.model.dtype) or matmul_peak(
            encoder.model.dtype, config.hidden_size, encoder.device
        )

    def flops(self, token_counts: np.ndarray) -> float:
        """Floating-point operations for texts of these lengths: 2 a weight and token, and attention's two products."""
        return self._weights * float(token_counts.sum()) + self._attention * float((token_counts.astype(float) ** 2).sum())


def data_sheet_peak(device: torch.device, dtype: torch.dtype) -> float | None:
    """A GPU's peak in FLOP/s as its provenance states it; None for others, and for float32."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return None
    words = set(re.split(r"[\s-]+", torch.cuda.get_device_name(device)))
    fitting = [known for known in _DATA_SHEETS if words.issuperset(known.split())]
    return _DATA_SHEETS[max(fitting, key=len)] if fitting and words.isdisjoint(_OTHERS) else None


def compiling_repays(encoder: "Encoder", tokens: float) -> bool:
    """Whether compiling the layers saves more time than it takes: on a GPU, from about a billion parameters on."""
    weights: int = sum(weight.numel() for weight in encoder.model.parameters())
    if encoder.device.type != "cuda" or weights < COMPILE_PARAMETERS or encoder.compile_refusal:
        return False
    peak = data_sheet_peak(encoder.device, encoder.model.dtype)
    seconds = 2.0 * weights * tokens / ((peak or _USUAL_PEAK) * REACHED)
    return COMPILE_SAVES * seconds > COMPILE_SECONDS


def matmul_peak(dtype: torch.dtype, hidden: int, device: torch.device | str = "cpu") -> float:
    """FLOP/s of a (2048, h) by (h, 4h) product in this dtype, the best of as many as fit into a third of a second."""
    device = torch.device(device)
    a = torch.randn(_ROWS, hidden, device=device).to(dtype)
    b = torch.randn(hidden, 4 * hidden, device=device).to(dtype)
    best, end = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2.0 * _ROWS * hidden * 4 * hidden / best
