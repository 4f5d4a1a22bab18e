"""Opening tantivy over a record's files, writing through it, and its errors in one line."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ragvec.errors import Damaged, Unavailable, first_line
from ragvec.files import fsync_folder, is_own_folder, remove_own, settle_file, sha256_file
from ragvec.index.words.analysis import folded_words
from ragvec.index.words.files import (
    ID,
    TITLE,
    TOKENIZER,
    WORDS,
    WordFile,
    WordsRecord,
    check_files,
    is_words_file,
    link_files,
    linked,
    new_files,
    read_meta,
    schema,
)
from ragvec.index.words.language import analyzer, further_words
from ragvec.records import Passage

if TYPE_CHECKING:
    import tantivy

_HEAP = 64 << 20  # bytes of words that each writer holds in memory before a part of the index is written
_WRITERS = 2  # that passages are dealt out to: one takes twice as long for a passage as it takes to hand it over
_DEALT = 8192  # passages in a row that one writer gets: who adds fewer has one
_DELETED = 1000  # passages that are taken out together
_OTHER = re.compile(r"meta\.json|\.managed\.json|\.tantivy-(?:meta|writer)\.lock|\.tmp\w+")  # in a folder it works in
_PANIC = "PanicException"  # pyo3's; it has no name to import it by


def opened(folder: Path, record: WordsRecord, known: Mapping[str, WordFile]) -> "tantivy.Searcher":
    """What searches the words of a record; the files stay open in it, whatever happens to the folder.

    known  files that were found to be as written before
    """
    with linked([(folder, record)]) as place, readable():
        check_files(folder, {name: file for name, file in record.files.items() if known.get(name) != file})
        return _searcher(place)


def opened_together(places: Sequence[tuple[Path, WordsRecord]]) -> "tantivy.Searcher":
    """What searches the words of several indices as those of one, whose files each index has found to be as written.

    Its segments are theirs, in their order; what it knows of frequencies and lengths is of all of them.
    """
    with linked(places) as place, readable():
        return _searcher(place)


def _searcher(place: Path) -> "tantivy.Searcher":
    import tantivy

    index = tantivy.Index.open(str(place))
    index.config_reader("manual")  # nobody writes there: nothing to watch
    return index.searcher()


@contextmanager
def readable() -> Iterator[None]:
    """Turn what tantivy says of files that it can't read into one line."""
    try:
        yield
    except ValueError as error:
        raise Damaged(
            f"the index's words can't be read ({first_line(error)}): restore it, or remove it and build it again"
        ) from error
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        raise Damaged("the words of the index are damaged: restore it, or remove it and build it again") from error


