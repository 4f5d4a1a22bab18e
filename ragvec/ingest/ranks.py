"""Several processes encode one corpus into one folder: part n belongs to rank n modulo their number.

Each rank reads the whole corpus and keeps an ordinary shards folder, ranks/R-of-W, for its own parts, so that it can be killed
and started again like any run. Whoever finds all of them complete links their parts into the folder and writes its manifest.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ragvec.corpus.files import InputFile
from ragvec.errors import RagvecError, WrongInput
from ragvec.ingest.folder import RANKS, FinishedPart, link, locked, rank_folders, remove_shards, set_aside_parts, sweep
from ragvec.records import Passage
from ragvec.shards import MANIFEST, Manifest, Provenance, content_digest, load_manifest, save_manifest


class Rank(NamedTuple):
    """Which of how many processes this is, counted from 0."""

    number: int = 0
    of: int = 1

    def check(self) -> None:
        """Raises RagvecError for numbers that make no sense."""
        if not 0 <= self.number < self.of:
            raise WrongInput(f"rank {self.number} of {self.of}: ranks count from 0 to the world size less 1")


class OwnParts:
    """A rank's parts of a corpus, with their content digests; all the others are read past and noted."""

    def __init__(self, parts: Iterable[list[Passage]], rank: Rank) -> None:
        self._parts, self._rank = parts, rank
        self.digests: list[str] = []

    def __iter__(self) -> Iterator[tuple[list[Passage], str]]:
        for number, passages in enumerate(self._parts):
            self.digests.append(content_digest(passages))
            if number % self._rank.of == self._rank.number:
                yield passages, self.digests[-1]

    @property
    def corpus_digest(self) -> str:
        """Of all parts read so far."""
        return hashlib.blake2b(",".join(self.digests).encode(), digest_size=16).hexdigest()


def rank_folder(folder: Path, rank: Rank) -> Path:
    """Where a rank writes; the folder itself if it is alone."""
    return folder if rank.of == 1 else folder / RANKS / f"{rank.number}-of-{rank.of}"


def parts_elsewhere(folder: Path, own: Path, provenance: Provenance) -> list[FinishedPart]:
    """Finished parts of this provenance in the folder and in its ranks' folders, this one's own left out."""
    found: list[FinishedPart] = []
    for place in (folder, *rank_folders(folder)):
        if place == own or not (place / MANIFEST).exists():
            continue
        with suppress(RagvecError):  # a rank's folder that is damaged, or just being removed, is of no use
            manifest = load_manifest(place)
            if manifest.provenance == provenance:
                found += [(place / part.name, part) for part in manifest.parts] + set_aside_parts(place, manifest)
    return found


def is_published(folder: Path, provenance: Provenance, digests: Sequence[str]) -> bool:
    """Whether the folder holds exactly this corpus, complete and without a failed passage."""
    if not (folder / MANIFEST).exists():
        return False
    manifest = load_manifest(folder)
    there = [part.content_digest for part in manifest.parts]
    return manifest.complete and manifest.provenance == provenance and there == list(digests) and not manifest.failed


def publish(
    folder: Path, world: int, provenance: Provenance, digests: Sequence[str], inputs: tuple[InputFile, ...], rejected: int = 0
) -> bool:
    """Join the ranks' parts into the folder, if all ranks are complete; returns whether they were.

    Every step may be repeated: a rank that is started again after a kill in the middle of this does it once more.
    Raises RagvecError if ranks saw different corpora.
    """
    with locked(folder, wait=True):
        places = [rank_folder(folder, Rank(number, world)) for number in range(world)]
        manifests = [load_manifest(place) if (place / MANIFEST).exists() else None for place in places]
        if not all(manifest and manifest.complete and manifest.provenance == provenance for manifest in manifests):
            published = is_published(folder, provenance, digests)
            if published:  # a rank that was started again after the others had finished
                remove_ranks(folder)
            return published
        seen = {manifest.corpus_digest for manifest in manifests}
        if len(seen) > 1:
            raise WrongInput(
                f"the ranks of {folder} read different corpora: let all of them read the same files, and run them again"
            )
        save_manifest(folder, Manifest(provenance))  # from here until the last line readers are told that it is not finished
        parts = []
        for number in range(len(digests)):
            place, manifest = places[number % world], manifests[number % world]
            part = manifest.parts[number // world]
            name = f"part-{number:05d}.parquet"
            link(place / part.name, folder / name)
            parts.append(replace(part, name=name))
        complete = Manifest(provenance, parts=tuple(parts), inputs=inputs, complete=True, rejected=rejected)
        save_manifest(folder, complete)
        sweep(folder, complete)
        remove_ranks(folder)
    return True


def remove_ranks(folder: Path) -> None:
    """Remove the folders of ranks that no process holds."""
    for place in rank_folders(folder):
        with suppress(RagvecError, FileNotFoundError), locked(place):
            remove_shards(place)
    with suppress(OSError):  # another rank's is still in use, or there are none
        (folder / RANKS).rmdir()
