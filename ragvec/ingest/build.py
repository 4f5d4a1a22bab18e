"""From a corpus or shards to an index, or to a newer version of one: `ragvec index`."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragvec.arguments import local_folder
from ragvec.artefacts import DATABASE_NAME, is_shards
from ragvec.corpus import Rejected
from ragvec.corpus.files import STDIN
from ragvec.corpus.passages import CorpusOptions, Expected, cut_for, open_documents, usually_cut
from ragvec.errors import NoDocuments, RagvecError, WrongInput, WrongUsage
from ragvec.index.changes import Changes
from ragvec.index.corpora import Cutting, cut_as_before, kept_where_empty, new_cutting
from ragvec.index.encoder import (
    check_fingerprint,
    check_instruction,
    lasting_source,
    load_encoder,
    own_if_none,
    settings_of,
    settings_without_encoder,
)
from ragvec.index.index import Index, check_new_folder
from ragvec.index.layout import ENCODING_NAME, remove_index
from ragvec.index.lock import writer_lock
from ragvec.index.origins import check_readable, incoming_sources
from ragvec.index.sources import DocumentSource, Incoming
from ragvec.index.store import IndexSettings, ids_of, read_sources, spelled
from ragvec.index.wanted import searched_by
from ragvec.ingest import encode_corpus
from ragvec.ingest.folder import remove_shards
from ragvec.ingest.meter import Total
from ragvec.ingest.own_vectors import index_vectors, reading_vectors
from ragvec.ingest.report import BuildReport, report_of
from ragvec.progress import progress_bar
from ragvec.records import Document, Passage
from ragvec.shards import Failure, Manifest, Shards

if TYPE_CHECKING:
    from ragvec.encoder.protocol import TextEncoder

BLOCK_ROWS = 4096

Blocks = Iterator[tuple[list[Passage], np.ndarray]]


def build(
    source: str | Path,
    path: Path,
    *,
    others: Sequence[str | Path] = (),
    name: str | None = None,
    id_prefix: str | None = None,
    encoder: "str | TextEncoder | None" = None,
    encoder_options: dict[str, Any] | None = None,
    document_instruction: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    offline: bool = False,
    search: dict[str, Any] | None = None,
    reading: CorpusOptions | None = None,
    on_reject: Callable[[Rejected], None] | None = None,
    on_unread: Callable[[Rejected], None] | None = None,
    sync: bool = False,
    show_progress: bool = False,
) -> BuildReport:
    """Bring the documents of a corpus, or the passages of shards, into an index; make the index if there is none.

    others           further corpora, each a source of its own; all go into one commit
    name             what the source is called in the index, instead of by its path: for a corpus that has moved
    id_prefix        stands before each id of the source, see `read_documents`; None = as before, see `incoming_sources`
    encoder          folder or hub id, or one that is loaded, for an index that is there; None = the one the index was built
                     with, or the bundled one for a new index
    encoder_options  arguments of `Encoder.load` that change vectors (revision, max_length); kept in the index
    document_instruction  read before every document; None = as the index has it, or, for a new one, the encoder's own
    offline          never ask the hub for a model, not even for one that the index names
    search           how a new index is searched, as `Index.create` explains it: faiss_key, recall_target, max_memory,
                     filter_fields, language
    reading          how a corpus is read and cut; None = fields by their usual names. Without passage_tokens it is cut as the
                     index's documents were, into a new index as `usually_cut` says; with them, that is how it is cut from now
                     on. With vector_field nothing is encoded:
                     a new index has the encoder that is named, which made the vectors, or none
    on_reject        called with each row that can't be read; None = the first one raises
    on_unread        called with what can't be read of a folder, see `read_documents`; None = the first one raises
    sync             remove documents that came from the source and are there no more; where anything of it could not be read,
                     and where one of several corpora is empty, they stay, and the report says why
    Raises RagvecError for bad input and for an index of another encoder; a new index is then not left behind.
    """
    started = time.monotonic()
    path = local_folder("path", path)
    reading = reading or CorpusOptions()
    loading = {"device": device, "dtype": dtype, "offline": offline}
    with _undone_on_failure(path), kept_where_empty(path, sync):
        emptied = sync and bool(others) and (path / DATABASE_NAME).exists()  # one of several may have become so
        corpora = [source, *others]
        _check_corpora(corpora, sync, reading, may_be_empty=emptied)
        if id_prefix is not None and is_shards(source):
            raise WrongUsage("shards hold ids already: leave `id_prefix` out, and give it to `ragvec encode`")
        incoming = _incoming(path, corpora, name=name, id_prefix=id_prefix, sync=sync, files=reading.files)
        if is_shards(source):
            if reading.vector_field is not None:
                raise WrongUsage("shards hold vectors already: leave `vector_field` out")
            report = _from_shards(
                Shards.open(source),
                path,
                incoming,
                search=search or {},
                reading=reading,
                sync=sync,
                show_progress=show_progress,
            )
        else:
            reading = reading_vectors(path, reading)
            streams = [_documents(*each, reading, (on_reject, on_unread)) for each in zip(corpora, incoming, strict=True)]
            if emptied:
                streams = [each.noting_empty(stream) for each, stream in zip(incoming, streams, strict=True)]
            first = _first(streams, incoming)  # a bad corpus shows before seconds are spent on loading an encoder
            dimension = None if first.vector is None else len(first.vector)
            making: dict[str, Any] = {"options": encoder_options or {}, "instruction": document_instruction}
            making |= {"search": search or {}, "dimension": dimension, "reading": reading, "corpora": corpora}
            with _open_or_create(path, encoder, making, loading) as index:
                expected = Expected(corpora, reading) if show_progress and not len(index) else None
                add = index_vectors if reading.vector_field else _index_documents
                report = add(
                    index, streams, incoming, reading=reading, sync=sync, expected=expected, show_progress=show_progress
                )
    return report._replace(seconds=time.monotonic() - started)


def index_passages(
    index: Index,
    passages: Iterable[Passage],
    *,
    total: int | None = None,
    show_progress: bool = False,
) -> BuildReport:
    """Encode what is not in the index as it is, through shards that survive an interruption, and commit it as one segment.

    The documents belong to no corpus, as those of `Index.add`.
    total  about how many passages there are, for the progress bar
    """
    return _index_streams(index, [passages], total=total, show_progress=show_progress)


def _index_documents(
    index: Index,
    streams: Sequence[Iterator[Document]],
    incoming: Sequence[Incoming],
    *,
    reading: CorpusOptions,
    expected: Expected | None,
    **how: Any,
) -> BuildReport:
    """Cut documents as is asked for, or as the index remembers, and encode them; how: as for `_index_streams`."""
    reading = cut_as_before(index.settings, reading)
    cutter = index.encoder if reading.passage_tokens else None
    instruction = index.settings.document_instruction
    passages = [cut_for(stream, reading, cutter, instruction, expected=expected) for stream in streams]
    how |= {"cutting": new_cutting(index.settings, reading), "total": expected}
    return _index_streams(index, passages, incoming=incoming, **how)


def _index_streams(
    index: Index,
    streams: Sequence[Iterable[Passage]],
    *,
    incoming: Sequence[Incoming] = (),
    sync: bool = False,
    cutting: Cutting = None,
    total: Total = None,
    show_progress: bool = False,
) -> BuildReport:
    with index.writing() as writer:
        changes = Changes(writer.connection, incoming=incoming, sync=sync)
        fresh = changes.fresh_of(streams)
        first = next(fresh, None)
        folder = index.path / ENCODING_NAME
        encoded = truncated = 0
        failed: tuple[Failure, ...] = ()
        if first is None:
            writer.commit([], changes, cutting=cutting)
        else:
            settings = index.settings
            report = encode_corpus(
                chain([first], fresh),
                index.encoder,
                folder,
                instruction=settings.document_instruction,
                normalize=settings.normalized,
                total=total,
                show_progress=show_progress,
            )
            encoded, truncated = report.rows, report.truncated
            shards = Shards.open(folder)
            failed = shards.manifest.failed
            changes.hold([failure.doc_id for failure in failed], compared=True)
            blocks = _without_held(shards.blocks(BLOCK_ROWS), changes)
            writer.commit(_counted(blocks, encoded, show_progress), changes, cutting=cutting)
        remove_shards(folder)
    return report_of(index, changes, incoming, encoded=encoded, truncated=truncated, failed=failed)


def _from_shards(
    shards: Shards,
    path: Path,
    incoming: list[Incoming],
    *,
    search: dict[str, Any],
    reading: CorpusOptions,
    sync: bool,
    show_progress: bool,
) -> BuildReport:
    manifest = shards.manifest
    is_new = not (path / DATABASE_NAME).exists()
    with Index.create_with(path, _settings_of_shards(manifest, search)) if is_new else Index.open(path) as index:
        check_fingerprint(
            index.settings,
            manifest.fingerprint,
            dimension=manifest.dimension,
            source=f"{shards.folder}, made by {manifest.provenance.source}",
        )
        _check_same_search(index, search)
        check_instruction(index.settings, manifest.instruction)
        cutting = new_cutting(index.settings, cut_as_before(index.settings, reading))
        incoming[0].rejected = manifest.rejected
        with index.writing() as writer:
            changes = Changes(writer.connection, incoming=incoming, sync=sync)
            changes.hold([failure.doc_id for failure in manifest.failed], compared=False)
            blocks = _counted(shards.blocks(BLOCK_ROWS), manifest.rows, show_progress)
            writer.commit(_fresh_rows(blocks, changes), changes, cutting=cutting)
        return report_of(index, changes, incoming, failed=manifest.failed)


def _settings_of_shards(manifest: Manifest, search: dict[str, Any]) -> IndexSettings:
    return IndexSettings(
        encoder_source=lasting_source(manifest.provenance.source),
        fingerprint=manifest.fingerprint,
        dimension=manifest.dimension,
        document_instruction=manifest.instruction,
        normalized=manifest.normalized,
        **search,
    )


def _open_or_create(path: Path, source: "str | TextEncoder | None", making: dict[str, Any], loading: dict[str, Any]) -> Index:
    """The index to fill; making: of a new one its options, instruction and search, the corpora, how they
    are read, and the dimension of vectors that are brought.

    One that exists loads its encoder only once there is something to encode, unless one is named.
    """
    options, instruction, search = making["options"], making["instruction"], making["search"]
    if source is not None and not isinstance(source, str):
        return Index.open(path, encoder=source)
    if (path / DATABASE_NAME).exists():
        index = Index.open(path, **loading)
        _check_same_search(index, search)
        check_instruction(index.settings, instruction)
        if not source and not options:
            return index
        with index:
            return Index.open(path, encoder=load_encoder(index.settings, source, **options, **loading))
    check_new_folder(path)  # before seconds are spent on loading an encoder
    if (dimension := making["dimension"]) is not None and not source:
        return Index.create_with(path, settings_without_encoder(dimension, document_instruction=instruction, **search))
    from ragvec.encoder import Encoder

    encoder = Encoder.load(source, **options, **loading)
    if dimension not in (None, encoder.dimension):
        raise WrongInput(
            f"the corpus' vectors have {dimension} numbers, {encoder.source} makes {encoder.dimension}: it did not make them"
        )
    reading = usually_cut(making["reading"], making["corpora"], encoder, own_if_none(encoder, instruction))
    search = {**search, "passage_tokens": reading.passage_tokens or None, "overlap": reading.overlap}
    settings = settings_of(encoder, options=options, document_instruction=instruction, **search)
    return Index.create_with(path, settings, encoder=encoder)


def _check_same_search(index: Index, search: dict[str, Any]) -> None:
    if search:
        searched_by(index.settings, search)
    for name, value in search.items():
        if value != (kept := getattr(index.settings, name)):
            was, asked = (",".join(one) or "none" if isinstance(one, tuple) else one for one in (kept, value))
            raise WrongInput(
                f"the index in {index.path} was made with `{name}` {was}, not {asked}: leave `{name}` out, "
                f"or change the index by `ragvec compact` with `{name}` {asked}"
            )


def _check_corpora(corpora: list[str | Path], sync: bool, reading: CorpusOptions, *, may_be_empty: bool) -> None:
    if len(corpora) > 1 and any(map(is_shards, corpora)):
        raise WrongUsage("encoded shards are indexed by themselves: name one folder of shards, or corpora")
    if sync and any(str(corpus) == STDIN for corpus in corpora):
        raise WrongUsage(
            "`sync` needs a whole corpus, and a pipe that broke looks like one that ended: save it to a file, and index that"
        )
    check_readable(corpora[1:], reading.files, may_be_empty=may_be_empty)


def _incoming(path: Path, corpora: list[str | Path], **how: Any) -> list[Incoming]:
    """The corpora as sources; how: name, id_prefix, sync, files, as `incoming_sources` takes them."""
    if not (path / DATABASE_NAME).exists():
        return incoming_sources(corpora, [], filled=False, taken=lambda _: False, **how)
    with Index.open(path) as index, index.reading() as view:
        known: list[DocumentSource] = list(read_sources(view.connection).values())

        def taken(doc_id: str) -> bool:
            return bool(ids_of(view.connection, spelled(view.connection, doc_id)))

        return incoming_sources(corpora, known, filled=bool(len(view) or known), taken=taken, **how)


def _documents(
    corpus: str | Path,
    incoming: Incoming,
    reading: CorpusOptions,
    heard: tuple[Callable[[Rejected], None] | None, Callable[[Rejected], None] | None],
) -> Iterator[Document]:
    on_reject, on_unread = heard

    def reject(rejected: Rejected) -> None:
        incoming.note_rejected(rejected)
        if on_reject:
            on_reject(rejected)

    def pass_over(unread: Rejected) -> None:
        incoming.note_unread(unread)
        if on_unread:
            on_unread(unread)

    return open_documents(
        corpus,
        reading,
        id_prefix=incoming.source.id_prefix,
        made_prefix=incoming.source.made_prefix,
        on_reject=reject if on_reject else None,
        on_unread=pass_over if on_unread else None,
        on_found=incoming.files.add,
    )


def _first(streams: list[Iterator[Document]], incoming: Sequence[Incoming]) -> Document:
    """The first document of all, which stays in its stream. Raises NoDocuments if none has any."""
    for place, stream in enumerate(streams):
        if (first := next(stream, None)) is not None:
            streams[place] = chain([first], stream)
            return first
    raise NoDocuments("; ".join(each.empty for each in incoming))


def _without_held(blocks: Blocks, changes: Changes) -> Blocks:
    """Documents of which a passage failed stay whole as they were."""
    for passages, vectors in blocks:
        rows = [row for row, passage in enumerate(passages) if passage.doc_id not in changes.held]
        yield ([passages[row] for row in rows], vectors[rows]) if len(rows) < len(passages) else (passages, vectors)


def _fresh_rows(blocks: Blocks, changes: Changes) -> Blocks:
    for passages, vectors in blocks:
        rows = [row for row, passage in enumerate(passages) if changes.is_fresh(passage)]
        yield [passages[row] for row in rows], vectors[rows]
    changes.finish()


def _counted(blocks: Blocks, rows: int, show: bool) -> Blocks:
    with progress_bar("indexing", total=rows, unit="passages", show=show) as bar:
        for passages, vectors in blocks:
            yield passages, vectors
            bar.update(len(passages))


@contextmanager
def _undone_on_failure(path: Path) -> Iterator[None]:
    """Leave nothing behind where there was no index, unless it is encoded passages that the next try takes up."""
    was_there = (path / DATABASE_NAME).exists()
    try:
        yield
    except BaseException:
        if not was_there:
            _remove_if_unused(path)
        raise


def _remove_if_unused(path: Path) -> None:
    if not (path / DATABASE_NAME).exists() or any((path / ENCODING_NAME).glob("*.parquet")):
        return
    with suppress(RagvecError), writer_lock(path):  # suppressed: another process is filling it by now
        with Index.open(path) as index:
            if len(index):
                return
        remove_shards(path / ENCODING_NAME)
        remove_index(path)
