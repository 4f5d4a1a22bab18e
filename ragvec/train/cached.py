"""Cached gradients (GradCache, Gao et al. 2021): a batch of any size computed run by run, and each run anew on the way back."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint


def in_runs(compute: Callable[[slice], Tensor], runs: Sequence[slice], model: nn.Module) -> Tensor:
    """What `compute` makes of each run, joined; activations of one run exist at once, and gradients are those of the whole.

    compute  makes rows of a run with the model's weights; its random numbers (dropout) fall alike on the way back

    A batch of four texts in two runs, one weight w = 2, vectors v_i = w x_i of x = [1, 2 | 3, 4]. On the way there each run is
    computed without a graph: v = [2, 4 | 6, 8], and its activations are freed. The loss of the whole batch, say the sum of v_i²
    / 2, gives dloss/dv = [2, 4 | 6, 8]: four numbers that hold all that the runs owe to each other. On the way back run 1 is
    computed again, now with a graph, and v's gradients [2, 4] are pushed through it: dw = 2·1 + 4·2 = 10; its graph is freed,
    then run 2 gives 6·3 + 8·4 = 50. Their sum, 60, is the gradient of the whole batch (w Σ x_i² = 2·30), at twice the forward
    work and the activations of one run.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if any(isinstance(weight, DTensor) for weight in weights):  # sharded: FSDP's hooks want one graph
        return torch.cat([checkpoint(compute, run, use_reentrant=False) for run in runs])
    rows: Tensor = _InRuns.apply(compute, runs, *weights)  # type: ignore[no-untyped-call]
    return rows


class _InRuns(torch.autograd.Function):
    """One node of the graph for all runs: a checkpoint for each would keep the nodes, though not the tensors, of its graph.

    The weights are inputs and get their gradients once, summed, so that DDP may average them.
    """

    @staticmethod
    def forward(ctx: Any, compute: Callable[[slice], Tensor], runs: Sequence[slice], *weights: Tensor) -> Tensor:
        kind = weights[0].device.type
        ctx.compute, ctx.runs, ctx.weights = compute, runs, weights
        ctx.autocast = {
            "device_type": kind,
            "enabled": torch.is_autocast_enabled(kind),
            "dtype": torch.get_autocast_dtype(kind),
        }
        ctx.random, parts = [], []
        for run in runs:
            ctx.random.append(_random_state(weights[0].device))
            parts.append(compute(run))
        ctx.sizes = [len(part) for part in parts]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        sums: list[Tensor | None] = [None] * len(ctx.weights)
        device = ctx.weights[0].device
        after = _random_state(device)
        for run, state, part_grad in zip(ctx.runs, ctx.random, grad.split(ctx.sizes), strict=True):
            _set_random_state(device, state)
            with torch.enable_grad(), torch.autocast(**ctx.autocast):
                part = ctx.compute(run)
            grads = torch.autograd.grad(part, ctx.weights, part_grad, allow_unused=True)
            sums = [_sum(before, one) for before, one in zip(sums, grads, strict=True)]
        _set_random_state(device, after)
        return None, None, *sums


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return one if other is None else other
    return one + other


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
