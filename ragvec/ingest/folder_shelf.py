"""A shards folder as the shelf of a run: part-00000.parquet and so on, an unfinished manifest with a log, then the manifest."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock

from ragvec.corpus.files import InputFile
from ragvec.ingest.folder import (
    FinishedPart,
    check_folder,
    make_folder,
    set_aside,
    set_aside_parts,
    sweep,
    take_back,
)
from ragvec.ingest.ranks import Rank, corpus_digest, parts_elsewhere, publish, rank_folder, remove_ranks
from ragvec.ingest.reuse import OldVectors
from ragvec.ingest.shelf import Finished, check_same
from ragvec.locks import locked
from ragvec.records import Passage
from ragvec.shards import (
    MANIFEST,
    Failure,
    Manifest,
    Part,
    PartVectors,
    Provenance,
    load_manifest,
    part_is_whole,
    save_manifest,
    write_part,
)
from ragvec.shards.log import LOG, PartLog
from ragvec.shards.manifest import unwritable


def check_folder_for(folder: Path, provenance: Provenance, *, overwrite: bool) -> Manifest:
    """The manifest to go on from. Raises RagvecError if the folder's vectors can't be mixed with this run's."""
    check_folder(folder)
    if overwrite or not (folder / MANIFEST).exists():
        return Manifest(provenance)
    manifest = load_manifest(folder)
    check_same(manifest.provenance, provenance, str(folder))
    return replace(manifest, provenance=provenance)  # the same encoder may have moved


@contextmanager
def folder_shelf(folder: Path, provenance: Provenance, *, rank: Rank, overwrite: bool) -> Iterator["FolderShelf"]:
    """The folder, or the rank's own in it, for one writer: locked until it is finished, swept, earlier parts at hand."""
    target = rank_folder(folder, rank)
    make_folder(target)
    with ExitStack() as held:
        held.enter_context(locked(target))
        manifest = check_folder_for(target, provenance, overwrite=overwrite)
        elsewhere = [] if overwrite else parts_elsewhere(folder, target, provenance)
        if overwrite or not (target / MANIFEST).exists():
            save_manifest(target, manifest)  # before anything is removed or written: from now on the folder is this run's
        sweep(target, manifest)
        shelf = FolderShelf(folder, manifest, rank=rank, elsewhere=elsewhere, held=held)
        held.callback(shelf.close)
        yield shelf


class FolderShelf:
    """Use `folder_shelf`."""

    def __init__(
        self, folder: Path, manifest: Manifest, *, rank: Rank, elsewhere: Sequence[FinishedPart], held: ExitStack
    ) -> None:
        """manifest: as it is on disk, log included. elsewhere: finished parts outside the folder that may be of use.

        held  lets go of the lock
        """
        self.provenance: Provenance = manifest.provenance
        self.damaged = 0
        self._whole, self._folder, self._rank = folder, rank_folder(folder, rank), rank
        self._elsewhere, self._held = list(elsewhere), held
        self._manifest = set_aside(self._folder, manifest, len(manifest.parts))
        self._parts = list(manifest.parts)
        self._log: PartLog | None = None
        self._changing = Lock()
        self._by_digest: dict[str, list[FinishedPart]] | None = None
        self._old: OldVectors | None = None

    def close(self) -> None:
        """Let go of the log."""
        if self._log:
            self._log.close()
        self._log = None

    def kept(self, number: int, digest: str) -> Part | None:
        """See Shelf. A part with other passages goes to previous/, with all that follow it."""
        recorded = self._parts[number] if number < len(self._parts) else None
        if recorded and recorded.content_digest == digest and not recorded.failed:
            if part_is_whole(self._folder / recorded.name, recorded):
                return recorded
            self.damaged += 1
        elif recorded:
            self._set_aside(number)
        return None

    def take_back(self, number: int, digest: str) -> Part | None:
        """See Shelf."""
        if self._by_digest is None:
            self._by_digest = _by_digest(self._finished())
        return take_back(self._folder, self._by_digest.get(digest, ()), _name(number))

    def claim(self, digest: str) -> bool:
        """See Shelf: the folder is locked, so nobody else writes there."""
        return True

    def old_vectors(self) -> OldVectors | None:
        """See Shelf."""
        if self._old is None and (finished := self._finished()):
            self._old = OldVectors([(path, part) for path, part in finished if part_is_whole(path, part)])
        return self._old

    def write(
        self,
        number: int,
        passages: Sequence[Passage],
        encoded: PartVectors,
        *,
        digest: str,
        failed: Sequence[Failure],
        recall: float | None,
    ) -> Part:
        """See Shelf."""
        return write_part(
            self._folder,
            _name(number),
            passages,
            encoded,
            provenance=self.provenance,
            digest=digest,
            failed=failed,
            recall=recall,
        )

    def record(self, number: int, part: Part) -> None:
        """See Shelf. The first record of a run writes the manifest of all that there is, the others a line each."""
        with self._changing:
            if self._log is None:
                self._manifest = replace(self._manifest, parts=tuple(self._parts), complete=False)
                self._log = self._logged(save_manifest(self._folder, self._manifest))
            try:
                self._log.append(number, part.describe())
            except OSError as error:
                raise unwritable(self._folder / LOG, error) from error
            self._parts[number : number + 1] = [part]

    def finish(self, digests: Sequence[str], *, inputs: tuple[InputFile, ...], rejected: int) -> Finished:
        """See Shelf."""
        ranks = self._rank.of
        there = replace(self._manifest, parts=tuple(self._parts))
        complete = replace(
            there,
            parts=there.parts[: len(digests[self._rank.number :: ranks])],
            previous=(),
            inputs=inputs,
            complete=True,
            corpus_digest=corpus_digest(digests) if ranks > 1 else "",
            rejected=rejected,
        )
        if complete != there:
            save_manifest(self._folder, complete)
        self.close()
        sweep(self._folder, complete)
        if ranks == 1:
            remove_ranks(self._folder)
            return Finished(complete, True)
        self._held.close()
        published = publish(self._whole, ranks, self.provenance, digests, inputs=inputs, rejected=rejected)
        return Finished(complete, published)

    def _logged(self, manifest: bytes) -> PartLog:
        try:
            return PartLog(self._folder, manifest)
        except OSError as error:
            raise unwritable(self._folder / LOG, error) from error

    def _set_aside(self, first: int) -> None:
        with self._changing:
            self.close()  # the manifest that it adds to is replaced
            self._manifest = set_aside(self._folder, replace(self._manifest, parts=tuple(self._parts)), first)
            self._parts = list(self._manifest.parts)
            self._by_digest = self._old = None

    def _finished(self) -> list[FinishedPart]:
        return [*set_aside_parts(self._folder, self._manifest), *self._elsewhere]


def _by_digest(finished: Iterable[FinishedPart]) -> dict[str, list[FinishedPart]]:
    by_digest: dict[str, list[FinishedPart]] = defaultdict(list)
    for path, part in finished:
        by_digest[part.content_digest].append((path, part))
    return by_digest


def _name(number: int) -> str:
    return f"part-{number:05d}.parquet"
