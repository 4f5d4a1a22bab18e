"""Cached gradients (GradCache, Gao et al. 2021): a batch of any size computed run by run, and each run anew on the way back."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint


def in_runs(compute: Callable[[slice], Tensor], runs: Sequence[slice], model: nn.Module) -> Tensor:
    """What `compute` makes of each run, joined; activations of one run exist at once, and gradients are those of the whole.

    compute  makes rows of a run with the model's weights; its random numbers (dropout) fall alike on the way back
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if any(isinstance(weight, DTensor) for weight in weights):  # sharded: FSDP's hooks want one graph
        return torch.cat([checkpoint(compute, run, use_reentrant=False) for run in runs])
    return _InRuns.apply(compute, runs, *weights)


class _InRuns(torch.autograd.Function):
    """One node of the graph for all runs: a checkpoint for each would keep the nodes, though not the tensors, of its graph.

    The weights are inputs and get their gradients once, summed, so that DDP may average them.
    """

    @staticmethod
    def forward(ctx, compute: Callable[[slice], Tensor], runs: Sequence[slice], *weights: Tensor) -> Tensor:
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
    def backward(ctx, grad: Tensor):
        sums: list[Tensor | None] = [None] * len(ctx.weights)
        device = ctx.weights[0].device
        after = _random_state(device)
        for run, state, part_grad in zip(ctx.runs, ctx.random, grad.split(ctx.sizes), strict=True):
            _set_random_state(device, state)
            with torch.enable_grad(), torch.autocast(**ctx.autocast):
                part = ctx.compute(run)
            found = torch.autograd.grad(part, ctx.weights, part_grad, allow_unused=True)
            for number, one in enumerate(found):
                if one is not None:
                    sums[number] = one if sums[number] is None else sums[number] + one
        _set_random_state(device, after)
        return None, None, *sums


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
