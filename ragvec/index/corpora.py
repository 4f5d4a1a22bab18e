"""Corpora into an index through Python: `Index.add_folder`."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragvec.corpus import Rejected
from ragvec.corpus.passages import CorpusOptions, open_documents, passages_of
from ragvec.index import store
from ragvec.index.changes import ChangeReport, Changes
from ragvec.index.origins import incoming_sources

if TYPE_CHECKING:
    from ragvec.index.index import Index

_log = logging.getLogger("ragvec")


def add_corpus(
    index: "Index",
    corpus: str | Path,
    reading: CorpusOptions | None,
    *,
    sync: bool,
    on_unread: Callable[[Rejected], None] | None,
) -> ChangeReport:
    """Bring the documents of a corpus, as a source of its own, into an index in one commit.

    reading    how files are read; None = by the usual names. Documents are cut as the index says
    sync       remove documents that came from it and are there no more
    on_unread  called with each file that can't be read and gave no document; None = they are named in a warning
    What is new is encoded in memory, all at once: `ragvec index` is for corpora of millions.
    Raises RagvecError, and changes nothing, for a folder without documents and for an id of another source.
    """
    with index.writing() as writer:
        connection, settings = writer.connection, writer.settings
        reading = replace(reading or CorpusOptions(), passage_tokens=settings.passage_tokens, overlap=settings.overlap)
        known = list(store.read_sources(connection).values())
        [incoming] = incoming_sources(
            [corpus],
            known,
            filled=bool(store.count(connection) or known),
            taken=lambda doc_id: bool(store.passages_of(connection, doc_id, "NULL")),
            sync=sync,
            files=reading.files,
        )
        documents = open_documents(
            corpus,
            reading,
            id_prefix=incoming.source.id_prefix,
            made_prefix=incoming.source.made_prefix,
            on_unread=on_unread or _warn,
            on_found=incoming.files.add,
        )
        cutting = index.encoder if reading.passage_tokens else None
        changes = Changes(connection, incoming=[incoming], sync=sync)
        fresh = list(changes.fresh_of([passages_of(documents, reading, cutting, settings.document_instruction)]))
        writer.commit([(fresh, index.encode(fresh))] if fresh else [], changes)
    return changes.report()


def _warn(unread: Rejected) -> None:
    _log.warning("passed over: %s", unread.error)