class WordWriter:
    """Adds words to a record's, and takes words out, in a folder of its own; nothing is seen of it before `finish`."""

    def __init__(self, folder: Path, staging: Path, record: WordsRecord, language: str) -> None:
        """folder: where the record's files lie and new ones go; staging: where to work, beside it."""
        self._folder, self._staging, self._record, self._language = folder, staging, record, language
        self._writers: list[tantivy.IndexWriter] = []
        self._added = 0

    def add(self, ids: Sequence[int], passages: Sequence[Passage]) -> None:
        """Make passages findable by their words, under these ids."""
        import tantivy

        with self._failing():
            for number, passage in zip(ids, passages, strict=True):
                writer = self._begun(self._added // _DEALT % _WRITERS)
                self._added += 1
                document = tantivy.Document()
                document.add_unsigned(ID, number)
                document.add_text(WORDS, self._words(passage.encoded_text))
                if passage.title:
                    document.add_text(TITLE, self._words(passage.title))
                writer.add_document(document)

    def _words(self, text: str) -> str:
        words = folded_words(text)
        return " ".join([words, *further]) if (further := further_words(text, self._language)) else words

    def delete(self, ids: Sequence[int]) -> None:
        """Let passages be found no more."""
        if not len(ids):
            return
        import tantivy

        self._begun(0)  # which has the passages of earlier commits
        fields = schema()
        with self._failing():
            for start in range(0, len(ids), _DELETED):  # by a query: tantivy takes a term's number for another type
                these = tantivy.Query.term_set_query(fields, ID, list(ids[start : start + _DELETED]))
                for writer in self._writers:
                    writer.delete_documents_by_query(these)

    @property
    def changed(self) -> bool:
        """Whether there is anything to finish."""
        return bool(self._writers)

    def finish(self) -> WordsRecord:
        """Put what is new on disk beside the record's files; returns the record to be noted in the index's transaction."""
        self._begun(0)
        with self._failing():
            for writer in self._writers:
                writer.commit()
            for writer in self._writers:
                writer.wait_merging_threads()
        self._folder.mkdir(exist_ok=True)
        parts = [self._put_in_place(self._place(number)) for number in range(len(self._writers))]
        fsync_folder(self._folder)
        self.discard()
        segments = tuple(segment for part in parts for segment in part.segments)
        files = {name: file for part in parts for name, file in part.files.items()}
        return WordsRecord(segments, max(part.opstamp for part in parts), files)

    def _put_in_place(self, place: Path) -> WordsRecord:
        """Move what one of the writers has written to the record's files; returns what is known of all that it has."""
        segments, opstamp = read_meta(place)
        files = {}
        fresh = {path.name for path in new_files(place, segments)}
        for name in (name for segment in segments for name in segment.names):
            path = place / name
            if name not in fresh:
                files[name] = self._record.files[name]
                continue
            settle_file(path)
            files[name] = WordFile(path.stat().st_size, sha256_file(path))
            path.replace(self._folder / name)
        return WordsRecord(segments, opstamp, files)

    def discard(self) -> None:
        """Leave the words as they were."""
        self._writers = []
        remove_staging(self._staging)

    def _place(self, number: int) -> Path:
        return self._staging / str(number)

    def _begun(self, number: int) -> "tantivy.IndexWriter":
        """One of the writers, each in a folder of its own: the first goes on from the record, the others from nothing."""
        if number < len(self._writers):
            return self._writers[number]
        import tantivy

        place, goes_on = self._place(number), not number and bool(self._record.segments)
        if not number:
            remove_staging(self._staging)
            self._staging.mkdir()
        place.mkdir()
        if goes_on:
            link_files(self._folder, self._record, place)
            check_files(self._folder, self._record.files)  # what merges them runs in threads whose panic ends the process
        with self._failing():
            index = tantivy.Index.open(str(place)) if goes_on else tantivy.Index(schema(), path=str(place))
            index.register_tokenizer(TOKENIZER, analyzer(self._language))
            index.config_reader("manual")
            self._writers.append(index.writer(_HEAP, 1))
        return self._writers[number]

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise Unavailable(f"the words of the index could not be written: {first_line(error)}") from error
        except BaseException as error:
            if type(error).__name__ != _PANIC:
                raise
            raise Damaged("the words of the index are damaged: restore it, or remove it and build it again") from error


def remove_staging(staging: Path) -> None:
    """Remove what a writer was working at; links in it are not followed."""
    for folder in (*(staging / str(number) for number in range(_WRITERS)), staging):
        if is_own_folder(staging) and is_own_folder(folder):
            remove_own(folder, tuple(path.name for path in folder.iterdir() if _is_tantivys(path.name)))
    if is_own_folder(staging):
        raise Damaged(f"{staging} holds something that ragvec did not write there: move it away")


def sweep_words(folder: Path, record: WordsRecord) -> None:
    """Remove files of words that no commit knows, and nothing else. Readers that have them open keep their maps."""
    if not is_own_folder(folder):
        return
    for path in folder.iterdir():
        if is_words_file(path.name) and path.name not in record.files:
            with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                path.unlink()


def _is_tantivys(name: str) -> bool:
    return is_words_file(name) or _OTHER.fullmatch(name) is not None
