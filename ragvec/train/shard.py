"""Fully sharded training: each process holds its share of weights, gradients and optimizer state (torch's FSDP2).

The Trainer's checkpoints stay what they are, one file each, whole: shares are gathered before the first process writes, and
spread again on resuming.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ragvec.errors import WrongUsage
from ragvec.train import ranks


def shard(objective: nn.Module, backbone: nn.Module) -> None:
    """Shard a model over the processes, layer by layer, in place. Raises RagvecError if it has no list of layers."""
    layers = next((part for part in backbone.modules() if isinstance(part, nn.ModuleList) and len(part)), None)
    if layers is None:
        raise WrongUsage(f"fsdp: {type(backbone).__name__} has no list of layers to shard: leave fsdp out")
    for layer in layers:
        fully_shard(layer)
    fully_shard(objective, reshard_after_forward=False)


def gather(model: nn.Module) -> None:
    """Give every process the whole weights again, as plain parameters; the model is not trained any more afterwards."""
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
    plain: dict[int, nn.Parameter] = {}  # a tied weight stays tied
    for part in model.modules():
        for name, weight in part.named_parameters(recurse=False):
            if isinstance(weight, DTensor):
                if id(weight) not in plain:
                    plain[id(weight)] = nn.Parameter(weight.full_tensor().detach(), requires_grad=weight.requires_grad)
                setattr(part, name, plain[id(weight)])


def whole(value: Any) -> Any:
    """A sharded tensor gathered on every process; all of them must call this together."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def whole_state(value: Any) -> Any:
    """A state dict with its shares gathered in the first process' memory, which writes it; all must call this together.

    The others have empty tensors in their place, and no GPU is left holding what it was sharded for not to hold.
    """
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if ranks.is_main_process() else full.new_empty(0, device="cpu")
    if isinstance(value, dict):
        return {name: whole_state(one) for name, one in value.items()}
    return [whole_state(one) for one in value] if isinstance(value, list) else value


def share_like(value: Tensor, weight: Tensor) -> Tensor:
    """This process' share of a whole tensor, cut as a weight is; as it is if the weight is not sharded."""
    if not isinstance(weight, DTensor) or isinstance(value, DTensor):
        return value
    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)


class WholeOptimizerState:
    """Makes an optimizer's state_dict whole, as last gathered, and its load_state_dict shard it again."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._gathered: dict[str, Any] | None = None
        optimizer.register_state_dict_post_hook(self._give)
        optimizer.register_load_state_dict_post_hook(self._shard)

    def gather(self) -> None:
        """To be called by all processes together, before one of them asks for the state."""
        self._gathered = None
        self._gathered = whole_state(self._optimizer.state_dict())

    def let_go(self) -> None:
        """Forget what was gathered, once it is written."""
        self._gathered = None

    def _give(self, _: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        return state if self._gathered is None else self._gathered

    def _shard(self, _: torch.optim.Optimizer) -> None:
        for weight, state in self._optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    state[name] = share_like(value, weight)
