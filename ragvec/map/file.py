"""The one file of a map, beside the index: which passages it shows, where, in which topics, and of which commit it was made.

It may come from anyone: it is bounded, no link is followed, and every value is checked before it is believed.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from ragvec.artefacts import MAP_NAME
from ragvec.checked import Mismatch, check_fields, check_range
from ragvec.errors import Damaged, NotFound
from ragvec.files import is_own_file, open_at_once, replacing
from ragvec.index import Index, View, store

MOST_POINTS = 100_000
MOST_TOPICS, MOST_WORDS, LONGEST_WORD = 64, 8, 100
WIDTH = 65_535  # of the square in which the points lie
_FORMAT = 1
_MOST_BYTES = 4 << 20
_KINDS = {"passages": np.int64, "hashes": np.uint64, "points": np.uint16, "topics": np.uint8, "about": np.uint8}
_ABOUT_SELF = ("fingerprint", "generation", "last", "total", "created")
_NAMES = ("passages", "hashes", "points", "topics")


class Topic(NamedTuple):
    """A part of the map: its telling words, best first, and its middle, 0 … WIDTH."""

    words: tuple[str, ...]
    x: int
    y: int


class _About(NamedTuple):
    format: int
    fingerprint: str
    generation: int
    last: int
    total: int
    created: str
    topics: tuple[Topic, ...]


class Standing(NamedTuple):
    """A map against the index as it is now.

    live           (n,) bool: which of its points are still the same passages
    new            passages that came after it was made
    other_encoder  the index has vectors of another encoder now
    """

    live: np.ndarray
    new: int
    other_encoder: bool

    @property
    def is_stale(self) -> bool:
        """Whether it shows another index than there is."""
        return bool(self.new) or self.other_encoder or not self.live.all()


@dataclass(frozen=True, slots=True, eq=False)
class CorpusMap:
    """A map of an index.

    passages     (n,) int64, ascending: the ids of the passages that it shows
    hashes       (n,) uint64: the first 8 bytes of their content hashes
    points       (n, 2) uint16: where they lie, 0 … WIDTH
    topics       (n,) uint8: which of `names` each belongs to
    names        the topics
    fingerprint  of the index's encoder
    generation   of the commit that it was made of; last: that commit's highest passage id, total: its passages
    created      when, ISO 8601 in UTC
    """

    passages: np.ndarray
    hashes: np.ndarray
    points: np.ndarray
    topics: np.ndarray
    names: tuple[Topic, ...]
    fingerprint: str
    generation: int
    last: int
    total: int
    created: str

    def __len__(self) -> int:
        """The number of points."""
        return len(self.passages)

    def against(self, index: Index, view: View) -> Standing:
        """How it stands to a commit of the index in whose folder it lies."""
        ids = view.ids()
        live = (store.read_hashes(view.connection, self.passages) == self.hashes) & np.isin(self.passages, ids)
        new = int((ids > self.last).sum())
        return Standing(live, new, self.fingerprint != index.settings.fingerprint)

    def save(self, folder: Path) -> Path:
        """Write it into an index folder, whole or not at all; returns the file."""
        from safetensors.numpy import save

        described: dict[str, Any] = {name: getattr(self, name) for name in _ABOUT_SELF}
        described |= {"format": _FORMAT, "topics": [topic._asdict() for topic in self.names]}
        arrays = {name: np.ascontiguousarray(getattr(self, name), _KINDS[name]) for name in _NAMES}
        arrays["about"] = np.frombuffer(orjson.dumps(described), np.uint8)
        path = folder / MAP_NAME
        is_own_file(path)
        with replacing(path) as file:
            file.write(save(arrays))
        return path


def read_map(index: Index) -> CorpusMap:
    """The map that lies beside an index. Raises NotFound where none was made, Damaged for a file that ragvec did not write."""
    path = index.path / MAP_NAME
    data = _read(path)
    try:
        return _checked(_arrays(data))
    except Mismatch as error:
        raise Damaged(f"{path} is no map of ragvec's ({error}): make it again with `ragvec map {index.path}`") from error


def _read(path: Path) -> bytes:
    if not is_own_file(path):
        raise NotFound(f"there is no map of the index in {path.parent}: make one with `ragvec map {path.parent}`")
    with os.fdopen(open_at_once(path, os.O_RDONLY), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            raise Damaged(f"{path} is no map of ragvec's: remove it, and make it again with `ragvec map {path.parent}`")
        return file.read(_MOST_BYTES)


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: dict[str, np.ndarray] = load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise Mismatch("it can't be read") from error
    if {name: array.dtype for name, array in arrays.items()} != {name: np.dtype(kind) for name, kind in _KINDS.items()}:
        raise Mismatch("it holds something else")
    return arrays


def _checked(arrays: dict[str, np.ndarray]) -> CorpusMap:
    about = _described(arrays["about"].tobytes())
    count = arrays["passages"].size
    check_range("points", count, 1, MOST_POINTS)
    for name in _NAMES:
        if arrays[name].shape != ((count, 2) if name == "points" else (count,)):
            raise Mismatch(f"{name} are not as many as passages")
    passages, topics = arrays["passages"], arrays["topics"]
    if passages[0] < 0 or (np.diff(passages) <= 0).any() or int(passages[-1]) > about.last:
        raise Mismatch("passages are out of order")
    if int(topics.max()) >= len(about.topics):
        raise Mismatch("a topic has no name")
    values: dict[str, Any] = {name: arrays[name] for name in _NAMES}
    values |= {name: getattr(about, name) for name in _ABOUT_SELF}
    return CorpusMap(**values, names=about.topics)


def _described(text: bytes) -> _About:
    try:
        values: Any = orjson.loads(text)
        about = _About(**check_fields(values, _About))
    except (TypeError, AttributeError, orjson.JSONDecodeError) as error:
        raise Mismatch("it does not say what it is") from error
    check_range("format", about.format, _FORMAT, _FORMAT)
    check_range("generation", about.generation, 0, 2**62)
    check_range("last", about.last, 0, 2**62)
    check_range("total", about.total, 1, 2**31)
    check_range("topics", len(about.topics), 1, MOST_TOPICS)
    for topic in about.topics:
        check_range("words of a topic", len(topic.words), 0, MOST_WORDS)
        check_range("letters of a word", max(map(len, topic.words), default=0), 0, LONGEST_WORD)
        check_range("x", topic.x, 0, WIDTH)
        check_range("y", topic.y, 0, WIDTH)
    return about
