"""What an index folder is made of. Whatever bears one of these names must be the index's own: never a link to elsewhere."""

import re
from contextlib import suppress
from pathlib import Path

from ragvec.artefacts import DATABASE_NAME, MAP_NAME, SERVER_LOCK_NAME
from ragvec.errors import Damaged
from ragvec.files import is_own_file, is_own_folder, remove_own
from ragvec.index.words import WordsRecord, remove_staging, sweep_words

LOCK_NAME = "writer.lock"
SEGMENTS_NAME = "segments"
WORDS_NAME = "words"
WORDS_STAGING_NAME = "words.new"  # where a writer works at them
ENCODING_NAME = "encoding"  # the shards of an unfinished build
VECTORS_NAME = "vectors.f16"
IDS_NAME = "ids.i64"
FAISS_NAME = "index.faiss"

_JOURNAL_NAME = f"{DATABASE_NAME}-journal"
DATABASE_FILES = (DATABASE_NAME, f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm", _JOURNAL_NAME, f"{DATABASE_NAME}.new")
SEGMENT_FILES = (VECTORS_NAME, IDS_NAME, FAISS_NAME)
_SEGMENT = re.compile(r"\d{4,}")
_JOURNAL_OF_MANY = bytes.fromhex("d9d505f920a163d7")  # how a journal ends that names another file


def check_layout(folder: Path) -> None:
    """Raises Damaged, by name, unless each file and folder of the index that is there is a real one. `folder` may be a link.

    What SQLite writes beside its file, even for a reader, must have no second name; the file itself may, in a backup that
    shares it, until it is written.
    """
    for name in (*DATABASE_FILES, LOCK_NAME, SERVER_LOCK_NAME):
        is_own_file(folder / name, alone=name in DATABASE_FILES and name != DATABASE_NAME)
    for name in (SEGMENTS_NAME, WORDS_NAME, WORDS_STAGING_NAME, ENCODING_NAME):
        is_own_folder(folder / name)
    with suppress(FileNotFoundError):
        _check_journal(folder / _JOURNAL_NAME)


def _check_journal(path: Path) -> None:
    """Raises Damaged for a journal that names a file beside it: SQLite removes that file when it has rolled back.

    A transaction over several databases leaves one, and ragvec makes none.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(_JOURNAL_OF_MANY)))
        if file.read() == _JOURNAL_OF_MANY:
            raise Damaged(f"{path} was not left by ragvec: restore the index, or remove it and build it again")


def segment_folder(index_folder: Path, number: int) -> Path:
    """Where segment `number` lies."""
    return index_folder / SEGMENTS_NAME / f"{number:04d}"


def segment_folders(index_folder: Path) -> list[Path]:
    """Every real folder that bears a segment's name, whether a commit knows it or not."""
    segments = index_folder / SEGMENTS_NAME
    if not is_own_folder(segments):
        return []
    there = sorted(segments.iterdir())
    return [path for path in there if _SEGMENT.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]


def remove_segment(folder: Path) -> None:
    """Remove a segment's files, and its folder if nothing else is in it."""
    remove_own(folder, SEGMENT_FILES)


def remove_index(folder: Path) -> None:
    """Remove an index's own files; the folder too, if nothing else is in it and no link leads to it."""
    for segment in segment_folders(folder):
        remove_segment(segment)
    remove_own(folder / SEGMENTS_NAME, ())
    remove_staging(folder / WORDS_STAGING_NAME)
    sweep_words(folder / WORDS_NAME, WordsRecord())
    remove_own(folder / WORDS_NAME, ())
    for name in (*DATABASE_FILES, LOCK_NAME, MAP_NAME):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # it holds something else
        folder.rmdir()
