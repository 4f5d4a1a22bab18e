"""A corpus whose documents bring their vectors: into an index in one commit, with nothing to encode."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ragvec.artefacts import DATABASE_NAME
from ragvec.corpus.passages import CorpusOptions, Expected
from ragvec.index import Index
from ragvec.index.changes import Changes
from ragvec.index.own_vectors import Blocks, fresh_with_vectors, own_blocks
from ragvec.index.sources import Incoming
from ragvec.ingest.report import BuildReport, report_of
from ragvec.progress import progress_bar
from ragvec.records import Document


def reading_vectors(path: Path, reading: CorpusOptions) -> CorpusOptions:
    """How a corpus is read whose vectors go into the index at this path: if it is there, they must have its dimension."""
    if reading.vector_field is None or reading.dimension or not (path / DATABASE_NAME).exists():
        return reading
    with Index.open(path) as index:
        return replace(reading, dimension=index.settings.dimension)


def index_vectors(
    index: Index,
    streams: Sequence[Iterable[Document]],
    incoming: Sequence[Incoming],
    *,
    reading: CorpusOptions,
    sync: bool = False,
    expected: Expected | None = None,
    show_progress: bool = False,
) -> BuildReport:
    """Commit the documents of sources, each with its vector; what is in the index as it is, vector included, is passed over.

    reading  how they are read, as `build` takes it
    Raises WrongInput, and changes nothing, for a vector that does not fit the index, and if that cuts documents.
    """
    with index.writing() as writer:
        changes = Changes(writer.connection, incoming=incoming, sync=sync)
        blocks = [own_blocks(stream, writer.settings) for stream in streams]
        fresh = fresh_with_vectors(blocks, changes, writer)
        total = expected() if expected else None
        with progress_bar("indexing", total=total, unit="documents", show=show_progress) as bar:
            writer.commit(_watched(fresh, bar.update), changes, own_vectors=True)
    return report_of(index, changes, incoming, failed=())


def _watched(blocks: Blocks, count: Callable[[int], object]) -> Blocks:
    for passages, vectors in blocks:
        yield passages, vectors
        count(len(passages))
