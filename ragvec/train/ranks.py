"""The processes of a run (torchrun, accelerate launch, SLURM): who is who, and what all of them hold together.

With one process everything here is the identity.
"""

import torch
from torch import Tensor, distributed

from ragvec.encoder.weights import choose_device, named_device
from ragvec.errors import WrongInput


def start_ranks(device: str | None) -> torch.device:
    """Join the other processes of this run, if a launcher started several; returns the device of this one.

    device  as a recipe names it; None = the best here. With a launcher each process has the GPU of its local rank, and
            touches no other.
    Raises WrongInput for a device that is not there, or that is named for processes which have each their own.
    """
    from accelerate import PartialState

    named = named_device(device)
    state = PartialState(cpu=named.type == "cpu")
    if not _launched():
        return choose_device(device)
    if named.index is not None:
        raise WrongInput(
            f"device {device!r} names one device, but the launcher gives each process its own (this one {state.device}): "
            f'write "{named.type}", or leave device out'
        )
    return state.device


def _launched() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _launched() else 1


def rank() -> int:
    """The number of this process; 0 is the one that reports and writes."""
    return distributed.get_rank() if world() > 1 else 0


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world() > 1:
        distributed.barrier()


def total(number: float) -> float:
    """The sum of a number over all processes."""
    if world() == 1:
        return number
    value = torch.tensor(float(number), dtype=torch.float64, device=_collective_device())
    distributed.all_reduce(value)
    return value.item()


def gather_rows(rows: Tensor) -> Tensor:
    """The rows (n, …) of every process one after another, (sum of n, …). Gradients flow into this process' own alone.

    Without gradients (evaluation) nothing is gathered: each process then works for itself.
    """
    if world() == 1 or not torch.is_grad_enabled():
        return rows
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(world())]
    distributed.all_gather(counts, count)
    padded = rows.new_zeros((max(int(one) for one in counts), *rows.shape[1:]))
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in range(world())]
    distributed.all_gather(parts, padded)
    own = [part[: int(one)] for part, one in zip(parts, counts, strict=True)]
    own[rank()] = rows
    return torch.cat(own)


def joined(loss: Tensor) -> Tensor:
    """A loss that every process computed over gathered rows, so that gradients add up to those of one process.

    Each process' gradient is of its own rows alone, and DDP will average where it should add: the gradient is multiplied by the
    number of processes, the value is left as it is.
    """
    count = world() if torch.is_grad_enabled() else 1
    return loss if count == 1 else loss * count - (loss * (count - 1)).detach()


def weighted(loss: Tensor, count: int) -> Tensor:
    """A mean over `count` parts of this process, weighed so that the mean over processes is the mean over all parts."""
    if world() == 1 or not torch.is_grad_enabled():
        return loss
    return loss * (count * world() / max(total(count), 1))


def _collective_device() -> torch.device | None:
    return torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else None
