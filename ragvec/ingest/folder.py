"""The shards folder while it is written: one writer at a time, old parts set aside and taken back, leftovers swept."""

import os
import re
import shutil
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ragvec.errors import Unavailable, WrongInput
from ragvec.files import TEMPORARY_SUFFIX, fsync_folder, is_own_file, is_own_folder, remove_own
from ragvec.shards import MANIFEST, Manifest, Part, part_is_whole, save_manifest
from ragvec.shards.log import LOG
from ragvec.shards.manifest import PART_NAME

PREVIOUS = "previous"
RANKS = "ranks"
_SET_ASIDE = re.compile(r"[0-9a-f]{32}\.parquet")
_RANK = re.compile(r"\d+-of-\d+")
_TEMPORARY = re.compile(rf"({PART_NAME.pattern}|{re.escape(MANIFEST)})\.(.+\.)?\d+{re.escape(TEMPORARY_SUFFIX)}")
FinishedPart = tuple[Path, Part]


def check_folder(folder: Path) -> None:
    """Raises RagvecError unless shards may be written there: nothing yet, an empty folder, or shards.

    Raises Damaged where a folder inside it leads elsewhere, and where what bears the name of a file of ours is none.
    """
    if folder.exists() and not folder.is_dir():
        raise WrongInput(f"{folder} is a file: name a folder for the shards")
    if folder.exists() and not (folder / MANIFEST).exists():
        names = [path.name for path in folder.iterdir() if not path.name.startswith(".") and path.suffix != TEMPORARY_SUFFIX]
        strange = sorted(name for name in names if name != RANKS)
        if strange:
            raise WrongInput(f"{folder} holds {strange[0]!r} and no shards: name another folder, or empty this one")
    if not folder.exists():
        return
    for place in (folder, *rank_folders(folder)):
        is_own_folder(place / PREVIOUS)
        for path in _written(place):
            is_own_file(path)


def rank_folders(folder: Path) -> list[Path]:
    """The folders of ranks in a shards folder. Raises Damaged for one that leads elsewhere."""
    ranks = folder / RANKS
    named = sorted(path for path in ranks.iterdir() if _RANK.fullmatch(path.name)) if is_own_folder(ranks) else []
    return [path for path in named if is_own_folder(path)]


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises RagvecError where that can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"{folder} cannot be made: {error.strerror}") from error


def set_aside(folder: Path, manifest: Manifest, first: int) -> Manifest:
    """Move parts[first:] to previous/, where their vectors stay at hand, and return the manifest that says so.

    The manifest goes first, then the files; called at the start of every run, it also completes a move that was cut short.

    Of 3 parts, the corpus has changed in the second: first = 1. The manifest is written with `parts` 0 and `previous` 1 and 2,
    named by their sha256, say ab… and cd…; then part-00001.parquet becomes previous/ab….parquet, part-00002.parquet becomes
    previous/cd….parquet. A kill in between leaves part-00002.parquet where it was: the manifest does not list it under that
    name, so the next run moves it before a new part-00002 is written over it. The new parts 1 and 2 take vectors of texts that
    they share with the old ones from there; once the run is complete, `sweep` removes previous/.
    """
    leaving = manifest.parts[first:]
    if leaving:
        manifest = replace(
            manifest, parts=manifest.parts[:first], previous=_unique((*manifest.previous, *leaving)), complete=False
        )
        save_manifest(folder, manifest)
    if manifest.previous:
        (folder / PREVIOUS).mkdir(exist_ok=True)
        listed = {part.name for part in manifest.parts}
        for part in manifest.previous:
            here, there = folder / part.name, folder / previous_name(part)
            if part.name not in listed and here.exists() and not there.exists():
                os.replace(here, there)
        fsync_folder(folder / PREVIOUS)
        fsync_folder(folder)
    return manifest


def set_aside_parts(folder: Path, manifest: Manifest) -> list[FinishedPart]:
    """Where the parts lie that wait in previous/."""
    return [(folder / previous_name(part), part) for part in manifest.previous]


def take_back(folder: Path, candidates: Sequence[FinishedPart], name: str) -> Part | None:
    """Give a finished part a name in the folder, the first that is whole of these with the same passages; it stays there too.

    A second link, not a move: whatever happens before the manifest names it, the old one can still be found.
    """
    for path, part in candidates:
        if not part.failed and part_is_whole(path, part):
            with suppress(FileNotFoundError):  # another rank's, which has just been removed
                link(path, folder / name)
                return replace(part, name=name)
    return None


def link(path: Path, target: Path) -> None:
    """Give a file a second name, replacing what bears it; a copy where the file system has no links."""
    temporary = target.with_name(f"{target.name}.{socket.gethostname()}.{os.getpid()}{TEMPORARY_SUFFIX}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(path, temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # renaming onto another link of the same file leaves both
    fsync_folder(target.parent)


def sweep(folder: Path, manifest: Manifest) -> None:
    """Remove leftovers: temporary files, parts that the manifest doesn't name, previous/ if none there is named.

    The log stays as long as the manifest is not complete.
    """
    named = {part.name for part in (*manifest.parts, *manifest.previous)}
    for path in _written(folder):
        if path.name not in named and path.name != MANIFEST and (path.name != LOG or manifest.complete):
            path.unlink(missing_ok=True)
    if not manifest.previous:
        _remove_previous(folder)


def remove_shards(folder: Path) -> None:
    """Remove the shards in a folder and, if they are all it holds, the folder. What ragvec did not make stays."""
    if not is_own_folder(folder):
        return
    for place in rank_folders(folder):
        remove_shards(place)
    remove_own(folder / RANKS, ())
    _remove_previous(folder)
    remove_own(folder, tuple(path.name for path in _written(folder)))


def _remove_previous(folder: Path) -> None:
    previous = folder / PREVIOUS
    if is_own_folder(previous):
        remove_own(previous, tuple(path.name for path in previous.iterdir() if _SET_ASIDE.fullmatch(path.name)))


def _written(folder: Path) -> list[Path]:
    """What bears the name of a part, of the manifest, of the temporary file of one, or of the log."""
    return [
        path
        for path in folder.iterdir()
        if path.name in (MANIFEST, LOG) or PART_NAME.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name)
    ]


def previous_name(part: Part) -> str:
    """Where a part lies while it is set aside: named by its contents, so that two runs' part-00003 don't collide."""
    return f"{PREVIOUS}/{part.sha256[:32]}.parquet"


def _unique(parts: Sequence[Part]) -> tuple[Part, ...]:
    return tuple({part.sha256: part for part in parts}.values())
