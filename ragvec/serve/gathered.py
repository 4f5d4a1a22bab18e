"""Searches that wait for a thread together are done together: one look into the index for many queries.

A thread takes what waits when it begins. So nobody waits for others to come, and the more wait, the less each of them costs.
"""

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

from ragvec.errors import Unavailable

MOST_TOGETHER = 16  # more cost hardly less for each, and the first of them wait for the last
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class _Waiting(NamedTuple, Generic[Asked, Answer]):
    asked: Asked
    future: "asyncio.Future[Answer]"


class Gathered(Generic[Asked, Answer]):
    """Answers what is asked in threads, some at a time."""

    def __init__(self, threads: Executor, work: Callable[[list[Asked]], Sequence[Answer]]) -> None:
        """work: answers to what was asked under one key, in its order; raises if there is none to some of it."""
        self._threads = threads
        self._work = work
        self._waiting: dict[str, deque[_Waiting[Asked, Answer]]] = {}
        self._lock = threading.Lock()

    async def answer(self, key: str, asked: Asked) -> Answer:
        """The answer to this, found with what else waits under the key; raises what `work` raises for it."""
        one: _Waiting[Asked, Answer] = _Waiting(asked, asyncio.get_running_loop().create_future())
        with self._lock:
            waiting = self._waiting.setdefault(key, deque())
            waiting.append(one)
            needs_thread = len(waiting) % MOST_TOGETHER == 1  # as many are on their way as it takes for all
        if needs_thread:
            self._threads.submit(self._take, key)
        return await one.future

    def _take(self, key: str) -> None:
        with self._lock:
            waiting = self._waiting[key]
            taken = [waiting.popleft() for _ in range(min(len(waiting), MOST_TOGETHER))]
            if not waiting:
                del self._waiting[key]
        taken = [one for one in taken if not one.future.done()]  # its client has left
        if taken:
            answers = self._answers([one.asked for one in taken])
            by_loop: defaultdict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Answer], Answer | Exception]]]
            by_loop = defaultdict(list)
            for one, answer in zip(taken, answers, strict=True):
                by_loop[one.future.get_loop()].append((one.future, answer))
            for loop, settled in by_loop.items():
                with suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(_settle, settled)

    def _answers(self, asked: list[Asked]) -> list[Answer | Exception]:
        try:
            return list(self._work(asked))
        except Exception as error:  # who asked hears of it
            if len(asked) > 1 and not isinstance(error, Unavailable):  # one's mistake must not take the others down with it
                return [answer for one in asked for answer in self._answers([one])]
            return [error for _ in asked]


def _settle(settled: "list[tuple[asyncio.Future[Answer], Answer | Exception]]") -> None:
    for future, answer in settled:
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
