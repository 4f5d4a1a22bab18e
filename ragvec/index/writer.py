"""Writing: every change is files on disk first, then one SQLite transaction; a kill at any point leaves the last commit."""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import numpy as np

from ragvec.errors import Damaged, RagvecError, Unavailable
from ragvec.index import store
from ragvec.index.ann.choice import AUTO_KEY, plan_keys
from ragvec.index.changes import Changes
from ragvec.index.connect import connection_to_write, readable_errors
from ragvec.index.layout import remove_segment, segment_folder, segment_folders
from ragvec.index.lock import writer_lock
from ragvec.index.segment import Segment, SegmentWriter
from ragvec.index.store import IndexSettings
from ragvec.index.where import parse_where
from ragvec.records import Passage

COPY_ROWS = 8192
MERGE_FACTOR = 16  # so many segments of one size become one of the next
MERGE_SIZES = (1, MERGE_FACTOR, MERGE_FACTOR**2)  # rows from which a segment is of each size; larger ones wait for `compact`

_log = logging.getLogger("ragvec")


class Writer:
    """The one process that may change an index. Made by `writing`, which holds the lock meanwhile."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, place: tuple[int, int] | None) -> None:
        self.folder = folder
        self.connection = connection
        self.settings = store.read_settings(connection)
        self._place = place

    def commit(
        self,
        blocks: Iterable[tuple[Sequence[Passage], np.ndarray]],
        changes: Changes,
        *,
        cutting: tuple[int, int] | None = None,
    ) -> None:
        """Add passages with their vectors as one new segment, and carry out the changes that made them necessary.

        blocks   passages and their vectors (n, dimension), block by block
        cutting  passage_tokens and overlap by which documents are cut from now on; None = as before
        """
        with self._transaction(), self._new_segment() as segment:
            changes.enlist()
            first = store.read_count(self.connection, "next_id")
            for passages, vectors in blocks:
                store.delete_passages(self.connection, changes.take_stale())  # first: new passages take over their ids' names
                ids = self._take_ids(len(passages))
                segment.append(vectors, ids)
                store.insert_passages(self.connection, ids.tolist(), passages, changes.sources_of(passages))
            store.delete_passages(self.connection, changes.take_stale())
            store.note_sources(self.connection, changes.take_adopted())
            store.delete_passages(self.connection, changes.take_gone(first))
            store.update_passages(self.connection, changes.take_updates())
            if cutting:
                store.write_cutting(self.connection, *cutting)
            if segment.rows:
                store.insert_segment(self.connection, segment.finish(self.settings))
        self._merge_small()

    def delete(self, doc_ids: Sequence[str]) -> int:
        """Remove documents; returns how many of them were there."""
        deleted = 0
        with self._transaction():
            for doc_id in dict.fromkeys(doc_ids):
                ids = [old.id for old in store.passages_of(self.connection, doc_id).values()]
                store.delete_passages(self.connection, ids)
                deleted += bool(ids)
        return deleted

    def documents_where(self, where: str) -> list[str]:
        """The doc_ids of all passages that meet a filter."""
        return documents_where(self.connection, where)

    def compact(self, settings: IndexSettings | None = None) -> None:
        """Merge all segments into one without the deleted rows, and give their space on disk back.

        A single segment whose kind of index an older ragvec chose gets the one that would be chosen today.
        settings  with another way to search (faiss_key, recall_target, max_memory), which is kept; None = as it was
        """
        changed = settings not in (None, self.settings)
        dead = store.read_tombstones(self.connection)
        old = self._open(store.read_segments(self.connection))
        as_it_is = len(old) <= 1 and not len(dead) and not changed and all(map(self._is_current, old))
        if as_it_is and not store.words_left(self.connection):
            return
        with self._transaction():
            if not as_it_is:
                self._merge_all(settings if changed else None, old, dead)
            store.recount_fields(self.connection)
            store.tidy_words(self.connection)
        store.give_back_space(self.connection)
        sweep(self.folder, self.connection)

    def _merge_all(self, settings: IndexSettings | None, old: list[Segment], dead: np.ndarray) -> None:
        if settings is not None:
            self.settings = settings
            store.write_search_settings(self.connection, settings)
        with self._new_segment() as merged:
            for vectors, ids in _live_blocks(old, dead):
                merged.append(vectors, ids)
            store.drop_segments(self.connection)
            if merged.rows:
                store.insert_segment(self.connection, merged.finish(self.settings))

    def _is_current(self, segment: Segment) -> bool:
        """Whether a segment is searched as it would be if it were written now."""
        wanted, record = self.settings, segment.record
        if wanted.faiss_key != AUTO_KEY:
            return True
        keys = plan_keys(record.rows, wanted.dimension, max_memory=wanted.max_memory, normalized=wanted.normalized)
        return record.faiss_key in keys

    def _merge_small(self) -> None:
        """Merge the newest segments where many commits of few rows have left many: a hundred at most remain below 4,096 rows.

        The commit before is not undone if that fails.
        """
        records = store.read_segments(self.connection)
        tail = small_tail([record.rows for record in records])
        if not tail:
            return
        try:
            old = self._open(records[-tail:])
            with self._transaction(), self._new_segment() as merged:
                for vectors, ids in _live_blocks(old, store.read_tombstones(self.connection)):
                    merged.append(vectors, ids)
                store.drop_segments(self.connection, old[0].record.number, int(old[0].ids[0]))
                if merged.rows:
                    store.insert_segment(self.connection, merged.finish(self.settings))
            sweep(self.folder, self.connection)
        except (RagvecError, sqlite3.Error, OSError, MemoryError) as error:
            _log.warning("small segments stay apart for now: %s", error)

    def _open(self, records: Sequence[store.SegmentRecord]) -> list[Segment]:
        try:
            return [Segment(self.folder, record, self.settings.dimension) for record in records]
        except FileNotFoundError as error:
            raise Damaged(f"index {self.folder} is damaged, {error.filename} is missing: restore it") from error

    def _take_ids(self, rows: int) -> np.ndarray:
        first = store.read_count(self.connection, "next_id")  # never an id twice: a reader's cache may still hold the old one
        store.write_value(self.connection, "next_id", first + rows)
        return np.arange(first, first + rows, dtype=np.int64)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            if not store.has_sources(self.connection):
                store.migrate(self.connection)
            before = self.connection.total_changes
            yield
            if self.connection.total_changes > before:
                store.write_value(self.connection, "generation", store.read_generation(self.connection) + 1)
            self.check_place()
            self.connection.execute("COMMIT")
        except OSError as error:
            self.connection.execute("ROLLBACK")
            raise Unavailable(f"index {self.folder} could not be written, and is as it was: {error}") from error
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    @property
    def in_place(self) -> bool:
        """Whether the folder still is that of this index: if it was replaced, nothing in it may be touched."""
        return store.database_identity(self.folder) == self._place

    def check_place(self) -> None:
        """Raises RagvecError if it is not."""
        if not self.in_place:
            raise Unavailable(f"index {self.folder} was moved or replaced while it was being changed: it is as it was")

    @contextmanager
    def _new_segment(self) -> Iterator[SegmentWriter]:
        self.check_place()
        number = store.read_count(self.connection, "next_segment")
        segment = SegmentWriter(self.folder, number, self.settings.dimension)
        try:
            yield segment
        except BaseException:
            segment.discard() if self.in_place else segment.close()
            raise
        if segment.rows:
            store.write_value(self.connection, "next_segment", number + 1)
        else:
            segment.discard()


def documents_where(connection: sqlite3.Connection, where: str) -> list[str]:
    """The doc_ids of all passages that meet a filter, in order."""
    ids = store.matching_ids(connection, parse_where(where, store.read_fields(connection))).tolist()
    return sorted(set(store.read_doc_ids(connection, ids).values()))


def small_tail(rows: Sequence[int]) -> int:
    """How many of the newest segments are to become one, given the rows of each, oldest first; 0 = none.

    They are when 16 of them have 1–15 rows, or 16–255, or 256–4,095, and none of them more: so a row is copied three times.
    """
    for least in MERGE_SIZES:
        tail = list(takewhile((least * MERGE_FACTOR).__gt__, reversed(rows)))
        if sum(count >= least for count in tail) >= MERGE_FACTOR:
            return len(tail)
    return 0


@contextmanager
def writing(folder: Path) -> Iterator[Writer]:
    """The writer of an index, under its lock, with what dead writers left behind swept away.

    Raises RagvecError, naming the holder, if another writer lives.
    """
    place = store.database_identity(folder)
    with readable_errors(folder), writer_lock(folder), connection_to_write(folder) as connection:
        writer = Writer(folder, connection, place)
        writer.check_place()
        sweep(folder, connection)
        yield writer


def sweep(folder: Path, connection: sqlite3.Connection) -> None:
    """Remove segments that no commit knows, and nothing else. Readers that have them open keep their maps."""
    known = {segment_folder(folder, record.number).name for record in store.read_segments(connection)}
    for path in segment_folders(folder):
        if path.name not in known:
            remove_segment(path)


def _live_blocks(segments: list[Segment], dead: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for segment in segments:
        for start in range(0, segment.record.rows, COPY_ROWS):
            ids = segment.ids[start : start + COPY_ROWS]
            live = ~np.isin(ids, dead, assume_unique=True)
            yield segment.vectors[start : start + COPY_ROWS][live], ids[live]
