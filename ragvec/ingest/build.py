"""From a corpus or shards to an index, or to a newer version of one: `ragvec index`."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ragvec.corpus import Rejected
from ragvec.corpus.passages import CorpusOptions, count_passages, cut_for, open_documents
from ragvec.errors import RagvecError
from ragvec.index.changes import Changes
from ragvec.index.index import ENCODING_NAME, Index, check_new_folder
from ragvec.index.lock import LOCK_NAME, writer_lock
from ragvec.index.origin import check_fingerprint, lasting_source, load_encoder, settings_of
from ragvec.index.segment import SEGMENTS_NAME
from ragvec.index.store import DATABASE_NAME, IndexSettings
from ragvec.ingest import encode_corpus
from ragvec.progress import progress_bar
from ragvec.records import Passage
from ragvec.shards import MANIFEST, Failure, Shards

BLOCK_ROWS = 4096
SEARCH_FLAGS = {"faiss_key": "--index-key", "recall_target": "--recall", "max_memory": "--max-memory"}

Blocks = Iterator[tuple[list[Passage], np.ndarray]]


class BuildReport(NamedTuple):
    """What a build did: documents added, replaced, left as they were, removed; passages encoded, and of them shortened.

    failed   passages that could not be encoded, and are not in the index
    """

    path: Path
    added: int
    replaced: int
    unchanged: int
    removed: int
    encoded: int
    truncated: int
    passages: int
    dimension: int
    seconds: float
    failed: tuple[Failure, ...] = ()


def build(
    source: str | Path,
    path: Path,
    *,
    encoder: str | None = None,
    encoder_options: dict[str, Any] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    search: dict[str, Any] | None = None,
    reading: CorpusOptions | None = None,
    on_reject: Callable[[Rejected], None] | None = None,
    sync: bool = False,
    show_progress: bool = False,
) -> BuildReport:
    """Bring the documents of a corpus, or the passages of shards, into an index; make the index if there is none.

    encoder          folder or hub id; None = the one the index was built with, or the bundled one for a new index
    encoder_options  arguments of `Encoder.load` that change vectors (revision, max_length); kept in the index
    search           how a new index is searched: faiss_key, recall_target, max_memory, as `Index.create` explains them
    reading          how a corpus is read and cut; None = fields by their usual names. Without passage_tokens it is cut as the
                     index's documents were; with them, that is how it is cut from now on
    on_reject        called with each row that can't be read; None = the first one raises
    sync             remove documents that are not in the source
    Raises RagvecError for bad input and for an index of another encoder; a new index is then not left behind.
    """
    started = time.monotonic()
    reading = reading or CorpusOptions()
    with _undone_on_failure(path):
        if is_shards(source):
            report = _from_shards(Path(source), path, search or {}, reading, sync, show_progress)
        else:
            documents = open_documents(source, reading, on_reject=on_reject)
            first = next(documents)  # a bad corpus shows before seconds are spent on loading an encoder
            with _open_or_create(path, encoder, encoder_options or {}, device, dtype, search or {}) as index:
                reading = _cutting_of(index, reading)
                total = count_passages(source, reading) if show_progress and not len(index) else None
                cutting = index.encoder if reading.passage_tokens else None
                passages = cut_for(chain([first], documents), reading, cutting, index.settings.document_instruction)
                _remember_cutting(index, reading)
                report = index_passages(index, passages, sync=sync, total=total, show_progress=show_progress)
    return report._replace(seconds=time.monotonic() - started)


def is_shards(source: str | Path) -> bool:
    """Whether this is a folder of encoded shards rather than a corpus."""
    return (Path(source) / MANIFEST).is_file()


def index_passages(
    index: Index,
    passages: Iterable[Passage],
    *,
    sync: bool = False,
    total: int | None = None,
    show_progress: bool = False,
) -> BuildReport:
    """Encode what is not in the index as it is, through shards that survive an interruption, and commit it as one segment.

    sync   remove documents that are not among the passages
    total  about how many passages there are, for the progress bar
    """
    with index.writing() as writer:
        changes = Changes(writer.connection, sync=sync)
        fresh = changes.fresh(passages)
        first = next(fresh, None)
        folder = index.path / ENCODING_NAME
        encoded = truncated = 0
        failed: tuple[Failure, ...] = ()
        if first is None:
            writer.commit([], changes)
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
            writer.commit(_counted(shards.blocks(BLOCK_ROWS), encoded, show_progress), changes)
        shutil.rmtree(folder, ignore_errors=True)
    return _report(index, changes, encoded, truncated)._replace(failed=failed)


def _from_shards(
    folder: Path, path: Path, search: dict[str, Any], reading: CorpusOptions, sync: bool, show_progress: bool
) -> BuildReport:
    shards = Shards.open(folder)
    manifest = shards.manifest
    is_new = not (path / DATABASE_NAME).exists()
    with Index.create_with(path, _settings_of_shards(manifest, search)) if is_new else Index.open(path) as index:
        check_fingerprint(
            index.settings, manifest.fingerprint, manifest.dimension, f"{folder}, made by {manifest.provenance.source}"
        )
        _check_same_search(index, search)
        _remember_cutting(index, _cutting_of(index, reading))
        with index.writing() as writer:
            changes = Changes(writer.connection, sync=sync)
            blocks = _counted(shards.blocks(BLOCK_ROWS), manifest.rows, show_progress)
            writer.commit(_fresh_rows(blocks, changes), changes)
        return _report(index, changes, 0, 0)


def _settings_of_shards(manifest, search: dict[str, Any]) -> IndexSettings:
    return IndexSettings(
        encoder_source=lasting_source(manifest.provenance.source),
        fingerprint=manifest.fingerprint,
        dimension=manifest.dimension,
        document_instruction=manifest.instruction,
        normalized=manifest.normalized,
        **search,
    )


def _open_or_create(
    path: Path, source: str | None, options: dict[str, Any], device: str | None, dtype: str | None, search: dict[str, Any]
) -> Index:
    """The index to fill. One that exists loads its encoder only once there is something to encode, unless one is named."""
    if (path / DATABASE_NAME).exists():
        index = Index.open(path, device=device, dtype=dtype)
        _check_same_search(index, search)
        if not source and not options:
            return index
        with index:
            return Index.open(path, encoder=load_encoder(index.settings, source, **options, device=device, dtype=dtype))
    check_new_folder(path)  # before seconds are spent on loading an encoder
    from ragvec.encoder import Encoder

    encoder = Encoder.load(source, **options, device=device, dtype=dtype)
    settings = settings_of(encoder, options=options, **search)
    return Index.create_with(path, settings, encoder=encoder)


def _cutting_of(index: Index, reading: CorpusOptions) -> CorpusOptions:
    """How a corpus is read, and cut: as is asked for or, where nothing is, as the index remembers."""
    if reading.passage_tokens is not None:
        return reading
    return replace(reading, passage_tokens=index.settings.passage_tokens, overlap=index.settings.overlap)


def _remember_cutting(index: Index, reading: CorpusOptions) -> None:
    kept = index.settings.passage_tokens, index.settings.overlap
    if reading.passage_tokens is not None and (reading.passage_tokens, reading.overlap) != kept:
        index.set_cutting(reading.passage_tokens, reading.overlap)


def _check_same_search(index: Index, search: dict[str, Any]) -> None:
    for name, value in search.items():
        if value != (kept := getattr(index.settings, name)):
            flag = SEARCH_FLAGS[name]
            raise RagvecError(
                f"the index in {index.path} was made with {flag} {kept}, not {value}: leave {flag} out, "
                f"or change the index by `ragvec compact {flag} {value}`"
            )


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


def _report(index: Index, changes: Changes, encoded: int, truncated: int) -> BuildReport:
    return BuildReport(index.path, *changes.report(), encoded, truncated, len(index), index.settings.dimension, seconds=0.0)


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
        for name in (ENCODING_NAME, SEGMENTS_NAME):
            shutil.rmtree(path / name, ignore_errors=True)
        for file in (*path.glob(f"{DATABASE_NAME}*"), path / LOCK_NAME):
            file.unlink()
        with suppress(OSError):  # it holds something else
            path.rmdir()
