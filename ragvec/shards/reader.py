"""Reading a shards folder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ragvec.errors import Damaged, NotFound, WrongInput
from ragvec.objects import ObjectPath, as_path
from ragvec.records import Passage
from ragvec.shards.manifest import Manifest
from ragvec.shards.parts import batch_passages, batch_stored, read_batches
from ragvec.shards.place import manifest_at, part_is_whole, part_sizes
from ragvec.shards.storage import restore


class Shards:
    """Encoded passages, read as blocks. Open a folder with `Shards.open`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Use `Shards.open`."""
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: str | Path, *, allow_incomplete: bool = False) -> "Shards":
        """Open what `encode_corpus` made, a folder or a URL of object storage.

        Raises RagvecError if it is missing, damaged, or not finished.
        """
        place = as_path(folder)
        if not isinstance(place, ObjectPath) and not place.is_dir():
            state = "is a file" if place.exists() else "does not exist"
            raise NotFound(f"{place} {state}: name a folder made by `ragvec encode`")
        manifest = manifest_at(place)
        if not (manifest.complete or allow_incomplete):
            raise WrongInput(
                f"{place} is not finished ({manifest.rows:,} passages so far): run the same `ragvec encode` command again"
            )
        sizes = part_sizes(place, manifest)
        for part in manifest.parts:
            if (size := sizes.get(part.name)) != part.bytes:
                state = "is missing" if size is None else f"has {size:,} bytes instead of {part.bytes:,}"
                raise Damaged(
                    f"{place / part.name} {state}: run the same `ragvec encode` command again, it encodes only what is lost"
                )
        return cls(place, manifest)

    def __len__(self) -> int:
        """Passages in all."""
        return self.manifest.rows

    def blocks(self, batch_rows: int = 1024) -> Iterator[tuple[list[Passage], np.ndarray]]:
        """Passages and their vectors (n, d), at most batch_rows at a time, in the corpus' order.

        Vectors are float16 or float32 as stored; int8 and binary ones come back as float32.

        Raises RagvecError for a damaged part.
        """
        for part in self.manifest.parts:
            for batch in read_batches(self.folder / part.name, batch_rows):
                try:
                    passages = batch_passages(batch)
                    vectors = restore(batch_stored(batch), self.manifest.dtype, self.manifest.dimension)
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise Damaged(f"{self.folder / part.name} holds other columns than shards do ({error!r})") from error
                yield passages, vectors


def verify_shards(folder: str | Path) -> list[str]:
    """Read every part against its checksum; one line for each that is damaged or missing, so an empty list is good news."""
    place = as_path(folder)
    manifest = manifest_at(place)
    sizes = part_sizes(place, manifest)
    return [
        f"{place / part.name} is {'damaged' if part.name in sizes else 'missing'}"
        for part in manifest.parts
        if not part_is_whole(place / part.name, part)
    ]
