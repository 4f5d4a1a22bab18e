"""What a corpus changes in an index: which passages must be encoded, which go, which only have new metadata."""

import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ragvec.errors import WrongInput
from ragvec.index import store
from ragvec.index.sources import BY_HAND, BY_HAND_NAME, UNKNOWN_NAME, Incoming
from ragvec.records import Passage

SHOWN_EMPTY = 5


class ChangeReport(NamedTuple):
    """Documents that were new, that took the place of an older version, that were in the index already, that were removed.

    A version is another one if its title or metadata alone is another, too; its text is then not encoded again.
    """

    added: int
    replaced: int
    unchanged: int
    removed: int = 0


class Changes:
    """Compares passages, as they stream by, with what the index holds. A document's passages come one after another.

    Documents of a source take the place of that source's alone. Those without one were chosen by hand: they replace whatever
    has their id, which stays its source's.
    """

    def __init__(self, connection: sqlite3.Connection, *, incoming: Sequence[Incoming] = (), sync: bool = False) -> None:
        """incoming: the sources, in order; none = added by hand. sync: documents of theirs that don't come by are to go."""
        self.kept = 0  # documents that did not come by and stay, since they may still be there
        self.doubts: list[str] = []  # why
        self.held: dict[str, set[int]] = {}
        self.empty = 0  # passages without any text that came by
        self.first_empty: list[str] = []  # the documents of some
        self._connection = connection
        self._column = "source" if store.has_sources(connection) else "NULL"
        self._empty = store.count(connection) == 0
        self._incoming = list(incoming)
        known = {source.name: number for number, source in store.read_sources(connection).items()}
        self._numbers: list[int | None] = [known.get(each.source.name) for each in incoming] if incoming else [BY_HAND]
        self._at = 0
        self._owners: dict[str, int | None] = {}
        self._claims = store.Claims(connection) if len(self._incoming) > 1 else None
        self._doc_id: str | None = None
        self._old: dict[str, store.StoredPassage] = {}
        self._known = self._changed = False
        self._counts = {"added": 0, "replaced": 0, "unchanged": 0, "removed": 0}
        self._kept: array[int] | None = array("q") if sync else None
        self._stale: list[int] = []
        self._updates: list[tuple[int, Passage]] = []
        self._adopted: list[tuple[int, int]] = []  # (place among the incoming, id)

    def fresh_of(self, streams: Iterable[Iterable[Passage]]) -> Iterator[Passage]:
        """The passages to be encoded of all incoming sources, one after another."""
        for place, stream in enumerate(streams):
            self.begin(place)
            yield from self.fresh(stream)

    def begin(self, place: int) -> None:
        """From now on passages are of the incoming source at this place."""
        self._at = place

    def fresh(self, passages: Iterable[Passage]) -> Iterator[Passage]:
        """The passages that are not in the index as they are, and so must be encoded."""
        for passage in passages:
            if self.is_fresh(passage):
                yield passage
        self.finish()

    def is_fresh(self, passage: Passage, same_vector: Callable[[int], bool] | None = None) -> bool:
        """Whether this passage must be encoded. Call `finish` after the last one.

        same_vector  of a passage that brings its vector: whether the one of this id has the same; an empty text may have one
        Raises WrongInput if its document's id belongs to another source.
        """
        if same_vector is None and passage.is_empty:
            self.empty += 1
            if len(self.first_empty) < SHOWN_EMPTY:
                self.first_empty.append(passage.doc_id)
        if passage.doc_id in self.held:
            return False
        if passage.doc_id != self._doc_id:
            self.finish()
            self._begin(passage.doc_id)
        old = self._old.pop(passage.passage_id, None)
        same = old is not None and old.content_hash.hex() == passage.content_hash
        if old is None or not same or (same_vector is not None and not same_vector(old.id)):
            if old is not None:
                self._stale.append(old.id)
            self._changed = True
            return True
        if (old.title, old.metadata) != (passage.title, passage.metadata_json):
            self._changed = True
            self._updates.append((old.id, passage))
        if self._kept is not None:
            self._kept.append(old.id)
        if old.source is None and self._incoming:
            self._adopted.append((self._at, old.id))
        return False

    def finish(self) -> None:
        """Close the last document: what is left of its older version is stale."""
        if self._doc_id is None:
            return
        changed = self._changed or bool(self._old)
        self._counts["unchanged" if not changed else "replaced" if self._known else "added"] += 1
        self._stale.extend(old.id for old in self._old.values())
        self._doc_id, self._old, self._known, self._changed = None, {}, False, False

    def hold(self, doc_ids: Iterable[str], *, compared: bool) -> None:
        """Leave the older versions of these documents as they are, for their new ones could not be encoded.

        compared  they have come by already, and were counted as replaced
        """
        for doc_id in dict.fromkeys(doc_ids):
            old = self._stored(doc_id)
            if old:
                self.held[doc_id] = {passage.id for passage in old.values()}
                self._counts["replaced"] -= compared

    def enlist(self) -> None:
        """Give the sources their numbers in the index; within the commit's transaction, as all that follows."""
        if self._incoming:
            self._numbers = [store.record_source(self._connection, each.source) for each in self._incoming]

    def sources_of(self, passages: Sequence[Passage]) -> list[int | None]:
        """The number of the source that each of these new passages is noted with."""
        if not self._incoming:
            return [self._owners.get(passage.doc_id, BY_HAND) for passage in passages]
        if self._claims is None:
            return self._numbers * len(passages)
        places = [self._claims.place_of(passage.doc_id) for passage in passages]
        return [self._numbers[place] for place in places if place is not None]  # each has come by, so none is None

    def take_stale(self) -> list[int]:
        """The ids of passages to remove that were found since the last call."""
        stale, self._stale = self._stale, []
        held = self._held_ids()
        return [number for number in stale if number not in held]

    def take_updates(self) -> list[tuple[int, Passage]]:
        """The passages whose title or metadata alone changed, with their ids, found since the last call."""
        updates, self._updates = self._updates, []
        held = self._held_ids()
        return [update for update in updates if update[0] not in held]

    def take_adopted(self) -> list[tuple[int | None, int]]:
        """The passages whose source was not known until now, as (its number, id), found since the last call."""
        adopted, self._adopted = self._adopted, []
        return [(self._numbers[place], number) for place, number in adopted]

    def take_gone(self, before: int) -> list[int]:
        """With `sync`, the ids below `before` of documents that are in the sources no more, once all others were removed.

        Of a source that is in doubt none are gone: those that did not come by are counted as kept.
        """
        certain = self._settle_files()
        if self._kept is None:
            return []
        held = np.array(list(self._held_ids()), dtype=np.int64)
        spared = np.concatenate([np.frombuffer(self._kept, dtype=np.int64), held])
        gone: list[int] = []
        for number, sure in zip(self._numbers, certain, strict=True):
            there = store.ids_below(self._connection, before, number)
            absent = np.setdiff1d(there, spared).tolist()
            documents = len(set(store.read_doc_ids(self._connection, absent).values()))
            self._counts["removed" if sure else "kept"] = self._counts.get("removed" if sure else "kept", 0) + documents
            gone += absent if sure else []
        self.kept = self._counts.pop("kept", 0)
        self._count_unknown(np.setdiff1d(store.ids_below(self._connection, before, None), spared).tolist())
        return sorted(gone)

    def report(self) -> ChangeReport:
        """How many documents were compared, by outcome."""
        return ChangeReport(**self._counts)

    def _begin(self, doc_id: str) -> None:
        self._doc_id = doc_id
        self._old = {} if self._empty else self._stored(doc_id)
        self._known = bool(self._old)
        owner = next(iter(self._old.values())).source if self._old else None
        if not self._incoming:
            if self._old:
                self._owners[doc_id] = owner
            return
        if self._old and owner not in (None, self._numbers[self._at]):
            raise self._clash(doc_id, store.source_name(self._connection, owner))
        if self._claims is not None and (first := self._claims.add(doc_id, self._at)) != self._at:
            raise self._clash(doc_id, self._incoming[first].source.name)

    def _stored(self, doc_id: str) -> dict[str, store.StoredPassage]:
        """A document's passages in the index, those under its id of before included, which it replaces."""
        old = store.passages_of(self._connection, doc_id, self._column)
        former = self._incoming[self._at].former_id(doc_id) if self._incoming else None
        if former is not None:
            there = store.passages_of(self._connection, former, self._column)
            old |= {name: one for name, one in there.items() if one.source in (None, self._numbers[self._at])}
        return old

    def _clash(self, doc_id: str, other: str) -> WrongInput:
        this = self._incoming[self._at].source.name
        remedy = f", or, if it is the same corpus, `name` {other}" if other != BY_HAND_NAME else ""
        return WrongInput(
            f"the id {doc_id!r} of {this} belongs to a document from {other}: nothing was changed; give {this} an `id_prefix`"
            f"{remedy}"
        )

    def _settle_files(self) -> list[bool]:
        """Note which files gave documents; for each source, whether what did not come by is gone for certain."""
        certain = []
        for number, each in zip(self._numbers, self._incoming, strict=False):
            assert number is not None  # since enlist
            before = store.read_source_files(self._connection, number)
            doubts = each.doubts(before)
            kept = before if doubts or self._kept is None else set()
            store.write_source_files(self._connection, number, before, each.files | kept)
            self.doubts += doubts if self._kept is not None else []
            certain.append(not doubts)
        return certain if self._incoming else [True]

    def _count_unknown(self, unknown: list[int]) -> None:
        """Documents from before sources were kept stay, as long as none of the sources has claimed them."""
        documents = len(set(store.read_doc_ids(self._connection, unknown).values()))
        if documents:
            self.kept += documents
            self.doubts.append(f"{documents:,} documents are from {UNKNOWN_NAME}")

    def _held_ids(self) -> set[int]:
        return {number for ids in self.held.values() for number in ids}
