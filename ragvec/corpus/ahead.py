"""Reading ahead in a thread, so that whoever computes does not wait for files, decompression, parsing and cutting."""

from collections.abc import Callable, Iterable, Iterator
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
_Batch = tuple[list[Item], BaseException | None]  # and what ended them
_BATCH = 256  # items that cross the threads together
_BATCH_WEIGHT = 1 << 20
_BATCHES = 8
_PATIENCE = 0.2  # seconds between looks at whether anyone still reads


def read_ahead(items: Iterable[Item], weigh: Callable[[Item], int] = lambda _: 1) -> Iterator[Item]:
    """The same items in the same order, read ahead by a thread; its errors are raised where they would have been.

    weigh   an item's size, such as its characters: 2,048 items wait at most, fewer where 8 million is their weight
    """
    queue: Queue[_Batch[Item]] = Queue(_BATCHES)
    gone = Event()
    thread = Thread(target=_fill, args=(iter(items), weigh, queue, gone), name="read", daemon=True)
    thread.start()
    try:
        while True:
            batch, error = queue.get()
            yield from batch
            if error is not None:
                raise error
            if not batch:
                return
    finally:
        gone.set()
        thread.join(5 * _PATIENCE)  # it may hang in a pipe that nobody writes to


def _fill(items: Iterator[Item], weigh: Callable[[Item], int], queue: Queue[_Batch[Item]], gone: Event) -> None:
    error: BaseException | None = None
    while error is None and not gone.is_set():
        batch: list[Item] = []
        try:
            _gather(items, weigh, batch)
        except BaseException as raised:  # raised again where the items are used
            error = raised
        while not gone.is_set():
            try:
                queue.put((batch, error), timeout=_PATIENCE)
                break
            except Full:
                continue
        if not batch:
            return


def _gather(items: Iterator[Item], weigh: Callable[[Item], int], batch: list[Item]) -> None:
    weight = 0
    for item in items:
        batch.append(item)
        weight += weigh(item)
        if len(batch) == _BATCH or weight >= _BATCH_WEIGHT:
            return
