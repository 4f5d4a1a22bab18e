"""Which examples form a batch, epoch by epoch: shuffled, of one data set each if asked, by number or by tokens."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from ragvec.errors import RagvecError


class Batches:
    """A data set whose entries are whole batches; the same seed, epoch and number always give the same batch.

    Every epoch has the same number of batches, a multiple of the accumulation steps: what is left over comes another time,
    since each epoch is shuffled anew. With several processes batches come in runs of as many, one for each process, whose
    examples are of one group: together they are the batch that one process with a larger batch size would have had.
    """

    def __init__(self, build: Callable[[list[int], torch.Generator], Any], lengths: Sequence[int] | np.ndarray, *,
                 groups: Iterable[Any],
                 batch_size: int, batch_tokens: int | None, accumulation: int, seed: int, world: int = 1,
                 every: bool = False) -> None:  # fmt: skip
        """Plan the batches of epoch 0.

        build         makes a batch from example numbers and a random generator of its own
        lengths       tokens of each example; groups: examples of different groups never share a batch
        batch_size    examples in a batch, unless batch_tokens (a budget) decides
        accumulation  batches per optimiser step of each process; world: processes
        every         every example is in a batch, as an evaluation wants it; a group's are spread evenly, since a last batch of
                      few would hold few negatives. Where one is alone all the same (its group's only one) it holds none
        Raises RagvecError if not every process gets an example.
        """
        self._build, self._seed = build, seed
        self._lengths = np.asarray(lengths)
        self._groups = _members(groups)
        self._batch_size, self._batch_tokens, self._world, self._every = batch_size, batch_tokens, world, every
        first_epoch, step = sum(1 for _ in self._shuffle(0, 0)), accumulation * world
        if not first_epoch:
            raise RagvecError(f"{len(self._lengths)} examples are too few for {world} processes: start fewer")
        self._count = max(first_epoch // step * step, min(first_epoch, step))
        self.set_epoch(0)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Any:
        seed = int(np.random.SeedSequence((self._seed, self._epoch, number)).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        return self._build(self._batches[number], generator)

    @property
    def joint_rows(self) -> list[list[int]]:
        """The example numbers of what is computed together in this epoch: a batch of each process."""
        batches, world = self._batches, self._world
        return [sum(batches[first : first + world], []) for first in range(0, len(batches), world)]

    def set_epoch(self, epoch: int) -> None:
        """Shuffle for another epoch; the Trainer calls it."""
        self._epoch = epoch
        self._batches = list(islice(self._endless(epoch), self._count))

    def _endless(self, epoch: int) -> Iterator[list[int]]:
        """Shuffles of the whole set, one after another: with a token budget an epoch may come out a batch short."""
        round_ = 0
        while True:
            yield from self._shuffle(epoch, round_)
            round_ += 1

    def _shuffle(self, epoch: int, round_: int) -> Iterator[list[int]]:
        random = np.random.default_rng((self._seed, epoch, round_))
        runs = [run for members in self._groups for run in self._cut(random.permutation(members))]
        for place in random.permutation(len(runs)):
            for batch in runs[place]:
                yield batch.tolist()

    def _cut(self, members: np.ndarray) -> list[list[np.ndarray]]:
        """A group's shuffled examples as runs of batches; an incomplete last one is left out unless it is the only one, or
        every example is wanted."""
        if self._batch_tokens is None:
            edges = list(range(self._batch_size, len(members) + 1, self._batch_size))
        else:
            edges = _token_edges(self._lengths[members], self._batch_tokens)
        *batches, rest = np.split(members, edges)
        if self._every:
            return [[batch] for batch in np.array_split(members, len(batches) + bool(len(rest)))]
        world = self._world
        runs = [batches[first : first + world] for first in range(0, len(batches) - world + 1, world)]
        if runs or len(members) < world:
            return runs
        return [np.array_split(members, world)]


def _members(groups: Iterable[Any]) -> list[np.ndarray]:
    """The example numbers of each group, groups in order of their first example."""
    rows_by_source: dict[Any, list[int]] = {}
    for number, group in enumerate(groups):
        rows_by_source.setdefault(group, []).append(number)
    return [np.array(numbers) for numbers in rows_by_source.values()]


def _token_edges(lengths: np.ndarray, budget: int) -> list[int]:
    """Where to cut so that no batch passes the budget; an example longer than it stands alone."""
    edges, room = [], budget
    for place, length in enumerate(lengths.tolist()):
        if length > room and room < budget:
            edges.append(place)
            room = budget
        room -= length
    return edges
