"""Files and folders that are either whole or absent: temporary name, fsync, rename."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def replacing(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Write a file that appears under its name only when it is complete and on disk.

    Yields the open temporary file; on any error it is removed and an older file at `path` stays as it was.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
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

    Yields the temporary folder; on any error it is removed and an older one at `folder` stays as it was.
    """
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        temporary.mkdir(parents=True)
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
