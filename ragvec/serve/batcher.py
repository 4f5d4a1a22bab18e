"""Dynamic batching: texts of many requests share batches, measured in tokens, encoded by one thread.

While a batch runs, what arrives waits; the next batch takes as much of it as fits. Short jobs (queries) and long ones
(documents) wait in two lanes that take turns: a query waits for one batch of documents at most, and documents never starve.
"""

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ragvec.encoder.prompt import Prompts
from ragvec.errors import Busy

if TYPE_CHECKING:
    from ragvec.encoder import Encoder

_SHORT, _LONG = 0, 1  # lanes
SHORT_SHARE = 8  # a job of at most batch_tokens / 8 tokens is short
ONE_THREAD_WORK = 5e8  # weights times tokens that a core computes in a few milliseconds
MOST_RETRY_S = 60


class QueueFull(Busy):
    """Too much waits already; retry_after says in how many seconds it should be gone."""

    status = 429

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the server is busy: try again in {retry_after} s")
        self.retry_after = retry_after


class BatchReport(NamedTuple):
    """One batch as it ran: its texts, tokens and jobs, its seconds, and how long each job that began in it had waited."""

    texts: int
    tokens: int
    jobs: int
    seconds: float
    waits: list[float]


class _Job:
    """The texts of one request on their way; its future is an event loop's, if it has a loop."""

    def __init__(
        self,
        prompts: Prompts,
        dimension: int,
        future: "Future[np.ndarray] | asyncio.Future[np.ndarray]",
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.prompts = prompts
        self.future = future
        self.loop = loop
        self.lengths = [len(ids) for ids in prompts.ids]
        self.tokens = sum(self.lengths)
        self.vectors = np.empty((len(self.lengths), dimension), dtype=np.float32)
        # longest last: rows are popped from the end, and neighbours of equal length are encoded in one call
        self.waiting = sorted(range(len(self.lengths)), key=lambda row: self.lengths[row])
        self.missing = len(self.lengths)
        self.queued_at = time.perf_counter()
        self.begun = False
        self.error: Exception | None = None


class Batcher:
    """Encodes for many callers at once. Close it, or use it in a `with` block."""

    def __init__(
        self,
        encoder: "Encoder",
        *,
        queue_batches: int,
        on_batch: Callable[[BatchReport], None] | None = None,
        weights: int | None = None,
        encode: Callable[[Prompts], np.ndarray] | None = None,
    ) -> None:
        """queue_batches: how many full batches may wait before `submit` refuses; on_batch is told of every batch that ran.

        weights  of the encoder's layers, by which it is chosen how many threads compute a batch; None = always all
        encode   what computes a batch; None = the encoder's encode_prompts
        """
        self._weights = weights
        self._encoder = encoder
        self._encode_prompts = encode or encoder.encode_prompts
        self._on_batch = on_batch or (lambda report: None)
        self._queue_tokens = queue_batches * encoder.batch_tokens
        self._lanes: tuple[deque[_Job], deque[_Job]] = (deque(), deque())
        self._turn = _SHORT
        self._waiting_tokens = 0
        self._tokens_per_second = float(encoder.batch_tokens)  # a guess until the first batch
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ragvec-batcher", daemon=True)
        self._thread.start()

    def submit(self, prompts: Prompts) -> "Future[np.ndarray]":
        """Queue tokenized texts; the future gives their vectors, (n, dimension) float32, as `Encoder.encode_prompts` does.

        Cancel the future to take them back. Raises QueueFull if too much waits; where nothing waits, any job is taken.
        """
        future: Future[np.ndarray] = Future()
        job = _Job(prompts, self._encoder.dimension, future)
        self._queue(job)
        future.add_done_callback(lambda future: self._drop(job) if future.cancelled() else None)
        return future

    async def encode(self, prompts: Prompts) -> np.ndarray:
        """Encode tokenized texts, awaited by an event loop: (n, dimension) float32. Cancelling takes the texts back.

        Raises QueueFull as `submit` does.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[np.ndarray] = loop.create_future()
        job = _Job(prompts, self._encoder.dimension, future, loop)
        self._queue(job)
        try:
            return await future
        except asyncio.CancelledError:
            self._drop(job)
            raise

    @property
    def waiting_tokens(self) -> int:
        """Tokens that wait for a batch."""
        return self._waiting_tokens

    @property
    def alive(self) -> bool:
        """Whether the thread that encodes is running."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Encode what waits, take nothing more, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> "Batcher":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _queue(self, job: _Job) -> None:
        if not job.lengths:
            job.future.set_result(job.vectors)
            return
        with self._changed:
            if self._closed:
                raise QueueFull(1)
            if self._waiting_tokens and self._waiting_tokens + job.tokens > self._queue_tokens:
                raise QueueFull(self._retry_after())
            self._lanes[_LONG if job.tokens * SHORT_SHARE > self._encoder.batch_tokens else _SHORT].append(job)
            self._waiting_tokens += job.tokens
            self._changed.notify()

    def _run(self) -> None:
        import torch

        cores = torch.get_num_threads()
        while batch := self._next_batch():
            torch.set_num_threads(self._threads(batch, cores))
            started = time.perf_counter()
            ready = self._encode(batch)
            torch.set_num_threads(cores)  # threads that begin to compute take over what was set last
            seconds = time.perf_counter() - started
            tokens = _tokens(batch)
            self._tokens_per_second += (tokens / seconds - self._tokens_per_second) / 8
            waits = []
            for job, _ in batch:
                if not job.begun:
                    job.begun = True
                    waits.append(started - job.queued_at)
            # before the answers: who has one finds it counted
            texts = sum(len(rows) for _, rows in batch)
            self._on_batch(BatchReport(texts=texts, tokens=tokens, jobs=len(batch), seconds=seconds, waits=waits))
            _hand_over(ready)

    def _threads(self, batch: list[tuple[_Job, list[int]]], cores: int) -> int:
        """How many threads compute a batch: those that wait for each other on a busy core lose more than they gain."""
        if self._weights is None or self._turn == _LONG:
            return cores
        if _tokens(batch) * self._weights < ONE_THREAD_WORK:
            return 1
        return max(cores - 1, 1) if len(batch) > 1 else cores  # many requests keep a core busy themselves

    def _next_batch(self) -> list[tuple[_Job, list[int]]]:
        """Rows of the lane whose turn it is, up to the token budget; empty once closed and done."""
        with self._changed:
            while not any(self._lanes):
                if self._closed:
                    return []
                self._changed.wait()
            self._turn = 1 - self._turn if self._lanes[1 - self._turn] else self._turn
            lane, room = self._lanes[self._turn], self._encoder.batch_tokens
            batch: list[tuple[_Job, list[int]]] = []
            passed: list[_Job] = []
            served: list[_Job] = []
            while lane:
                job = lane.popleft()
                rows = _take(job, room=room, share=room // (len(lane) + 1), must=not batch)
                if rows:
                    batch.append((job, rows))
                    room -= sum(job.lengths[row] for row in rows)
                if job.waiting:
                    (served if rows else passed).append(job)
            lane.extend(passed + served)  # who went away empty-handed comes first next time
            self._waiting_tokens -= _tokens(batch)
            return batch

    def _encode(self, batch: list[tuple[_Job, list[int]]]) -> list[_Job]:
        """Encode a batch; returns the jobs that are done with, for better or worse."""
        try:
            vectors = self._encode_prompts(_join(batch))
        except Exception as error:  # the caller hears of it: a server must outlive a batch that fails
            if len(batch) > 1:  # one job's text must not take the others down with it
                return [job for part in batch for job in self._encode([part])]
            [(job, _)] = batch
            self._drop(job)
            job.error = error
            return [job]
        start = 0
        for job, rows in batch:
            job.vectors[rows] = vectors[start : start + len(rows)]
            start += len(rows)
            job.missing -= len(rows)
        return [job for job, _ in batch if not job.missing]

    def _drop(self, job: _Job) -> None:
        with self._changed:
            self._waiting_tokens -= sum(job.lengths[row] for row in job.waiting)
            job.waiting = []
            for lane in self._lanes:
                with suppress(ValueError):
                    lane.remove(job)

    def _retry_after(self) -> int:
        return min(max(round(self._waiting_tokens / self._tokens_per_second), 1), MOST_RETRY_S)


def _hand_over(jobs: list[_Job]) -> None:
    """Give each job its vectors, or its error; an event loop is woken once for all of its jobs."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[_Job]] = defaultdict(list)
    for job in jobs:
        by_loop[job.loop].append(job)
    for loop, theirs in by_loop.items():
        if loop is None:
            _settle(theirs)
        else:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(_settle, theirs)


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        with suppress(InvalidStateError, asyncio.InvalidStateError):  # cancelled meanwhile
            if job.error is None:
                job.future.set_result(job.vectors)
            else:
                job.future.set_exception(job.error)


def _take(job: _Job, *, room: int, share: int, must: bool) -> list[int]:
    """Rows of a job for this batch: up to its share of the room, and one at least if there is room for it or nothing else."""
    rows: list[int] = []
    taken = 0
    while job.waiting:
        length = job.lengths[job.waiting[-1]]
        fits = taken + length <= (room if not rows else share)
        if not fits and (rows or not must):
            break
        rows.append(job.waiting.pop())
        taken += length
    return rows


def _tokens(batch: list[tuple[_Job, list[int]]]) -> int:
    return sum(job.lengths[row] for job, rows in batch for row in rows)


def _join(batch: list[tuple[_Job, list[int]]]) -> Prompts:
    joined = Prompts([], [], [], [])
    for job, rows in batch:
        for row in rows:
            joined.ids.append(job.prompts.ids[row])
            joined.pool_starts.append(job.prompts.pool_starts[row])
            joined.truncated.append(job.prompts.truncated[row])
            joined.texts.append(job.prompts.texts[row])
    return joined
