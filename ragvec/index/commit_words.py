"""What a commit does to the words: written before the index's transaction ends, and part of the index only through it."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from ragvec.index import store
from ragvec.index.layout import WORDS_NAME, WORDS_STAGING_NAME
from ragvec.index.words import WordsRecord, WordWriter, guess_language
from ragvec.records import Passage

_BLOCK = 4096  # passages that are read at a time


class CommitWords:
    """The words that one transaction adds and takes out; passages are removed and altered in the tables with them."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, *, anew: bool = False) -> None:
        """anew: not what an earlier commit wrote, but the words of all passages, once `finish` is called."""
        self._connection = connection
        self._anew = anew
        self._language = store.read_settings(connection).language
        self._record = WordsRecord() if anew else store.read_words(connection)
        self._folders = folder / WORDS_NAME, folder / WORDS_STAGING_NAME
        self._made: WordWriter | None = None

    def add(self, ids: Sequence[int], passages: Sequence[Passage]) -> None:
        """Make passages findable by their words; the first ones say what the index's language is, if nobody has."""
        if not self._anew:
            self._writer(passages).add(ids, passages)

    def delete_passages(self, ids: Sequence[int]) -> None:
        """Remove passages, and their words."""
        store.delete_passages(self._connection, ids)
        if len(ids) and not self._anew:
            self._writer().delete(ids)

    def update_passages(self, changes: Sequence[tuple[int, Passage]]) -> None:
        """Take over titles, texts and metadata; see the store's. Words that moved into a title, or out of it, count anew."""
        titles = store.read_titles(self._connection, [number for number, _ in changes])
        store.update_passages(self._connection, changes)
        retitled = [] if self._anew else [change for change in changes if titles[change[0]] != change[1].title]
        if retitled:
            ids = [number for number, _ in retitled]
            self._writer().delete(ids)
            self._writer().add(ids, [passage for _, passage in retitled])

    def finish(self) -> None:
        """Put the words' files in place, and note them in the transaction."""
        if self._anew:
            self._anew = False
            passages = store.all_passages(self._connection)
            while block := [pair for _, pair in zip(range(_BLOCK), passages, strict=False)]:
                self.add([number for number, _ in block], [passage for _, passage in block])
            store.write_words(self._connection, WordsRecord() if self._made is None else self._made.finish())
        elif self._made is not None:
            store.write_words(self._connection, self._made.finish())

    def discard(self) -> None:
        """Leave the words as they were."""
        if self._made is not None:
            self._made.discard()

    def _writer(self, first: Sequence[Passage] = ()) -> WordWriter:
        if self._made is None:
            if self._language is None:
                self._language = guess_language([passage.encoded_text for passage in first])
                store.write_value(self._connection, "language", self._language)
            self._made = WordWriter(*self._folders, self._record, self._language)
        return self._made
