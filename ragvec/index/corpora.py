"""Corpora into an index through Python: `Index.add_folder`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragvec.arguments import folder, wrong_type
from ragvec.artefacts import DATABASE_NAME
from ragvec.corpus import Rejected
from ragvec.corpus.passages import CorpusOptions, open_documents, passages_of, usually_cut
from ragvec.corpus.remarks import FirstFew
from ragvec.errors import NoDocuments
from ragvec.index import store
from ragvec.index.changes import ChangeReport, Changes
from ragvec.index.origins import incoming_sources

if TYPE_CHECKING:
    from ragvec.index.index import Index
    from ragvec.index.store import IndexSettings

Cutting = tuple[int | None, int] | None


def cut_as_before(settings: "IndexSettings", reading: CorpusOptions) -> CorpusOptions:
    """How a corpus is read, and cut: as is asked for or, where nothing is, as the index remembers."""
    if reading.passage_tokens is not None:
        return reading
    return replace(reading, passage_tokens=settings.passage_tokens, overlap=settings.overlap)


def new_cutting(settings: "IndexSettings", reading: CorpusOptions) -> Cutting:
    """How documents are cut from now on, to be noted with the commit; None = as before."""
    if reading.passage_tokens is None:
        return None
    wanted = reading.passage_tokens or None, reading.overlap
    return None if wanted == (settings.passage_tokens, settings.overlap) else wanted


@contextmanager
def kept_where_empty(path: Path, sync: bool) -> Iterator[None]:
    """Say of a corpus that has become empty that its documents stay: nobody knows whether it is, or its disk is elsewhere."""
    try:
        yield
    except NoDocuments as error:
        if not (sync and (path / DATABASE_NAME).exists()):
            raise
        stay = f"nothing was removed from {path}: if its documents are to go, `ragvec delete` removes them by id or filter"
        raise NoDocuments(f"{error}; {stay}") from error


def add_corpus(
    index: "Index",
    corpus: str | Path,
    reading: CorpusOptions | None = None,
    *,
    id_prefix: str | None = None,
    sync: bool = False,
    on_unread: Callable[[Rejected], None] | None = None,
) -> ChangeReport:
    """Bring the documents of a corpus, as a source of its own, into an index in one commit.

    reading    how files are read; None = by the usual names. Without passage_tokens documents are cut as the index says, in an
               empty one that says nothing as `usually_cut` does; with them, that is how they are cut from now on
    id_prefix  stands before each id; None = as before, see `incoming_sources`
    sync       remove documents that came from it and are there no more
    on_unread  called with each file, or row of one, that can't be read; None = warnings name the first ones and count the rest
    What is new is encoded in memory, all at once: `ragvec index` is for corpora of millions.
    Raises RagvecError, and changes nothing, for a folder without documents and for an id of another source.
    """
    folder("folder", corpus)
    if not isinstance(reading, CorpusOptions | None):
        raise wrong_type("reading", reading, "give CorpusOptions(text_fields=…)")
    with kept_where_empty(index.path, sync), index.writing() as writer:
        connection, settings = writer.connection, writer.settings
        reading = cut_as_before(settings, reading or CorpusOptions())
        known = list(store.read_sources(connection).values())
        filled = bool(store.count(connection) or known)
        if not filled:
            reading = usually_cut(reading, [corpus], index.encoder, settings.document_instruction)
        [incoming] = incoming_sources(
            [corpus],
            known,
            filled=filled,
            taken=lambda doc_id: bool(store.ids_of(connection, store.spelled(connection, doc_id))),
            id_prefix=id_prefix,
            sync=sync,
            files=reading.files,
        )

        passed_over = FirstFew("files or rows passed over")

        def note(unread: Rejected) -> None:
            incoming.note_unread(unread)
            if on_unread:
                on_unread(unread)
            else:
                passed_over.tell("passed over: %s", unread.error)

        documents = open_documents(
            corpus,
            reading,
            id_prefix=incoming.source.id_prefix,
            made_prefix=incoming.source.made_prefix,
            on_unread=note,
            on_found=incoming.files.add,
        )
        cutting = index.encoder if reading.passage_tokens else None
        changes = Changes(connection, incoming=[incoming], sync=sync)
        fresh = list(changes.fresh_of([passages_of(documents, reading, cutting, settings.document_instruction)]))
        passed_over.close()
        blocks = [(fresh, index.encode(fresh))] if fresh else []
        writer.commit(blocks, changes, cutting=new_cutting(settings, reading))
    return changes.report()
