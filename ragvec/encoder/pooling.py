"""From token states to one vector per text."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ragvec.encoder.device import device_of
from ragvec.errors import WrongInput

POOLINGS = ("mean", "weighted_mean", "eos_token", "last_token", "bos_token")


class Positions(NamedTuple):
    """Each text's one position that is pooled, (n,)."""

    positions: Tensor

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Positions":
        """These positions where `move` brings them, such as onto another device."""
        return Positions(move(self.positions))


class Shares(NamedTuple):
    """Every token's weight (tokens,) and each text's length (n,)."""

    weights: Tensor
    sizes: Tensor

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Shares":
        """These weights and lengths where `move` brings them, such as onto another device."""
        return Shares(move(self.weights), move(self.sizes))


Places = Positions | Shares


def pool(hidden: Tensor, lengths: Sequence[int], pool_starts: Sequence[int], pooling: str) -> Tensor:
    """Reduce the hidden states of texts lying end to end to one vector each.

    hidden       (tokens, dim), any float dtype; tokens = sum of lengths
    lengths, pool_starts, pooling  as for places_of
    returns      (n, dim) float32
    Raises RagvecError for an unknown pooling.
    """
    return pool_places(hidden, places_of(lengths, pool_starts, pooling).moved(device_of(hidden.device).send))


def places_of(lengths: Sequence[int], pool_starts: Sequence[int], pooling: str) -> Places:
    """What of texts lying end to end is pooled, on the host.

    lengths      tokens of each of n texts
    pool_starts  the first position within each text that counts: what comes before (beginning-of-sequence token,
                 instruction) is not pooled; a start at the text's end means nothing is left and all of it counts
    pooling      mean; weighted_mean (weights 1, 2, … over what counts, normalised); last_token and eos_token (the last
                 position; the prompt ends in eos in that mode); bos_token (the first position)
    Raises RagvecError for an unknown pooling.
    Source: LLM2Vec (BehnamGhader et al., 2024), section 2 and the reference's `get_pooling`.
    """
    if pooling not in POOLINGS:
        raise WrongInput(f"unknown pooling {pooling!r}: choose one of {', '.join(POOLINGS)}")
    sizes = torch.tensor(lengths)
    ends = sizes.cumsum(0)
    if pooling in ("eos_token", "last_token"):
        return Positions(ends - 1)
    if pooling == "bos_token":
        return Positions(ends - sizes)
    return Shares(_weights(sizes, torch.tensor(pool_starts), pooling), sizes)


def pool_places(hidden: Tensor, places: Places) -> Tensor:
    """Vectors (n, dim) float32 of states (tokens, dim), by places on the same device."""
    if isinstance(places, Positions):
        return hidden[places.positions].float()
    weighted = hidden.float() * places.weights[:, None]
    return torch.segment_reduce(weighted, "sum", lengths=places.sizes, axis=0, unsafe=True)


def _weights(sizes: Tensor, starts: Tensor, pooling: str) -> Tensor:
    """Each token's weight (tokens,) float32; they sum to 1 within a text."""
    starts = torch.where(starts < sizes, starts, 0)
    first = (sizes.cumsum(0) - sizes + starts).repeat_interleave(sizes)
    rank = (torch.arange(int(sizes.sum())) - first + 1).clamp(min=0).float()
    counted = (sizes - starts).float()
    if pooling == "mean":
        return (rank > 0) / counted.repeat_interleave(sizes)
    return rank / (counted * (counted + 1) / 2).repeat_interleave(sizes)
