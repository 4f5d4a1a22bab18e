"""What a build of an index did."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ragvec.index import Index
from ragvec.index.changes import Changes
from ragvec.index.sources import Incoming
from ragvec.index.writer import tell_unfilled
from ragvec.shards import Failure


class BuildReport(NamedTuple):
    """What a build did: documents added, replaced, left as they were, removed; passages encoded, and of them shortened.

    failed   passages that could not be encoded, and are not in the index; held: documents whose older version stays for that
    kept     documents that did not come by and were not removed, as `doubts` say: they may still be in the source
    rejected rows and files that could not be read
    empty    passages of the corpus without any text, which no query finds by its vector; first_empty: the documents of some
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
    held: int = 0
    kept: int = 0
    doubts: tuple[str, ...] = ()
    rejected: int = 0
    empty: int = 0
    first_empty: tuple[str, ...] = ()


def report_of(
    index: Index,
    changes: Changes,
    incoming: Sequence[Incoming],
    *,
    encoded: int = 0,
    truncated: int = 0,
    failed: tuple[Failure, ...],
) -> BuildReport:
    """The report of a build whose changes are committed; its seconds are not counted yet.

    Warns of filter_fields that no document has.
    """
    with index.reading() as view:
        tell_unfilled(view.connection)
    return BuildReport(
        path=index.path,
        **changes.report()._asdict(),
        encoded=encoded,
        truncated=truncated,
        passages=len(index),
        dimension=index.settings.dimension,
        seconds=0.0,
        failed=failed,
        held=len(changes.held),
        kept=changes.kept,
        doubts=tuple(changes.doubts),
        rejected=sum(each.rejected for each in incoming),
        empty=changes.empty,
        first_empty=tuple(changes.first_empty),
    )
