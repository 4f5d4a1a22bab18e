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
from ragvec.errors import RagvecError, WrongInput, WrongUsage
from ragvec.ingest.folder import RANKS, FinishedPart, link, rank_folders, remove_shards, set_aside_parts, sweep
from ragvec.locks import locked
from ragvec.records import Passage
from ragvec.shards import MANIFEST, Manifest, Part, Provenance, content_digest, load_manifest, save_manifest


class Rank(NamedTuple):
    """Which of how many processes this is, counted from 0."""

    number: int = 0
    of: int = 1

    def check(self) -> None:
        """Raises RagvecError for numbers that make no sense."""
        if not 0 <= self.number < self.of:
            raise WrongUsage(f"rank {self.number} of {self.of}: ranks count from 0 to the world size less 1")


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


def corpus_digest(digests: Sequence[str]) -> str:
    """Of a corpus, by its parts' digests."""
    return hashlib.blake2b(",".join(digests).encode(), digest_size=16).hexdigest()


def rank_folder(folder: Path, rank: Rank) -> Path:
    """Where a rank writes; the folder itself if it is alone."""
    return folder if rank.of == 1 else folder / RANKS / f"{rank.number}-of-{rank.of}"


def parts_elsewhere(folder: Path, own: Path, provenance: Provenance) -> list[FinishedPart]:
    """Finished parts of this provenance in the folder and in its ranks' folders, this one's own left out."""
    parts: list[FinishedPart] = []
    for place in (folder, *rank_folders(folder)):
        if place == own or not (place / MANIFEST).exists():
            continue
        with suppress(RagvecError):  # a rank's folder that is damaged, or just being removed, is of no use
            manifest = load_manifest(place)
            if manifest.provenance == provenance:
                parts += [(place / part.name, part) for part in manifest.parts] + set_aside_parts(place, manifest)
    return parts


def is_published(folder: Path, provenance: Provenance, digests: Sequence[str]) -> bool:
    """Whether the folder holds exactly this corpus, complete and without a failed passage."""
    if not (folder / MANIFEST).exists():
        return False
    manifest = load_manifest(folder)
    there = [part.content_digest for part in manifest.parts]
    return manifest.complete and manifest.provenance == provenance and there == list(digests) and not manifest.failed


def publish(
    folder: Path,
    world: int,
    provenance: Provenance,
    digests: Sequence[str],
    *,
    inputs: tuple[InputFile, ...],
    rejected: int = 0,
) -> bool:
    """Join the ranks' parts into the folder, if all ranks are complete; returns whether they were.

    digests  of all parts of the corpus, in order
    Every step may be repeated: a rank that is started again after a kill in the middle of this does it once more.
    Raises RagvecError if ranks saw different corpora.

    With 5 parts and 2 ranks, rank 0 made parts 0, 2 and 4, rank 1 parts 1 and 3; each counted its own from 0. So part 3 of the
    whole is number 3 // 2 = 1 of rank 3 % 2 = 1: ranks/1-of-2/part-00001.parquet also becomes part-00003.parquet. What may be
    killed between:

    1. manifest.json is written without parts, not complete: readers are told so, whatever lay there before
    2. each of the 5 files gets its second name; none loses its first, so this can begin again
    3. manifest.json is written with all 5, complete: from here on they count
    4. ranks/ is removed, which takes the first names only. If this is cut short, the next rank that is started finds the folder
       complete (`is_published`) and removes the rest
    """
    with locked(folder, wait=True):
        places = [rank_folder(folder, Rank(number, world)) for number in range(world)]
        manifests = [load_manifest(place) for place in places if (place / MANIFEST).exists()]
        ready = len(manifests) == world and all(each.complete and each.provenance == provenance for each in manifests)
        if not ready:
            published = is_published(folder, provenance, digests)
            if published:  # a rank that was started again after the others had finished
                remove_ranks(folder)
            return published
        if len({manifest.corpus_digest for manifest in manifests}) > 1:
            raise WrongInput(
                f"the ranks of {folder} read different corpora: let all of them read the same files, and run them again"
            )
        save_manifest(folder, Manifest(provenance))
        parts = [_take_in(folder, places, manifests, number) for number in range(len(digests))]
        complete = Manifest(provenance, parts=tuple(parts), inputs=inputs, complete=True, rejected=rejected)
        save_manifest(folder, complete)
        sweep(folder, complete)
        remove_ranks(folder)
    return True


def _take_in(folder: Path, places: Sequence[Path], manifests: Sequence[Manifest], number: int) -> Part:
    """Give the part of this number in the whole corpus, which a rank has made, its name in the folder."""
    rank, own = number % len(places), number // len(places)
    part = manifests[rank].parts[own]
    name = f"part-{number:05d}.parquet"
    link(places[rank] / part.name, folder / name)
    return replace(part, name=name)


def remove_ranks(folder: Path) -> None:
    """Remove the folders of ranks that no process holds."""
    for place in rank_folders(folder):
        with suppress(RagvecError, FileNotFoundError), locked(place):
            remove_shards(place)
    with suppress(OSError):  # another rank's is still in use, or there are none
        (folder / RANKS).rmdir()
