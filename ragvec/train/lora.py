"""LoRA layers that learn fast on CPUs: the same product as peft's, in fewer passes over memory.

peft's layer is W x + s·B A dropout(x), operation by operation, each of them a pass over memory, there and back. Here the
second term is added onto W x where that lies, and so are the two parts of x's gradient. Dropout draws the few places that
are dropped rather than a random number for every element. Weights, their names and what is saved stay peft's.
"""

import math
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def quicken(adapter: nn.Module) -> None:
    """Let a model's plain LoRA layers multiply so: those of linear layers, not of quantised or transposed ones."""
    from peft.tuners.lora import Linear

    for layer in adapter.modules():
        if type(layer) is Linear and type(layer.base_layer) is nn.Linear:
            layer.forward = MethodType(_forward, layer)


def _forward(layer: Any, x: Tensor) -> Tensor:
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(names) != 1 or layer.disable_adapters or layer.merged or layer.lora_variant or layer.lora_bias[names[0]]:
        return type(layer).forward(layer, x)  # type: ignore[no-any-return]
    (name,) = names
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    dropout, scale, dropped = layer.lora_dropout[name], layer.scaling[name], None
    if layer.training and isinstance(dropout, nn.Dropout) and 0 < dropout.p < 1:
        dropped, scale = draw_dropped(x.numel(), dropout.p), scale / (1 - dropout.p)
    base, down, up = layer.base_layer, layer.lora_A[name].weight, layer.lora_B[name].weight
    out: Tensor = _LowRank.apply(x, base.weight, base.bias, down, up, dropped, scale)  # type: ignore[no-untyped-call]
    return out


def draw_dropped(count: int, chance: float) -> Tensor:
    """Which of so many elements are dropped, some named twice: each with this chance, independently of the others.

    Places drawn with replacement, as many as a Poisson number says, hit every element a Poisson number of times, and those
    numbers are independent: with a mean of −log(1 − chance) each, none with the chance of staying.
    """
    mean = torch.tensor(-count * math.log1p(-chance), dtype=torch.float64)
    return torch.randint(count, (int(torch.poisson(mean)),))


class _LowRank(torch.autograd.Function):
    """W x + b + s·B A x' for rows x, where x' is x without the dropped elements; W and b get no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, dropped: Tensor | None, scale: float
    ) -> Tensor:
        rows, weight, bias = x.flatten(0, -2), weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
        inner = _without(rows, dropped) @ down.to(x.dtype).T
        ctx.save_for_backward(x, weight, down, up, dropped, inner)
        ctx.scale = scale
        out = functional.linear(rows, weight, bias).addmm_(inner, up.to(x.dtype).T, alpha=scale)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up, dropped, inner = ctx.saved_tensors
        rows, grad = x.flatten(0, -2), grad.flatten(0, -2)
        inner_grad = (grad @ up.to(x.dtype)).mul_(ctx.scale)
        up_grad = (grad.T @ inner).mul_(ctx.scale).to(up.dtype)
        down_grad = (inner_grad.T @ _without(rows, dropped)).to(down.dtype)
        x_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = inner_grad @ down.to(x.dtype)
            if dropped is not None:
                x_grad.view(-1).index_fill_(0, dropped, 0)
            x_grad = x_grad.addmm_(grad, weight).view(x.shape)
        return x_grad, None, None, down_grad, up_grad, None, None


def _without(rows: Tensor, dropped: Tensor | None) -> Tensor:
    return rows if dropped is None else rows.flatten().index_fill(0, dropped, 0).view(rows.shape)
