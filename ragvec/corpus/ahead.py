"""Reading ahead in a thread, so that whoever computes does not wait for files, decompression and parsing."""

from collections.abc import Iterable, Iterator
from itertools import islice
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
_BATCH = 256  # items that cross the threads together
_BATCHES = 8
_PATIENCE = 0.2  # seconds between looks at whether anyone still reads


def read_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items in the same order, read up to 2,048 ahead by a thread; its errors are raised where they would be."""
    queue: Queue = Queue(_BATCHES)
    gone = Event()
    thread = Thread(target=_fill, args=(iter(items), queue, gone), name="read", daemon=True)
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
        thread.join()


def _fill(items: Iterator, queue: Queue, gone: Event) -> None:
    batch: list = [None]
    while batch and not gone.is_set():
        batch, error = [], None
        try:
            for item in islice(items, _BATCH):
                batch.append(item)
        except BaseException as raised:  # raised again where the items are used
            error = raised
        while not gone.is_set():
            try:
                queue.put((batch, error), timeout=_PATIENCE)
                break
            except Full:
                continue
        if error is not None:
            return
