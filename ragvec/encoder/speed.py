"""How much work texts are for a model, and how much the machine can do: the share of its peak that encoding reaches."""

import time

import numpy as np
import torch

from ragvec.encoder.int8 import int8_weights

# Dense half-precision tensor-core peaks of data sheets, FLOP/s; the longest name that fits counts.
_DATA_SHEETS = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "GH200": 989e12, "A100": 312e12, "L40S": 362e12,
    "L4": 121e12, "A10": 125e12, "RTX 4090": 165e12, "RTX 3090": 71e12, "V100": 125e12, "T4": 65e12,
}  # fmt: skip
_ROWS = 2048
_SECONDS = 0.3


class Speed:
    """An encoder's work per text, and the peak of where it runs."""

    def __init__(self, encoder) -> None:
        """Measures the peak where no data sheet names it: a third of a second."""
        config = encoder.model.config.get_text_config()
        heads = config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // heads
        self._attention = 4.0 * config.num_hidden_layers * heads * head
        weights = sum(p.numel() for name, p in encoder.model.named_parameters() if "embed" not in name)
        self._weights = 2.0 * (weights + int8_weights(encoder.model))
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
    name = torch.cuda.get_device_name(device)
    fitting = [known for known in _DATA_SHEETS if known in name]
    return _DATA_SHEETS[max(fitting, key=len)] if fitting else None


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
