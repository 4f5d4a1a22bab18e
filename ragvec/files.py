"""Files and folders that are either whole or absent: temporary name, fsync, rename; and no link to elsewhere."""

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ragvec.errors import Damaged

TEMPORARY_SUFFIX = ".tmp"
MOST_DESCRIBED = 1 << 28  # bytes of a file that describes others; the largest tokenizers take a fifth of it


@contextmanager
def replacing(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Write a file that appears under its name only when it is complete and on disk.

    Yields the open temporary file; on any error it is removed and an older file at `path` stays as it was.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    with suppress(FileNotFoundError):
        temporary.unlink()  # of a dead process, or a link that someone laid there: never written through
    try:
        with open(temporary, mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Write a folder that appears under its name only when it is complete and on disk; what lay there goes then.

    Yields the temporary folder; on any error it is removed and an older one at `folder` stays as it was. A link at `folder`
    stays, and what it leads to is replaced.
    """
    folder = folder.resolve()
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                settle_file(path)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
        fsync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with replacing(path, "w") as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON for people too, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def settle_file(path: Path) -> None:
    """Flush a file that something else wrote to disk, and let the folder's readers read it: safetensors makes it private."""
    os.chmod(path, path.parent.stat().st_mode & 0o666)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, as hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_own_file(path: Path, *, alone: bool = False) -> bool:
    """Whether a file that ragvec keeps is there. Raises Damaged if a link or anything but a regular file bears its name.

    alone  it is written in place, so it must not be some other file too, under a second name (a hard link)
    """
    there = _is_own(path, stat.S_ISREG, "a regular file")
    if there and alone and path.lstat().st_nlink > 1:
        raise Damaged(
            f"{path} is a hard link, and its other name would be written to, too: put a copy in its place (cp, then mv)"
        )
    return there


def is_own_folder(path: Path) -> bool:
    """Whether a folder that ragvec keeps is there. Raises Damaged if a link or anything but a folder bears its name."""
    return _is_own(path, stat.S_ISDIR, "a folder")


def _is_own(path: Path, is_kind: Callable[[int], bool], kind: str) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if is_kind(mode):
        return True
    what = "a link" if stat.S_ISLNK(mode) else "something else"
    raise Damaged(f"{path} is {what}, where ragvec keeps {kind} of its own: remove it, or restore what was there")


def open_at_once(path: Path, flags: int, mode: int = 0o666) -> int:
    """A descriptor of what lies there, made with this mode where flags say so: no link is followed, no pipe waited for."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)


def read_described(path: Path) -> bytes:
    """The bytes of a file that describes others (a manifest, a configuration). Links are followed: the hub's cache has them.

    Raises OSError where it can't be read, and Damaged for what is no regular file or too large: it would be waited for, or
    fill the memory.
    """
    if path.exists() and not path.is_file():
        raise Damaged(f"{path} is no file that can be read: restore it")
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Damaged(f"{path} is no file that can be read: restore it")
        if status.st_size > MOST_DESCRIBED:
            raise Damaged(f"{path} has {status.st_size:,} bytes, over {MOST_DESCRIBED:,}: restore it")
        return file.read()


def open_lock(path: Path, *, write: bool = True) -> IO[str]:
    """Open a file that is locked and says who holds the lock; its contents stay.

    write  make it if it is not there, and let it be written; else it is only read
    Raises OSError if that can't be, and Damaged for a link, a pipe, or a file with words that ragvec did not write: whoever
    holds the lock empties the file, and must not empty another.
    """
    is_own_file(path)
    try:
        descriptor = open_at_once(path, os.O_RDWR | os.O_CREAT if write else os.O_RDONLY)
    except OSError as error:
        if error.errno == errno.ELOOP:
            is_own_file(path)
        raise
    file = os.fdopen(descriptor, "r+" if write else "r", encoding="utf-8")
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Damaged(f"{path} is no regular file: remove it")
        if status.st_size and (status.st_nlink > 1 or os.pread(descriptor, 1, 0) != b"{"):
            raise Damaged(f"{path} holds something that ragvec did not write there: move it away")
    except BaseException:
        file.close()
        raise
    return file


def remove_own(folder: Path, names: Iterator[str] | tuple[str, ...]) -> None:
    """Remove files of these names from a folder of ours, then the folder if nothing else is in it; links are not followed."""
    if not is_own_folder(folder):
        return
    for name in names:
        with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
            (folder / name).unlink()
    with suppress(OSError):  # something else is in it, which is not ours to remove
        folder.rmdir()
