"""Passages through the encoder, block by block; what fails is found, named and left out, and the rest goes on."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ragvec.errors import RagvecError, first_line
from ragvec.records import Passage
from ragvec.shards import Failure, Provenance, Stored, store

BLOCK_ROWS = 4096
_BLOCK_BATCHES = 8  # a block makes about so many batches: enough to sort by length, few enough for a bar that moves
_CHARACTERS_PER_TOKEN = 4
_BATCH_TOKENS = 4096  # of an encoder that doesn't say
MOST_FAILURES = 32  # so many passages in a row fail because of the encoder or the machine, not because of the passages
# What one text can cause. TypeError and the like are our own mistakes and stop the run.
_FAILURES = (RuntimeError, ValueError, IndexError, MemoryError, RagvecError)


class Encodes(Protocol):
    """What bulk encoding asks of an encoder; `ragvec.Encoder` has it.

    One that also has `encode_blocks(blocks, instruction=…, normalize=…)` is given blocks of texts as a stream, so that it can
    prepare the next while it computes this one.
    """

    @property
    def dimension(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def source(self) -> str: ...

    def encode_counted(self, texts: Sequence[str], *, instruction: str, normalize: bool = True) -> Any:
        """Vectors (n, d) float32, token_counts (n,) and truncated (n,), as a tuple with these names."""


class Block(NamedTuple):
    """Passages that were encoded together: their rows, vectors (n, d) float32 and as stored, counts; and those that failed."""

    rows: list[int]
    vectors: np.ndarray
    stored: Stored
    token_counts: np.ndarray
    truncated: np.ndarray
    failed: list[tuple[int, Failure]]


class BlockEncoder:
    """Encodes passages as one manifest says, and stops the run where it is not the passages that are at fault."""

    def __init__(self, encoder: Encodes, provenance: Provenance) -> None:
        self._encoder = encoder
        self._provenance = provenance
        self._failing = 0  # failures since the last success

    def encode(self, passages: Sequence[Passage], rows: Sequence[int]) -> Iterator[Block]:
        """Encode these rows of passages. Raises RagvecError if MOST_FAILURES in a row fail."""
        blocks = deque(self._cut(passages, rows))
        while blocks:
            stream = self._stream(passages, list(blocks))
            while blocks:
                try:
                    encoded = next(stream)
                except _FAILURES:
                    break
                yield self._checked(passages, blocks.popleft(), encoded)
            if blocks:
                yield from self._halves(passages, blocks.popleft())

    def _cut(self, passages: Sequence[Passage], rows: Sequence[int]) -> Iterator[list[int]]:
        most = getattr(self._encoder, "batch_tokens", _BATCH_TOKENS) * _CHARACTERS_PER_TOKEN * _BLOCK_BATCHES
        block: list[int] = []
        characters = 0
        for row in rows:
            block.append(row)
            characters += len(passages[row].text)
            if len(block) == BLOCK_ROWS or characters >= most:
                yield block
                block, characters = [], 0
        if block:
            yield block

    def _stream(self, passages: Sequence[Passage], blocks: Iterable[list[int]]) -> Iterator[Any]:
        texts = ([passages[row].encoded_text for row in rows] for rows in blocks)
        options = {"instruction": self._provenance.instruction, "normalize": self._provenance.normalized}
        if hasattr(self._encoder, "encode_blocks"):
            return self._encoder.encode_blocks(texts, **options)
        return (self._encoder.encode_counted(block, **options) for block in texts)

    def _halves(self, passages: Sequence[Passage], rows: list[int]) -> Iterator[Block]:
        """Encode a block that failed by itself, then in halves, down to the passages that fail alone."""
        try:
            encoded = next(self._stream(passages, [rows]))
        except _FAILURES as error:
            reason = first_line(error)
        else:
            yield self._checked(passages, rows, encoded)
            return
        if len(rows) == 1:
            yield self._block([], None, [(rows[0], self._failure(passages[rows[0]], reason))])
            self._count_failures(1, None, passages[rows[0]], reason)
            return
        middle = len(rows) // 2
        yield from self._halves(passages, rows[:middle])
        yield from self._halves(passages, rows[middle:])

    def _checked(self, passages: Sequence[Passage], rows: list[int], encoded: Any) -> Block:
        """Take out vectors that are no numbers, or none in the type they are stored as."""
        assert encoded.vectors.shape == (len(rows), self._provenance.dimension), encoded.vectors.shape
        stored = store(encoded.vectors, self._provenance.dtype)
        good = np.isfinite(encoded.vectors).all(axis=1)
        fits = good & np.isfinite(stored.codes).all(axis=1)
        failed = []
        for place in np.flatnonzero(~fits):
            passage = passages[rows[place]]
            failed.append((rows[place], self._failure(passage, _why_unusable(good[place], self._provenance.dtype))))
        self._count_failures(len(failed), fits, *((passages[failed[-1][0]], failed[-1][1].error) if failed else (None, "")))
        return self._block([row for row, fit in zip(rows, fits, strict=True) if fit], encoded, failed, fits, stored)

    def _block(self, rows, encoded, failed, fits=None, stored=None) -> Block:
        if encoded is None:
            nothing = np.empty((0, self._provenance.dimension), np.float32)
            return Block([], nothing, store(nothing, self._provenance.dtype), np.empty(0, int), np.empty(0, bool), failed)
        places = np.flatnonzero(fits)
        return Block(
            rows,
            encoded.vectors[places],
            stored.rows(places),
            np.asarray(encoded.token_counts)[places],
            np.asarray(encoded.truncated)[places],
            failed,
        )

    def _count_failures(self, count: int, fits: np.ndarray | None, last: Passage | None, reason: str) -> None:
        if fits is not None and fits.any():
            self._failing = len(fits) - 1 - int(np.flatnonzero(fits)[-1])
        else:
            self._failing += count
        if self._failing >= MOST_FAILURES:
            raise RagvecError(
                f"{self._failing} passages in a row could not be encoded, the last of them {last.passage_id!r}: {reason}. "
                "Finished parts are kept"
            )

    @staticmethod
    def _failure(passage: Passage, reason: str) -> Failure:
        return Failure(passage.passage_id, passage.doc_id, reason)


def _why_unusable(finite: bool, dtype: str) -> str:
    if finite:
        return f"the vector is too large for {dtype}: store float32 vectors (--vector-dtype float32) or normalise"
    return "the encoder gave NaN or infinity: compute in float32 (--dtype float32), or check the encoder with a short text"
