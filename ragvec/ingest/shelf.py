"""Where the parts of a run come to stand. A run knows this alone, and neither files nor buckets."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from ragvec.corpus.files import InputFile
from ragvec.errors import WrongInput
from ragvec.ingest.reuse import OldVectors
from ragvec.records import Passage
from ragvec.shards import Failure, Manifest, Part, PartVectors, Provenance


class Finished(NamedTuple):
    """What stands there in the end; complete: whether it is the whole corpus, or other ranks are still to follow."""

    manifest: Manifest
    complete: bool


class Shelf(Protocol):
    """Numbered parts, each of which stays once it is recorded, however the run ends.

    Parts are decided on (kept, take_back, old_vectors) in their order by one thread, and brought (write, record) by another,
    in their order too.
    """

    provenance: Provenance
    damaged: int  # parts that were found broken

    def kept(self, number: int, digest: str) -> Part | None:
        """The part of this number, if it stands there whole and has the passages of this digest."""

    def take_back(self, number: int, digest: str) -> Part | None:
        """A finished part with these passages that stood elsewhere; it still has to be recorded."""

    def claim(self, digest: str) -> bool:
        """Whether this run is to make the part with these passages; False = another writer does."""

    def old_vectors(self) -> OldVectors | None:
        """What an earlier run has computed and no part that was kept holds; None = there is none."""

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
        """Store a part, whole or not at all; it still has to be recorded."""

    def record(self, number: int, part: Part) -> None:
        """Note that this is the part of this number: from now on it is kept."""

    def finish(self, digests: Sequence[str], *, inputs: tuple[InputFile, ...], rejected: int) -> Finished:
        """Declare what was recorded complete, and remove what no longer belongs to it. The last call.

        It is not complete where parts are left to other writers, and one of them is lost.

        digests  of all parts of the corpus, in order, those of other ranks included
        """


def check_same(there: Provenance, wanted: Provenance, shown: str) -> None:
    """Raises WrongInput if vectors made like this can't stand beside those that are there; shown: where."""
    for name, was, asked in _differences(there, wanted):
        raise WrongInput(
            f"{shown} holds vectors made with {name} {was}, this run has {asked}: "
            "write to another folder, or replace them with `overwrite`"
        )


def _differences(there: Provenance, wanted: Provenance) -> Iterator[tuple[str, str, str]]:
    if there.fingerprint != wanted.fingerprint:
        prints = [f"{provenance.source} (fingerprint {provenance.fingerprint[:12]})" for provenance in (there, wanted)]
        yield "encoder", prints[0], prints[1]
    for name in ("dimension", "instruction", "dtype", "normalized"):
        if getattr(there, name) != getattr(wanted, name):
            yield name, repr(getattr(there, name)), repr(getattr(wanted, name))
