"""Object storage as the shelf of a run: parts named by their bytes, a record each that is created once, the manifest last.

Several runs may write the same corpus there at once, ranks or copies of one, and share its parts by claims: whoever creates a
part's record first has made it for all, and each then creates the same manifest.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from ragvec.corpus.files import InputFile
from ragvec.errors import Busy, Unavailable
from ragvec.ingest.claims import Claims
from ragvec.ingest.ranks import Rank
from ragvec.ingest.reuse import OldVectors
from ragvec.ingest.shelf import Finished, check_same
from ragvec.objects import Bucket
from ragvec.records import Passage
from ragvec.shards import Failure, Manifest, Part, PartVectors, Provenance, part_bytes
from ragvec.shards.stored import (
    CLAIMS,
    PARTS,
    RECORDS,
    Version,
    create_record,
    create_version,
    latest_version,
    part_name,
    read_record,
    read_records,
    record_name,
    recorded_digests,
)


def check_bucket_for(bucket: Bucket, provenance: Provenance, *, overwrite: bool) -> Version:
    """The manifest to go on from. Raises RagvecError if the vectors there can't be mixed with this run's."""
    there = latest_version(bucket, replaced=overwrite)
    if there.manifest is not None and not overwrite:
        check_same(there.manifest.provenance, provenance, str(bucket))
    return there


@contextmanager
def bucket_shelf(bucket: Bucket, provenance: Provenance, *, rank: Rank, overwrite: bool) -> Iterator["BucketShelf"]:
    """The place for this writer, among others who write the same; what earlier runs have made is at hand."""
    bucket.check_usable()
    there = check_bucket_for(bucket, provenance, overwrite=overwrite)
    shared = not overwrite and not bucket.single_writer
    with Claims(bucket, provenance) if shared else nullcontext() as claims:
        yield BucketShelf(bucket, provenance, there, rank, claims=claims, overwrite=overwrite)


class BucketShelf:
    """Use `bucket_shelf`."""

    def __init__(
        self, bucket: Bucket, provenance: Provenance, there: Version, rank: Rank, *, claims: Claims | None, overwrite: bool
    ) -> None:
        """claims: None = nobody else writes there."""
        self.provenance, self.damaged = provenance, 0
        self._bucket, self._there, self._rank, self._overwrite, self._claims = bucket, there, rank, overwrite, claims
        self._parts: dict[str, Part] = {}  # those of this corpus, by content digest
        self._known = {} if overwrite else self._recorded()
        self._sizes = {} if overwrite else bucket.names(PARTS)
        self._old: OldVectors | None = None

    def kept(self, number: int, digest: str) -> Part | None:
        """See Shelf. Another writer may have made it meanwhile."""
        if self._overwrite:
            return None
        known = digest in self._known
        part = self._known.get(digest) or read_record(self._bucket, self.provenance, digest)
        if part is None or part.failed:
            return None
        if (self._sizes.get(part.name) if known else self._bucket.size(part.name)) != part.bytes:
            self.damaged += 1
            return None
        self._parts[digest] = part
        return part

    def take_back(self, number: int, digest: str) -> Part | None:
        """See Shelf: a part is found by its passages wherever it belongs, so it never has to move."""
        return None

    def claim(self, digest: str) -> bool:
        """See Shelf. Who claims a part late may find it made: by a writer that has left since this one looked."""
        if self._claims is None:
            return True
        if not self._claims.take(digest):
            return False
        made = read_record(self._bucket, self.provenance, digest)
        if made is None or made == self._known.get(digest):
            return True
        self._parts[digest] = made
        return False

    def old_vectors(self) -> OldVectors | None:
        """See Shelf: of parts that this corpus has not had so far.

        A rank can't tell the others' parts from old ones, and so looks only once there was a whole before.
        """
        if self._old is None and (self._there.manifest or self._rank.of == 1):
            left = [part for digest, part in self._known.items() if digest not in self._parts]
            whole = [(self._bucket.path / part.name, part) for part in left if self._sizes.get(part.name) == part.bytes]
            self._old = OldVectors(whole) if whole else None
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
        data, part = part_bytes(passages, encoded, provenance=self.provenance, digest=digest, failed=failed, recall=recall)
        part = replace(part, name=part_name(self.provenance, part.sha256))
        self._bucket.put(part.name, data)
        return part

    def record(self, number: int, part: Part) -> None:
        """See Shelf. Where another writer was first, its part counts, unless that is broken or lacks more passages."""
        if not create_record(self._bucket, self.provenance, part, replace=self._overwrite):
            other = read_record(self._bucket, self.provenance, part.content_digest)
            if other is not None and len(other.failed) <= len(part.failed) and self._bucket.size(other.name) == other.bytes:
                part = other
            else:
                create_record(self._bucket, self.provenance, part, replace=True)
        self._parts[part.content_digest] = part

    def finish(self, digests: Sequence[str], *, inputs: tuple[InputFile, ...], rejected: int) -> Finished:
        """See Shelf. The manifest is made by whoever finds that all parts are there; of several, the first."""
        missing = dict.fromkeys(digest for digest in digests if digest not in self._parts)
        parts = {**self._parts, **self._made_elsewhere(list(missing))}
        own = Manifest(self.provenance, parts=tuple(self._parts.values()), inputs=inputs, rejected=rejected)
        if any(digest not in parts for digest in digests):
            return Finished(own, False)
        manifest = replace(own, parts=tuple(parts[digest] for digest in digests), complete=True)
        self._check_there(manifest)
        if manifest == self._there.manifest:
            return Finished(manifest if self._rank.of == 1 else own, True)
        if not create_version(self._bucket, self._there.number + 1, manifest):
            self._check_same_made(manifest)
        self._sweep(manifest)
        return Finished(manifest if self._rank.of == 1 else own, True)

    def _made_elsewhere(self, digests: list[str]) -> dict[str, Part]:
        """The parts of these digests that others have made; waits for those that they make."""
        parts = read_records(self._bucket, self.provenance, digests)
        while self._claims and (left := [digest for digest in digests if digest not in parts]):
            are_made = self._claims.taken(left)  # asked before the records: whoever has ended by then has left them
            parts |= read_records(self._bucket, self.provenance, left)
            if not are_made:
                break
            self._claims.pause()
        return parts

    def _recorded(self) -> dict[str, Part]:
        """All parts that earlier runs have recorded, by content digest."""
        manifest = self._there.manifest
        same = manifest.parts if manifest is not None and manifest.provenance == self.provenance else ()
        known = {part.content_digest: part for part in same}
        recorded = recorded_digests(self._bucket, self.provenance)
        return {**known, **read_records(self._bucket, self.provenance, (one for one in recorded if one not in known))}

    def _check_there(self, manifest: Manifest) -> None:
        """Raises Unavailable if a part has gone: a run with another corpus that ended meanwhile has removed it."""
        sizes = self._bucket.names(PARTS)
        gone = [part.name for part in manifest.parts if sizes.get(part.name) != part.bytes]
        if gone:
            raise Unavailable(f"{self._bucket}/{gone[0]} has been removed meanwhile: run the same command again")

    def _check_same_made(self, manifest: Manifest) -> None:
        there = latest_version(self._bucket).manifest
        if there is None or (there.provenance, there.parts) != (manifest.provenance, manifest.parts):
            raise Busy(
                f"{self._bucket} was written by another run meanwhile, of another corpus or encoder: "
                "let one corpus at a time be written there, and run the same command again"
            )

    def _sweep(self, manifest: Manifest) -> None:
        """Remove parts and records that the manifest does not name, and claims, which are settled."""
        named = {part.name for part in manifest.parts}
        named |= {record_name(self.provenance, part.content_digest) for part in manifest.parts}
        there = [name for folder in (PARTS, RECORDS, CLAIMS) for name in self._bucket.names(folder)]
        self._bucket.remove(name for name in there if name not in named)
