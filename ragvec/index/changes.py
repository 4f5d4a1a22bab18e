"""What a corpus changes in an index: which passages must be encoded, which go, which only have new metadata."""

import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ragvec.index import store
from ragvec.records import Passage


class ChangeReport(NamedTuple):
    """Documents that were new, that took the place of an older version, that were in the index already, that were removed."""

    added: int
    replaced: int
    unchanged: int
    removed: int = 0


class Changes:
    """Compares passages, as they stream by, with what the index holds. A document's passages come one after another."""

    def __init__(self, connection: sqlite3.Connection, *, sync: bool = False) -> None:
        """sync: documents that do not come by are to be removed."""
        self._connection = connection
        self._empty = store.count(connection) == 0
        self._doc_id: str | None = None
        self._old: dict[str, store.StoredPassage] = {}
        self._known = self._fresh = False
        self._counts = {"added": 0, "replaced": 0, "unchanged": 0, "removed": 0}
        self._kept: array | None = array("q") if sync else None
        self._stale: list[int] = []
        self._updates: list[tuple[int, Passage]] = []

    def fresh(self, passages: Iterable[Passage]) -> Iterator[Passage]:
        """The passages that are not in the index as they are, and so must be encoded."""
        for passage in passages:
            if self.is_fresh(passage):
                yield passage
        self.finish()

    def is_fresh(self, passage: Passage) -> bool:
        """Whether this passage must be encoded. Call `finish` after the last one."""
        if passage.doc_id != self._doc_id:
            self.finish()
            self._doc_id = passage.doc_id
            self._old = {} if self._empty else store.passages_of(self._connection, passage.doc_id)
            self._known = bool(self._old)
        old = self._old.pop(passage.passage_id, None)
        if old is None or old.content_hash.hex() != passage.content_hash:
            if old is not None:
                self._stale.append(old.id)
            self._fresh = True
            return True
        if (old.title, old.metadata) != (passage.title, passage.metadata_json):
            self._updates.append((old.id, passage))
        if self._kept is not None:
            self._kept.append(old.id)
        return False

    def finish(self) -> None:
        """Close the last document: what is left of its older version is stale."""
        if self._doc_id is None:
            return
        changed = self._fresh or bool(self._old)
        self._counts["unchanged" if not changed else "replaced" if self._known else "added"] += 1
        self._stale.extend(old.id for old in self._old.values())
        self._doc_id, self._old, self._known, self._fresh = None, {}, False, False

    def take_stale(self) -> list[int]:
        """The ids of passages to remove that were found since the last call."""
        stale, self._stale = self._stale, []
        return stale

    def take_updates(self) -> list[tuple[int, Passage]]:
        """The passages whose title or metadata alone changed, with their ids, found since the last call."""
        updates, self._updates = self._updates, []
        return updates

    def take_gone(self, before: int) -> list[int]:
        """With `sync`, the ids below `before` whose documents have not come by, once all others were removed; else none."""
        if self._kept is None:
            return []
        there = store.ids_below(self._connection, before)
        gone = np.setdiff1d(there, np.frombuffer(self._kept, dtype=np.int64), assume_unique=True).tolist()
        self._counts["removed"] += len(set(store.read_doc_ids(self._connection, gone).values()))
        return gone

    def report(self) -> ChangeReport:
        """How many documents were compared, by outcome."""
        return ChangeReport(**self._counts)
