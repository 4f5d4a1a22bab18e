"""Writing: every change is files on disk first, then one SQLite transaction; a kill at any point leaves the last commit."""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ragvec.errors import Damaged, RagvecError, Unavailable
from ragvec.index import store
from ragvec.index.ann.choice import AUTO_KEY, plan_keys
from ragvec.index.changes import Changes
from ragvec.index.commit_words import CommitWords
from ragvec.index.connect import connection_to_write, readable_errors
from ragvec.index.layout import WORDS_NAME, WORDS_STAGING_NAME, remove_segment, segment_folder, segment_folders
from ragvec.index.lock import writer_lock
from ragvec.index.merging import merging_tail
from ragvec.index.nearness import measure_near
from ragvec.index.segment import Segment, SegmentWriter, live_rows
from ragvec.index.store import IndexSettings
from ragvec.index.where import parse_where
from ragvec.index.words import remove_staging, sweep_words
from ragvec.records import FilterValues, Passage

COPY_ROWS = 8192

_log = logging.getLogger("ragvec")


class Writer:
    """The one process that may change an index. Made by `writing`, which holds the lock meanwhile."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, place: tuple[int, int] | None) -> None:
        self.folder = folder
        self.connection = connection
        self.settings = store.read_settings(connection)
        self._place = place
        self._outdated = False  # whether the transaction brings an older format to today's

    def commit(
        self,
        blocks: Iterable[tuple[Sequence[Passage], np.ndarray]],
        changes: Changes,
        *,
        cutting: tuple[int | None, int] | None = None,
        own_vectors: bool = False,
    ) -> None:
        """Add passages with their vectors as one new segment, and carry out the changes that made them necessary.

        What an encoder makes of a text that shows nothing is near any query that says nothing: no segment holds it.
        blocks   passages and their vectors (n, dimension), block by block
        cutting  passage_tokens and overlap by which documents are cut from now on; None = as before
        own_vectors  they were not made of the texts: empty ones have theirs too
        """
        with self._transaction(), self._new_segment() as segment, self._new_words() as words:
            changes.enlist()
            first = store.read_count(self.connection, "next_id")
            for passages, vectors in blocks:
                words.delete_passages(changes.take_stale())  # first: new passages take over their ids' names
                ids = self._take_ids(len(passages))
                segment.append(*((vectors, ids) if own_vectors else _telling(passages, vectors, ids)))
                store.insert_passages(self.connection, ids.tolist(), passages, changes.sources_of(passages))
                words.add(ids.tolist(), passages)
            words.delete_passages(changes.take_stale())
            store.note_sources(self.connection, changes.take_adopted())
            words.delete_passages(changes.take_gone(first))
            words.update_passages(changes.take_updates())
            if cutting:
                store.write_cutting(self.connection, *cutting)
            if segment.rows:
                store.insert_segment(self.connection, segment.finish(self.settings))
            self._measure_near()
        self._sweep_words()
        self._merge_newest()

    def holds(self, number: int, vector: np.ndarray) -> bool:
        """Whether the vector of a passage, of an earlier commit, is this one (dimension,), as it is stored."""
        for segment in self._before:
            [row], [here] = segment.locate(np.array([number]))
            if here:
                return bool(np.array_equal(segment.vectors[row], vector.astype(np.float16)))
        return False

    @cached_property
    def _before(self) -> list[Segment]:
        return self._open(store.read_segments(self.connection))

    def delete(self, doc_ids: Sequence[str]) -> int:
        """Remove documents; returns how many of them were there."""
        deleted = 0
        with self._transaction(), self._new_words() as words:
            for doc_id in dict.fromkeys(doc_ids):
                there = store.passages_of(self.connection, store.spelled(self.connection, doc_id))
                ids = [old.id for old in there.values()]
                words.delete_passages(ids)
                deleted += bool(ids)
        self._sweep_words()
        return deleted

    def documents_where(self, where: str, values: FilterValues | None = None) -> list[str]:
        """The doc_ids of all passages that meet a filter."""
        return documents_where(self.connection, where, values)

    def compact(self, settings: IndexSettings | None = None) -> None:
        """Merge all segments into one without the deleted rows, and give their space on disk back; no word of theirs remains.

        A single segment whose kind of index an older ragvec chose gets the one that would be chosen today.
        settings  with another way to search (faiss_key, recall_target, max_memory), other filter_fields or another language,
                  which are kept; None = as it was
        """
        wanted = {} if settings is None else {key: getattr(settings, key) for key in store.SEARCH_SETTINGS}
        changed = any(getattr(self.settings, key) != value for key, value in wanted.items())
        dead = store.read_tombstones(self.connection)
        old = self._open(store.read_segments(self.connection))
        as_it_is = len(old) <= 1 and not len(dead) and not changed and all(map(self._is_current, old))
        stale = not store.is_current(self.connection) or store.read_words(self.connection).deleted > 0
        fields = self.settings.filter_fields if settings is None else settings.filter_fields
        language = None if settings is None or settings.language == self.settings.language else settings.language
        if as_it_is and not stale and not language and fields == self.settings.filter_fields:
            return
        with self._transaction(), self._stemmed_by(language), self._new_words(anew=stale or language is not None):
            if fields != self.settings.filter_fields:
                self.settings = replace(self.settings, filter_fields=fields)
                store.write_filter_fields(self.connection, fields)
                store.renew_values(self.connection)
                tell_unfilled(self.connection)
            if not as_it_is:
                self._merge_all(wanted if changed else {}, old, dead)
            store.recount_fields(self.connection)
            self._measure_near()
        store.give_back_space(self.connection)
        sweep(self.folder, self.connection)

    def _measure_near(self) -> None:
        """Measure from where on passages are near, where the index has become half or twice what it was."""
        records, dead = store.read_segments(self.connection), store.read_tombstones(self.connection)
        # of empty texts that were deleted no segment held a row
        passages = max(0, sum(record.rows for record in records) - len(dead))
        before = store.read_near(self.connection).passages
        if 2 * before < passages or 2 * passages < before:
            segments = self._open(records)
            near = measure_near(segments, [live_rows(segment, dead) for segment in segments])
            store.write_near(self.connection, store.Nearness(near, passages))

    @contextmanager
    def _stemmed_by(self, language: str | None) -> Iterator[None]:
        """Note, in a transaction, the language that words are stemmed by from now on; None = as before."""
        if language is not None:
            store.write_value(self.connection, "language", language)
        yield
        if language is not None:
            self.settings = replace(self.settings, language=language)

    def _merge_all(self, wanted: dict[str, Any], old: list[Segment], dead: np.ndarray) -> None:
        if wanted:
            self.settings = replace(self.settings, **wanted)
            store.write_search_settings(self.connection, self.settings)
        self._replace(old, dead)

    def _replace(self, old: Sequence[Segment], dead: np.ndarray, *since: int) -> None:
        """Have one segment, in a transaction, in place of several, without the rows that are dead.

        since  the first one's number and its first id, as `drop_segments` takes them; none = all segments go
        """
        with self._new_segment() as merged:
            for vectors, ids in _live_blocks(old, dead):
                merged.append(vectors, ids)
            store.drop_segments(self.connection, *since)
            if merged.rows:
                store.insert_segment(self.connection, merged.finish(self.settings))

    def _is_current(self, segment: Segment) -> bool:
        """Whether a segment is searched as it would be if it were written now."""
        wanted, record = self.settings, segment.record
        if wanted.faiss_key != AUTO_KEY:
            return True
        keys = plan_keys(record.rows, wanted.dimension, max_memory=wanted.max_memory, normalized=wanted.normalized)
        return record.faiss_key in keys

    def _merge_newest(self) -> None:
        """Merge the newest segments where commits have left more than a search should look through.

        The commit before is not undone if that fails.
        """
        records = store.read_segments(self.connection)
        tail = merging_tail([record.rows for record in records], self.settings.dimension, self.settings.faiss_key)
        if not tail:
            return
        _log.info("merging %d segments of %d passages in all", tail, sum(record.rows for record in records[-tail:]))
        try:
            old = self._open(records[-tail:])
            with self._transaction():
                since = old[0].record.number, int(old[0].ids[0])
                self._replace(old, store.read_tombstones(self.connection), *since)
            sweep(self.folder, self.connection)
        except (RagvecError, sqlite3.Error, OSError, MemoryError) as error:
            _log.warning("segments stay apart for now: %s", error)

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
            self._outdated = not store.is_current(self.connection)
            if self._outdated:
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

    def _sweep_words(self) -> None:
        """Remove what the last commit made superfluous: the words of what it deleted, where parts were merged."""
        if self.in_place:
            sweep_words(self.folder / WORDS_NAME, store.read_words(self.connection))

    @contextmanager
    def _new_words(self, *, anew: bool = False) -> Iterator[CommitWords]:
        """The words of a transaction, which are part of it once the block has ended well.

        anew  write those of all passages again; an index of an older format has none
        """
        words = CommitWords(self.folder, self.connection, anew=anew or self._outdated)
        try:
            yield words
            self.check_place()
            words.finish()
        except BaseException as error:
            if self.in_place:
                words.discard()
            elif isinstance(error, RagvecError):
                self.check_place()  # which is why
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


def _telling(passages: Sequence[Passage], vectors: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vectors and ids of those passages that are not empty."""
    telling = np.array([not passage.is_empty for passage in passages], dtype=bool)
    return (vectors, ids) if telling.all() else (vectors[telling], ids[telling])


