"""The map of an index: its passages as points in two dimensions, near where their vectors are near, and topics by name."""

from typing import TYPE_CHECKING

from ragvec.lazy import lazy_names

if TYPE_CHECKING:
    from ragvec.map.file import CorpusMap, Topic, read_map
    from ragvec.map.make import make_map

_LAZY = {
    "CorpusMap": "ragvec.map.file",
    "Topic": "ragvec.map.file",
    "read_map": "ragvec.map.file",
    "make_map": "ragvec.map.make",
}
__all__ = ["CorpusMap", "Topic", "make_map", "read_map"]
__getattr__ = lazy_names(__name__, _LAZY)
