"""Passages through the encoder, block by block; what fails is found, named and left out, and the rest goes on."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from threading import Condition
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

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


Item = TypeVar("Item")


class Encodes(Protocol):
    """What bulk encoding asks of an encoder; `ragvec.Encoder` has it.

    One that also has `encode_blocks(blocks, instruction=…, normalize=…)` is given blocks of texts as a stream, so that it can
    prepare the next while it computes this one; `block_tokens` says for which size of batch blocks are to be made.
    """

    @property
    def dimension(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def source(self) -> str: ...

    def encode_counted(self, texts: Sequence[str], *, instruction: str, normalize: bool = True) -> Any:
        """Vectors (n, d) float32, token_counts (n,) and truncated (n,), as a tuple with these names."""


class Computes(Protocol):
    """What encodes parts elsewhere, several at once. parts_ahead: how many must be to be had before the first is given."""

    parts_ahead: int

    def encode(self, wanted: "Iterable[Wanted]", provenance: Provenance) -> "Generator[Made, None, None]":
        """As `BlockEncoder.encode`, with the same blocks."""


class Wanted(NamedTuple):
    """Passages of which these rows are to be encoded, for whoever owns them."""

    owner: Any
    passages: Sequence[Passage]
    rows: Sequence[int]


class Made(NamedTuple):
    """Rows that the encoder was given together, and what came of it: its answer, or why there is none for the one row."""

    wanted: Wanted
    rows: list[int]
    encoded: Any
    reason: str = ""


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

    def __init__(self, encoder: Encodes, provenance: Provenance, elsewhere: Computes | None = None) -> None:
        """elsewhere: what computes in the encoder's stead; None = the encoder itself."""
        self._encoder, self._elsewhere = encoder, elsewhere
        self._provenance = provenance
        self._failing = 0  # failures since the last success

    def encode(self, wanted: Iterable[Wanted]) -> Generator[Made, None, None]:
        """Encode all that is wanted in one stream, in order; `check` then says what of it is good.

        `wanted` is read ahead, maybe in another thread; its errors are raised after what came before them.
        """
        if self._elsewhere is not None:
            yield from self._elsewhere.encode(wanted, self._provenance)
            return
        blocks = _Numbered(self._cut(wanted))
        done = 0
        while blocks.get(done) is not None:
            stream = self._stream(blocks.since(done))
            try:
                while (block := blocks.get(done)) is not None:
                    try:
                        encoded = next(stream)
                    except _FAILURES:
                        break
                    yield Made(*block, encoded)
                    blocks.drop(done)
                    done += 1
            finally:
                if hasattr(stream, "close"):
                    stream.close()
            if (failing := blocks.get(done)) is not None:
                yield from self._halves(*failing)
                blocks.drop(done)
                done += 1

    def check(self, made: Made) -> Block:
        """Take out vectors that are no numbers, or none in the type they are stored as; what is made is checked in its order.

        Raises RagvecError if MOST_FAILURES in a row failed.
        """
        if made.encoded is not None:
            return self._checked(made.wanted.passages, made.rows, made.encoded)
        [row] = made.rows
        return self._failed(row, self._failure(made.wanted.passages[row], made.reason))

    def _cut(self, wanted: Iterable[Wanted]) -> Iterator[tuple[Wanted, list[int]]]:
        """Blocks of rows. They end where their owner's do, so that they are the same wherever a run begins."""
        for one in wanted:
            block: list[int] = []
            characters = 0
            for row in one.rows:
                block.append(row)
                characters += len(one.passages[row].text)
                if len(block) == BLOCK_ROWS or characters >= self._most_characters():
                    yield one, block
                    block, characters = [], 0
            if block:
                yield one, block

    def _most_characters(self) -> int:
        batch = getattr(self._encoder, "block_tokens", _BATCH_TOKENS)
        return batch * _CHARACTERS_PER_TOKEN * _BLOCK_BATCHES

    def _stream(self, blocks: Iterable[tuple[Wanted, list[int]]]) -> Iterator[Any]:
        texts = ([wanted.passages[row].encoded_text for row in rows] for wanted, rows in blocks)
        instruction, normalize = self._provenance.instruction, self._provenance.normalized
        if hasattr(self._encoder, "encode_blocks"):
            stream: Iterator[Any] = self._encoder.encode_blocks(texts, instruction=instruction, normalize=normalize)
            return stream
        return (self._encoder.encode_counted(block, instruction=instruction, normalize=normalize) for block in texts)

    def _halves(self, wanted: Wanted, rows: list[int]) -> Iterator[Made]:
        """Encode a block that failed by itself, then in halves, down to the passages that fail alone."""
        try:
            encoded = next(self._stream([(wanted, rows)]))
        except _FAILURES as error:
            reason = first_line(error)
        else:
            yield Made(wanted, rows, encoded)
            return
        if len(rows) == 1:
            yield Made(wanted, rows, None, reason)
            return
        middle = len(rows) // 2
        yield from self._halves(wanted, rows[:middle])
        yield from self._halves(wanted, rows[middle:])

    def _checked(self, passages: Sequence[Passage], rows: list[int], encoded: Any) -> Block:
        assert encoded.vectors.shape == (len(rows), self._provenance.dimension), encoded.vectors.shape
        stored = store(encoded.vectors, self._provenance.dtype)
        good = np.isfinite(encoded.vectors).all(axis=1)
        fits = good & np.isfinite(stored.codes).all(axis=1)
        failed = []
        for place in np.flatnonzero(~fits):
            passage = passages[rows[place]]
            failed.append((rows[place], self._failure(passage, _why_unusable(good[place], self._provenance.dtype))))
        places = np.flatnonzero(fits)
        self._failing = len(rows) - 1 - int(places[-1]) if len(places) else self._failing + len(rows)
        if failed:
            self._stop_if_all_fail(failed[-1][1])
        return Block(
            rows=[rows[place] for place in places],
            vectors=encoded.vectors[places],
            stored=stored.rows(places),
            token_counts=np.asarray(encoded.token_counts)[places],
            truncated=np.asarray(encoded.truncated)[places],
            failed=failed,
        )

    def _failed(self, row: int, failure: Failure) -> Block:
        """The block of one passage that failed alone."""
        self._failing += 1
        self._stop_if_all_fail(failure)
        nothing = np.empty((0, self._provenance.dimension), np.float32)
        return Block(
            rows=[],
            vectors=nothing,
            stored=store(nothing, self._provenance.dtype),
            token_counts=np.empty(0, int),
            truncated=np.empty(0, bool),
            failed=[(row, failure)],
        )

    def _stop_if_all_fail(self, last: Failure) -> None:
        if self._failing >= MOST_FAILURES:
            raise RagvecError(
                f"{self._failing} passages in a row could not be encoded, the last of them {last.passage_id!r}: {last.error}. "
                "Finished parts are kept"
            )

    @staticmethod
    def _failure(passage: Passage, reason: str) -> Failure:
        return Failure(passage.passage_id, passage.doc_id, reason)


