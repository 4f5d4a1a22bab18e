"""From token states to one vector per text."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ragvec.encoder.device import device_of
from ragvec.errors import WrongUsage

POOLINGS = (
    "mean", "weighted_mean", "eos_token", "last_token", "bos_token", "first_token", "position_mean", "mean_sqrt_len", "max",
)  # fmt: skip
JOINED_BY = "+"  # "bos_token+mean" is the one vector after the other


class Positions(NamedTuple):
    """Each text's one position that is pooled, (n,)."""

    positions: Tensor

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Positions":
        """These positions where `move` brings them, such as onto another device."""
        return Positions(move(self.positions))

    def take(self, hidden: Tensor) -> Tensor:
        """Vectors (n, dim) float32 of states (tokens, dim)."""
        return hidden[self.positions].float()


class Shares(NamedTuple):
    """Every token's weight (tokens,) and each text's length (n,)."""

    weights: Tensor
    sizes: Tensor

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Shares":
        """These weights and lengths where `move` brings them, such as onto another device."""
        return Shares(move(self.weights), move(self.sizes))

    def take(self, hidden: Tensor) -> Tensor:
        """Vectors (n, dim) float32 of states (tokens, dim)."""
        weighted = hidden.float() * self.weights[:, None]
        return torch.segment_reduce(weighted, "sum", lengths=self.sizes, axis=0, unsafe=True)


class Peaks(NamedTuple):
    """Which tokens count, (tokens,) bool, and each text's length (n,): of each coordinate the largest value."""

    counted: Tensor
    sizes: Tensor

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Peaks":
        """These marks and lengths where `move` brings them, such as onto another device."""
        return Peaks(move(self.counted), move(self.sizes))

    def take(self, hidden: Tensor) -> Tensor:
        """Vectors (n, dim) float32 of states (tokens, dim)."""
        kept = hidden.float().masked_fill(~self.counted[:, None], float("-inf"))
        return torch.segment_reduce(kept, "max", lengths=self.sizes, axis=0, unsafe=True)


class Several(NamedTuple):
    """Several poolings, whose vectors are joined."""

    parts: tuple[Positions | Shares | Peaks, ...]

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Several":
        """These where `move` brings them, such as onto another device."""
        return Several(tuple(part.moved(move) for part in self.parts))

    def take(self, hidden: Tensor) -> Tensor:
        """Vectors (n, poolings × dim) float32 of states (tokens, dim)."""
        return torch.cat([part.take(hidden) for part in self.parts], dim=1)


Places = Positions | Shares | Peaks | Several


def check_pooling(pooling: str) -> None:
    """Raises WrongInput unless this is a pooling, or several joined by "+"."""
    if unknown := [one for one in pooling.split(JOINED_BY) if one not in POOLINGS]:
        raise WrongUsage(f"unknown pooling {unknown[0]!r}: choose one of {', '.join(POOLINGS)}, or several joined by +")


def poolings_of(pooling: str) -> int:
    """How many vectors of the model's width a pooling joins."""
    return len(pooling.split(JOINED_BY))


def pool(hidden: Tensor, lengths: Sequence[int], pool_starts: Sequence[int], pooling: str) -> Tensor:
    """Reduce the hidden states of texts lying end to end to one vector each.

    hidden       (tokens, dim), any float dtype; tokens = sum of lengths
    lengths, pool_starts, pooling  as for places_of
    returns      (n, poolings × dim) float32
    Raises RagvecError for an unknown pooling.
    """
    return places_of(lengths, pool_starts, pooling).moved(device_of(hidden.device).send).take(hidden)


def places_of(lengths: Sequence[int], pool_starts: Sequence[int], pooling: str) -> Places:
    """What of texts lying end to end is pooled, on the host.

    lengths      tokens of each of n texts
    pool_starts  the first position within each text that counts: what comes before (beginning-of-sequence token,
                 instruction) is not pooled; a start at the text's end means nothing is left and all of it counts
    pooling      mean; weighted_mean (weights 1, 2, … over what counts, normalised); last_token and eos_token (the last
                 position; the prompt ends in eos in that mode); bos_token (the first position); first_token (the first that
                 counts); position_mean (as weighted_mean, each weight the token's place in the whole prompt);
                 mean_sqrt_len (the sum by the root of the number); max; or several joined by "+"
    Raises RagvecError for an unknown pooling.
    Source: LLM2Vec (BehnamGhader et al., 2024), section 2 and the reference's `get_pooling`; from first_token on those of
    sentence-transformers' Pooling that the reference lacks.
    """
    check_pooling(pooling)
    sizes = torch.tensor(lengths)
    starts = torch.tensor(pool_starts)
    parts = tuple(_places(sizes, torch.where(starts < sizes, starts, 0), one) for one in pooling.split(JOINED_BY))
    return parts[0] if len(parts) == 1 else Several(parts)


def _places(sizes: Tensor, starts: Tensor, pooling: str) -> Positions | Shares | Peaks:
    ends = sizes.cumsum(0)
    if pooling in ("eos_token", "last_token"):
        return Positions(ends - 1)
    if pooling == "bos_token":
        return Positions(ends - sizes)
    if pooling == "first_token":
        return Positions(ends - sizes + starts)
    weights = _weights(sizes, starts, pooling)
    return Peaks(weights > 0, sizes) if pooling == "max" else Shares(weights, sizes)


def _weights(sizes: Tensor, starts: Tensor, pooling: str) -> Tensor:
    """Each token's weight (tokens,) float32; but for mean_sqrt_len they sum to 1 within a text."""
    begins = sizes.cumsum(0) - sizes
    place = torch.arange(int(sizes.sum())) - begins.repeat_interleave(sizes) + 1
    rank = (place - starts.repeat_interleave(sizes)).clamp(min=0).float()
    counted = (sizes - starts).float()
    if pooling == "weighted_mean":
        return rank / (counted * (counted + 1) / 2).repeat_interleave(sizes)
    if pooling == "position_mean":
        total = (sizes * (sizes + 1) - starts * (starts + 1)).float() / 2
        return place * (rank > 0) / total.repeat_interleave(sizes)
    return (rank > 0) / (counted.sqrt() if pooling == "mean_sqrt_len" else counted).repeat_interleave(sizes)
