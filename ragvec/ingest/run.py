"""One run over a corpus: each part is kept, taken back, or made anew, in stages that run at the same time.

Parts are decided on where the encoder reads its texts ahead; their vectors come in one stream; a thread checks, stores and
counts what comes, and another brings parts that are whole to disk, in their order.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from threading import Lock, Semaphore
from typing import Any

import numpy as np

from ragvec.errors import RagvecError
from ragvec.ingest.blocks import Block, BlockEncoder, Computes, Encodes, Made, Wanted
from ragvec.ingest.meter import Meter
from ragvec.ingest.shelf import Shelf
from ragvec.records import Passage
from ragvec.shards import Failure, Part, PartVectors, recall_of, restore
from ragvec.shards.storage import empty

PARTS_AHEAD = 3  # that are being made at once: read, computed, written
_SAMPLE = 2000  # vectors of the first part on which the loss by storing is measured


@dataclass(slots=True)
class _Kept:
    """A part for which an earlier one's file stands, under a name of its own by now."""

    number: int
    part: Part
    left: int = 0


@dataclass(slots=True)
class _Work:
    """A part that is being made: its passages, the rows that have vectors or failed, and how many are still missing."""

    number: int
    passages: list[Passage]
    digest: str
    out: PartVectors
    missing: list[int]
    sample: list[np.ndarray] | None
    failed: dict[int, Failure] = field(default_factory=dict)
    left: int = 0

    def put(self, block: Block) -> None:
        """Take over what a block holds."""
        self.out.stored.put(block.rows, block.stored)
        self.out.token_counts[block.rows] = block.token_counts
        self.out.truncated[block.rows] = block.truncated
        self.failed.update(block.failed)
        self.left -= len(block.rows) + len(block.failed)
        if self.sample is not None and sum(map(len, self.sample)) < _SAMPLE:
            self.sample.append(block.vectors)


class Run:
    """Brings parts to disk in order. Use as a context: leaving it waits for what is being stored and written."""

    def __init__(self, shelf: Shelf, encoder: Encodes, meter: Meter, elsewhere: Computes | None = None) -> None:
        """shelf: where the parts come to stand; elsewhere: as for BlockEncoder."""
        self.shelf, self.meter = shelf, meter
        self.done = 0
        self._blocks = BlockEncoder(encoder, shelf.provenance, elsewhere)
        self._deciding = Lock()
        self._room = Semaphore(elsewhere.parts_ahead if elsewhere else PARTS_AHEAD)
        self._order: deque[_Kept | _Work] = deque()  # parts on their way to the disk
        self._left = False
        self._storer, self._writer = ThreadPoolExecutor(1, "store"), ThreadPoolExecutor(1, "write")
        self._errors: dict[ThreadPoolExecutor, BaseException] = {}

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        with self._deciding:  # a thread that still reads must not touch the shelf from now on
            self._left = True
        self._room.release()
        self._storer.shutdown()
        self._writer.shutdown()

    def encode(self, parts: Iterable[tuple[list[Passage], str]]) -> None:
        """Bring all parts, passages with their digest, to disk, each by the cheapest way that is right."""
        with closing(self._blocks.encode(self._planned(parts))) as stream:
            for made in stream:
                self._later(self._storer, self._store, made)
                self._raise()
        self._settle()

    def _planned(self, parts: Iterable[tuple[list[Passage], str]]) -> Iterator[Wanted]:
        """What the encoder must do for each part."""
        for passages, digest in parts:
            self._room.acquire()
            with self._deciding:
                self._raise()
                if self._left:
                    return
                way = self._decide(passages, digest)
            self.done += 1
            if way is not None:
                self._order.append(way)
            if isinstance(way, _Work) and way.missing:
                yield Wanted(way, passages, way.missing)
                continue
            if not isinstance(way, _Work):
                self._room.release()
            self._later(self._storer, self._go_on)

    def _decide(self, passages: list[Passage], digest: str) -> _Kept | _Work | None:
        """How a part comes to the disk; None if it is there, or another writer brings it."""
        if part := self.shelf.kept(self.done, digest):
            self._later(self._storer, self.meter.count_kept, part.rows, part.truncated)
            return None
        if part := self.shelf.take_back(self.done, digest):
            self._later(self._storer, self.meter.count_reused, part.rows, part.truncated)
            return _Kept(self.done, part)
        if not self.shelf.claim(digest):
            return None
        return self._begun(passages, digest)

    def _begun(self, passages: list[Passage], digest: str) -> _Work:
        """A part to be made, with an earlier run's vectors where the text is the same."""
        provenance, rows = self.shelf.provenance, len(passages)
        out = PartVectors(empty(rows, provenance.dtype, provenance.dimension), np.zeros(rows, np.int32), np.zeros(rows, bool))
        old = self.shelf.old_vectors()
        missing = old.fill(passages, out) if old else list(range(rows))
        if reused := rows - len(missing):
            self._later(self._storer, self.meter.count_reused, reused, int(out.truncated.sum()))
        sample: list[np.ndarray] | None = [] if self.done == 0 and not reused and provenance.dtype != "float32" else None
        return _Work(
            number=self.done,
            passages=passages,
            digest=digest,
            out=out,
            missing=missing,
            sample=sample,
            left=len(missing),
        )

    def _store(self, made: Made) -> None:
        """Check what the encoder made, put it into its part, and count it."""
        block, work = self._blocks.check(made), made.wanted.owner
        work.put(block)
        self.meter.count_encoded(block.token_counts, block.truncated)
        for _, failure in block.failed:
            self.meter.count_failed(failure)
        self._go_on()

    def _go_on(self) -> None:
        """Bring parts to disk that are whole, up to the first that is not."""
        while self._order and self._order[0].left == 0:
            part = self._order.popleft()
            if isinstance(part, _Kept):
                self._later(self._writer, self.shelf.record, part.number, part.part)
            else:
                self._later(self._writer, self._write, part)

    def _later(self, stage: ThreadPoolExecutor, step: Callable[..., None], *what: Any) -> None:
        """Queue a step of a stage; once one has failed, the stage does none that comes after it, and its error is raised."""

        def run() -> None:
            if stage in self._errors:
                return
            try:
                step(*what)
            except BaseException as error:
                self._errors[stage] = error
                self._room.release()  # nobody may wait for a part that never comes

        stage.submit(run)

    def _raise(self) -> None:
        for error in self._errors.values():
            raise error

    def _settle(self) -> None:
        """Wait until all parts are on disk; what went wrong is raised here."""
        for stage in (self._storer, self._writer):
            done: Future[int] = stage.submit(int)
            done.result()
        self._raise()

    def _write(self, work: _Work) -> None:
        good, vectors = work.passages, work.out
        if work.failed:
            rows = [row for row in range(len(good)) if row not in work.failed]
            if not rows:
                first = work.failed[min(work.failed)]
                raise RagvecError(f"no passage of this part could be encoded; the first, {first.passage_id!r}: {first.error}")
            good, vectors = [good[row] for row in rows], vectors.rows(rows)
        part = self.shelf.write(
            work.number,
            good,
            vectors,
            digest=work.digest,
            failed=[work.failed[row] for row in sorted(work.failed)],
            recall=None if work.failed else self._recall(work),
        )
        self.shelf.record(work.number, part)
        self._room.release()

    def _recall(self, work: _Work) -> float | None:
        if not work.sample:
            return None
        provenance = self.shelf.provenance
        exact = np.concatenate(work.sample)[:_SAMPLE]
        return recall_of(exact, restore(work.out.stored.rows(range(len(exact))), provenance.dtype, provenance.dimension))
