"""Working ahead in a thread, so that whoever computes does not wait for files, decompression, parsing and cutting."""

from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
_BATCH = 256  # items that cross the threads together
_BATCH_WEIGHT = 1 << 20
_BATCHES = 8
_PATIENCE = 0.2  # seconds between looks at whether anyone still reads


def read_ahead(items: Iterable[Item], weigh: Callable[[Item], int] = lambda _: 1) -> Iterator[Item]:
    """Items in their order, read ahead by a thread, whose errors are raised where they would have been.

    weigh   an item's size, such as its characters: 2,048 items wait at most, fewer where 8 million is their weight
    """
    with Ahead(_batches(items, weigh), "read", _BATCHES) as batches:
        for batch in batches:
            yield from batch


def _batches(items: Iterable[Item], weigh: Callable[[Item], int]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    weight = 0
    try:
        for item in items:
            batch.append(item)
            weight += weigh(item)
            if len(batch) == _BATCH or weight >= _BATCH_WEIGHT:
                yield batch
                batch, weight = [], 0
    except GeneratorExit:
        raise
    except BaseException:
        yield batch  # what came before the error is had before it
        raise
    if batch:
        yield batch


class _End(NamedTuple):
    """What comes after the last item: the error that ended them, if one did."""

    error: BaseException | None


class Ahead(Generic[Item]):
    """Items in their order, made ahead by a thread, whose errors are raised where they would have been.

    Use as a context: leaving it stops the thread after the item it is at.
    """

    def __init__(self, items: Iterable[Item], name: str, most: int) -> None:
        """name: the thread's; most: items that wait at a time."""
        self._queue: Queue[Item | _End] = Queue(most)
        self._gone = Event()
        self._thread = Thread(target=self._fill, args=(items,), name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Ahead[Item]":
        return self

    def __exit__(self, *_: object) -> None:
        self._gone.set()
        self._thread.join(5 * _PATIENCE)  # it may hang in a pipe that nobody writes to

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        while not self._gone.is_set():
            try:
                item = self._queue.get(timeout=_PATIENCE)
            except Empty:
                continue
            if not isinstance(item, _End):
                return item
            self._gone.set()
            if item.error is not None:
                raise item.error
        raise StopIteration

    def ready(self) -> bool:
        """Whether the next item, or the end, can be had without waiting."""
        return self._gone.is_set() or not self._queue.empty()

    def _fill(self, items: Iterable[Item]) -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as raised:  # raised again where the items are used
            error = raised
        self._put(_End(error))

    def _put(self, entry: Item | _End) -> bool:
        while not self._gone.is_set():
            try:
                self._queue.put(entry, timeout=_PATIENCE)
                return True
            except Full:
                continue
        return False