class _Numbered(Generic[Item]):
    """Items by number, each read once and kept until it is dropped, whichever thread asks for it first."""

    def __init__(self, items: Iterator[Item]) -> None:
        self._items, self._changed = items, Condition()
        self._kept: dict[int, Item] = {}
        self._next = 0
        self._is_reading = False
        self._error: BaseException | None = None

    def get(self, number: int) -> Item | None:
        """The item; None behind the last. Raises what reading it raised, again and again."""
        while True:
            with self._changed:
                # whoever reads on may have to wait for room until those before are done with: they must be had meanwhile
                self._changed.wait_for(lambda: number < self._next or self._error or not self._is_reading)
                if number < self._next:
                    return self._kept[number]
                if self._error is not None:
                    raise self._error
                self._is_reading = True
            if self._read_one() is None:
                return None

    def _read_one(self) -> Item | None:
        item: Item | None = None
        error: BaseException | None = None
        try:
            item = next(self._items, None)
        except BaseException as raised:
            error = raised
        with self._changed:
            self._is_reading, self._error = False, error
            if item is not None:
                self._kept[self._next] = item
                self._next += 1
            self._changed.notify_all()
        if error is not None:
            raise error
        return item

    def since(self, number: int) -> Iterator[Item]:
        """The items from this one on; they end where reading fails."""
        while True:
            try:
                item = self.get(number)
            except Exception:  # raised where the item itself is asked for
                return
            if item is None:
                return
            yield item
            number += 1

    def drop(self, number: int) -> None:
        """Forget an item."""
        del self._kept[number]


def _why_unusable(finite: bool, dtype: str) -> str:
    if finite:
        return f"the vector is too large for {dtype}: store float32 vectors, or normalise"
    return "the encoder gave NaN or infinity: compute in float32, or check the encoder with a short text"