def documents_where(connection: sqlite3.Connection, where: str, values: FilterValues | None = None) -> list[str]:
    """The doc_ids of all passages that meet a filter, in order."""
    ids = store.matching_ids(connection, parse_where(where, store.read_fields(connection), values)).tolist()
    return sorted(set(store.read_doc_ids(connection, ids).values()))


def tell_unfilled(connection: sqlite3.Connection) -> None:
    """Warn of filter_fields that no document has a value in: a misspelt one keeps nothing."""
    for name in store.unfilled_fields(connection):
        _log.warning("no document of the index has a value in the field %r of `filter_fields`: check its name", name)


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
    """Remove segments and words that no commit knows, and nothing else. Readers that have them open keep their maps."""
    known = {segment_folder(folder, record.number).name for record in store.read_segments(connection)}
    for path in segment_folders(folder):
        if path.name not in known:
            remove_segment(path)
    remove_staging(folder / WORDS_STAGING_NAME)
    if store.is_current(connection):
        sweep_words(folder / WORDS_NAME, store.read_words(connection))


def _live_blocks(segments: Sequence[Segment], dead: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for segment in segments:
        for start in range(0, segment.record.rows, COPY_ROWS):
            ids = segment.ids[start : start + COPY_ROWS]
            live = ~np.isin(ids, dead, assume_unique=True)
            yield segment.vectors[start : start + COPY_ROWS][live], ids[live]
