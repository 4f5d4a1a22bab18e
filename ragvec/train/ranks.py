"""The processes of a run (torchrun, accelerate launch, SLURM): who is who, and what all of them hold together.

With one process everything here is the identity.
"""

from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from ragvec.encoder.weights import choose_device, named_device
from ragvec.errors import WrongUsage


def start_ranks(device: str | None, patience: timedelta | None = None) -> torch.device:
    """Join the other processes of this run, if a launcher started several; returns the device of this one.

    device    as a recipe names it; None = the best here. With a launcher each process has the GPU of its local rank, and
              touches no other.
    patience  how long processes wait for one another before they give up; None = torch's own limit
    Raises WrongInput for a device that is not there, or that is named for processes which have each their own.
    """
    from accelerate import PartialState

    named = named_device(device)
    limit: dict[str, Any] = {} if patience is None else {"timeout": patience}
    state = PartialState(cpu=named.type == "cpu", **limit)
    if not _launched():
        return choose_device(device)
    own: torch.device = state.device
    if named.index is not None:
        raise WrongUsage(
            f"device {device!r} names one device, but the launcher gives each process its own (this one {own}): "
            f'write "{named.type}", or leave device out'
        )
    return own


def _launched() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _launched() else 1


def rank() -> int:
    """The number of this process."""
    return distributed.get_rank() if world() > 1 else 0


def is_main_process() -> bool:
    """Whether this is the process that reports and writes: number 0."""
    return rank() == 0


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
    sizes = torch.cat(counts).tolist()
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in range(world())]
    distributed.all_gather(parts, padded)
    own = [part[:size] for part, size in zip(parts, sizes, strict=True)]
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
    everyone = torch.full((), count, dtype=torch.float32, device=loss.device)  # counted on the device: nobody waits for it
    distributed.all_reduce(everyone)
    return loss * (count * world() / everyone.clamp(min=1))


def _collective_device() -> torch.device | None:
    return torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else None
