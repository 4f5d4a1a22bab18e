"""Bulk encoding in stages that run at the same time: read and tokenize, lay out, compute, take the vectors in.

A device is kept busy by queuing its batches ahead. A batch's vectors are normalised and copied right behind it, and waited
for only once several others are queued, or while the next is not laid out yet.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ragvec.corpus.ahead import Ahead
from ragvec.encoder.batching import plan_batches
from ragvec.encoder.budget import TokenBudget, is_out_of_memory
from ragvec.encoder.device import Arriving, Device
from ragvec.encoder.prompt import Prompts
from ragvec.errors import RagvecError

_AHEAD = 2  # items that wait between two stages


@dataclass(slots=True)
class _Block:
    """Texts that are sorted and measured together, and what has come of them."""

    prompts: Prompts
    trial: int | None
    vectors: np.ndarray
    missing: int  # rows without a vector
    begin: Any = None
    end: Any = None


class _Batch(NamedTuple):
    """Rows of a block that are computed together, laid out on the host; no rows for a block without texts."""

    block: _Block
    rows: list[int]
    laid: Any
    is_last: bool

    @property
    def tokens(self) -> int:
        return sum(len(self.block.prompts.ids[row]) for row in self.rows)


class Pipeline:
    """The way from token ids to vectors on one device."""

    def __init__(
        self,
        device: Device,
        budget: TokenBudget,
        dimension: int,
        *,
        lay_out: Callable[[Prompts, list[int]], Any],
        compute: Callable[[Any], Any],
    ) -> None:
        """lay_out(prompts, rows): a batch on the host. compute(batch): its vectors, (rows, dimension), queued on the device."""
        self._device, self._budget, self._dimension = device, budget, dimension
        self._lay_out, self._compute = lay_out, compute

    def encode(self, prompts: Prompts) -> np.ndarray:
        """Vectors (n, dimension) float32 of one block, without further threads."""
        [(_, vectors)] = self._taken_in(self._batches([prompts]), ready=lambda: True)
        return vectors

    def stream(self, blocks: Iterable[Prompts]) -> Iterator[tuple[Prompts, np.ndarray]]:
        """Each block with its vectors, in order; `blocks` is read in a thread.

        An error comes after the blocks before its own. Raises RagvecError for a text that does not fit into the memory.
        """
        with Ahead(blocks, "tokenize", _AHEAD) as tokenized, Ahead(self._batches(tokenized), "lay out", _AHEAD) as batches:
            yield from self._taken_in(batches, batches.ready)

    def _batches(self, blocks: Iterable[Prompts]) -> Iterator[_Batch]:
        for prompts in blocks:
            lengths = [len(ids) for ids in prompts.ids]
            trial = self._budget.begin(sum(lengths)) if lengths else None
            block = _Block(prompts, trial, np.empty((len(lengths), self._dimension), np.float32), len(lengths))
            plan = plan_batches(lengths, self._budget.tokens)
            if not plan:
                yield _Batch(block, [], None, is_last=True)
            for number, rows in enumerate(plan, 1):
                yield _Batch(block, rows, self._lay_out(prompts, rows), is_last=number == len(plan))

    def _taken_in(self, batches: Iterator[_Batch], ready: Callable[[], bool]) -> Iterator[tuple[Prompts, np.ndarray]]:
        """Queue batches, and take their vectors in where that keeps the device waiting for nothing."""
        queued: deque[tuple[_Batch, Arriving | None]] = deque()
        error: BaseException | None = None
        while True:
            while queued and (error or len(queued) > self._device.depth or not ready()):
                block = self._take_in(*queued.popleft())
                if block is not None:
                    yield block.prompts, block.vectors
            if error:
                raise error
            try:
                batch = next(batches, None)
                if batch is None:
                    ready, error = (lambda: False), None
                    if not queued:
                        return
                    continue
                queued.extend(self._queued(batch))
            except Exception as raised:
                error = raised

    def _queued(self, batch: _Batch) -> Iterator[tuple[_Batch, Arriving | None]]:
        """Queue a batch, or, where it is too large for the memory, its halves."""
        if not batch.rows:
            yield batch, None
            return
        block = batch.block
        if block.trial is not None and block.begin is None:
            block.begin = self._device.mark()
        tokens = batch.tokens
        arriving = self._computed(batch) if tokens <= self._budget.limit or len(batch.rows) == 1 else None
        if arriving is not None:
            if block.trial is not None and batch.is_last:
                block.end = self._device.mark()
            yield batch, arriving
            return
        if len(batch.rows) == 1:
            raise RagvecError(f"a text of {tokens:,} tokens does not fit into the memory: lower `max_length`")
        if tokens <= self._budget.limit:
            self._budget.halve(tokens)
        middle = len(batch.rows) // 2
        for rows, is_last in ((batch.rows[:middle], False), (batch.rows[middle:], batch.is_last)):
            yield from self._queued(_Batch(block, rows, self._lay_out(block.prompts, rows), is_last))

    def _computed(self, batch: _Batch) -> Arriving | None:
        """A batch's vectors on their way; None if memory ran out, and then nothing of it is held any more."""
        try:
            return self._device.fetch(self._compute(batch.laid))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        self._device.free()
        return None

    def _take_in(self, batch: _Batch, arriving: Arriving | None) -> _Block | None:
        """Put a batch's vectors into its block; the block if it is complete."""
        block = batch.block
        if arriving is not None:
            block.vectors[batch.rows] = arriving.wait()
            block.missing -= len(batch.rows)
        if block.missing:
            return None
        if block.trial is not None:
            tokens = sum(map(len, block.prompts.ids))
            self._budget.record(block.trial, tokens, self._device.seconds(block.begin, block.end))
        return block
