"""Where an encoder computes, as far as bulk work must know it: how numbers get there and back without anyone waiting.

`Host` is a CPU (or Apple's GPU), where every call returns once its work is done; `Cuda` queues work and returns at once.
Whatever has these six methods can stand in their place, as the simulated device of the tests does.
"""

import time
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor


class Arriving(Protocol):
    """Vectors on their way to the host."""

    def wait(self) -> np.ndarray:
        """The vectors, (n, dim) float32, once they are there."""


class Device(Protocol):
    """What the stages of `ragvec.encoder.pipeline` ask of a device."""

    depth: int  # batches that are queued before the vectors of the oldest are waited for

    def stage(self, numbers: Tensor) -> Tensor:
        """A host's tensor where the device can read it by itself."""

    def send(self, numbers: Tensor) -> Tensor:
        """A host's tensor, on the device once the work that is queued before has been done."""

    def fetch(self, vectors: Tensor) -> Arriving:
        """Queue the copy of vectors to the host."""

    def mark(self) -> Any:
        """A moment in the device's work: behind all that is queued now."""

    def seconds(self, begin: Any, end: Any) -> float:
        """The time between two moments, both of them past."""

    def free(self) -> None:
        """Give back memory that is held and not used."""


class Arrived(NamedTuple):
    """Vectors that are there."""

    vectors: np.ndarray

    def wait(self) -> np.ndarray:
        return self.vectors


class Host:
    """A device whose calls return when they are done."""

    depth = 0

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def stage(self, numbers: Tensor) -> Tensor:
        return numbers

    def send(self, numbers: Tensor) -> Tensor:
        return numbers.to(self._device)

    def fetch(self, vectors: Tensor) -> Arrived:
        return Arrived(vectors.cpu().numpy())

    def mark(self) -> float:
        return time.perf_counter()

    def seconds(self, begin: float, end: float) -> float:
        return end - begin

    def free(self) -> None:
        pass


class CudaArriving(NamedTuple):
    """Vectors in pinned memory once the event has passed."""

    vectors: Tensor
    event: torch.cuda.Event

    def wait(self) -> np.ndarray:
        self.event.synchronize()
        return self.vectors.numpy()


class Cuda:
    """A GPU's queue. Copies go through pinned memory: any other copy would wait for all that is queued."""

    depth = 4

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def stage(self, numbers: Tensor) -> Tensor:
        return numbers if numbers.is_pinned() else numbers.pin_memory()

    def send(self, numbers: Tensor) -> Tensor:
        return self.stage(numbers).to(self._device, non_blocking=True)

    def fetch(self, vectors: Tensor) -> CudaArriving:
        there = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        there.copy_(vectors, non_blocking=True)
        return CudaArriving(there, self._event(timed=False))

    def mark(self) -> torch.cuda.Event:
        return self._event(timed=True)

    def seconds(self, begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        end.synchronize()
        milliseconds: float = begin.elapsed_time(end)
        return milliseconds / 1000

    def free(self) -> None:
        torch.cuda.empty_cache()

    def _event(self, *, timed: bool) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=timed, blocking=True)  # whoever waits for it sleeps
        event.record(torch.cuda.current_stream(self._device))
        return event


def device_of(device: torch.device) -> Device:
    """The way to a torch device and back."""
    return Cuda(device) if device.type == "cuda" else Host(device)
