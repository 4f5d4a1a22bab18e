"""Shards in a folder or in object storage, to be read: the one place where reading knows the two apart."""

import hashlib
from pathlib import Path
from typing import BinaryIO

from ragvec.errors import NotFound
from ragvec.objects import Bucket, ObjectFile, ObjectPath, as_path
from ragvec.shards.manifest import Manifest, Part, load_manifest
from ragvec.shards.stored import PARTS, load_stored_manifest

_PIECE = 1 << 20


def manifest_at(place: str | Path) -> Manifest:
    """The manifest of shards, wherever they are. Raises RagvecError if it is missing or damaged."""
    path = as_path(place)
    return load_stored_manifest(path) if isinstance(path, ObjectPath) else load_manifest(path)


def part_sizes(place: Path, manifest: Manifest) -> dict[str, int]:
    """The bytes of the manifest's parts that are there, by name."""
    if isinstance(place, ObjectPath):
        return Bucket(place).names(PARTS)
    paths = {part.name: place / part.name for part in manifest.parts}
    return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}


def open_part(path: Path) -> BinaryIO:
    """A part's file, to be read anywhere. Raises OSError, or RagvecError."""
    if isinstance(path, ObjectPath):
        return ObjectFile(path)  # type: ignore[return-value]
    return open(path, "rb")


def part_is_whole(path: Path, part: Part) -> bool:
    """Whether a file is, byte for byte, the one that was written; it is read to its end if its size is right."""
    if not isinstance(path, ObjectPath) and not (path.is_file() and path.stat().st_size == part.bytes):
        return False
    digest = hashlib.sha256()
    try:
        with open_part(path) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except NotFound:
        return False
    return digest.hexdigest() == part.sha256
