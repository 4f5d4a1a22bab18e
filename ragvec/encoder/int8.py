"""Weights as 8-bit integers on the CPU: a scale for each output of a layer, and one for each token, found as it passes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ragvec.errors import RagvecError, WrongUsage

_LARGEST = 127
_LARGEST_UNFUSED = 64  # AVX2 adds two products in 16 bits, which hold 2 · 255 · 64 and no more: larger weights would saturate
_ZERO_POINT = 128  # of unsigned inputs: VNNI multiplies those by signed weights, and has no fast kernel for signed inputs
_LEAST_SCALE = 1e-12


def largest_weight() -> int:
    """The step of the largest weight of an output: 127 where the CPU adds products in 32 bits (VNNI, AMX), else 64."""
    has = torch.cpu.get_capabilities()
    return _LARGEST if any(has.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8")) else _LARGEST_UNFUSED


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, multiplied by 8-bit inputs into 32-bit sums (oneDNN: AVX2, VNNI, AMX)."""

    scales: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        """Take over a layer's weights, each output's rounded to as many steps of its largest as the CPU can multiply."""
        super().__init__()
        weight = linear.weight.detach().float()
        scales = (weight.abs().amax(dim=1) / largest_weight()).clamp_(min=_LEAST_SCALE)
        codes = (weight / scales[:, None]).round_().to(torch.int8)
        self.weights = weight.numel()
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())
        self._zeros = torch.zeros(len(scales), dtype=torch.long)
        self._packed = torch.ops.onednn.qlinear_prepack(codes, None)

    def forward(self, states: Tensor) -> Tensor:
        """Map states (…, inputs) to (…, outputs), in their dtype."""
        rows = states.reshape(-1, states.shape[-1])
        scales = (rows.abs().amax(dim=1, keepdim=True) / _LARGEST).clamp_(min=_LEAST_SCALE)
        codes = (rows / scales).round_().clamp_(-_LARGEST, _LARGEST)  # bfloat16 may round 127 up
        codes = codes.add_(_ZERO_POINT).to(torch.uint8)
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            codes, 1.0, _ZERO_POINT, self._packed, self.scales, self._zeros, None, 1.0, 0, states.dtype, "none", [], ""
        ).mul_(scales)
        if self.bias is not None:
            out += self.bias
        return out.view(*states.shape[:-1], -1)


def check_int8(device: torch.device, torch_compile: bool) -> None:
    """Raises RagvecError where int8 weights have no kernels, or torch.compile can't do with theirs."""
    if torch_compile:
        raise WrongUsage("layers with int8 weights can't be compiled: choose one of the two")
    if device.type != "cpu":
        raise WrongUsage(f"int8 weights run on the CPU, not on {device.type}: choose bfloat16, or `device` cpu")
    if not hasattr(torch.ops.onednn, "qlinear_prepack"):
        raise RagvecError("this build of torch has no int8 kernels for the CPU: choose float32 or bfloat16")


def use_int8_weights(model: nn.Module) -> None:
    """Replace every linear layer of a model, in place."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, Int8Linear(child))


def int8_weights(model: nn.Module) -> int:
    """How many of a model's weights are int8."""
    return sum(module.weights for module in model.modules() if isinstance(module, Int8Linear))


def sample_texts() -> Sequence[str]:
    """What the loss by int8 weights is measured on: texts of the sample corpus, English and Korean."""
    from ragvec.corpus import read_documents
    from ragvec.data import data_path

    return [document.text for document in read_documents(data_path("corpus.jsonl"))][::3]


def cosines(exact: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The cosines of vectors (n, d) of length 1 with others of the same texts: their mean, and the least."""
    found = (exact * other).sum(axis=1)
    return float(found.mean()), float(found.min())
