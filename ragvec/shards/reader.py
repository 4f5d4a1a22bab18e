"""Reading a shards folder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ragvec.errors import Damaged, NotFound, WrongInput
from ragvec.records import Passage
from ragvec.shards.manifest import Manifest, load_manifest
from ragvec.shards.parts import batch_passages, batch_stored, part_is_whole, read_batches
from ragvec.shards.storage import restore


class Shards:
    """Encoded passages, read as blocks. Open a folder with `Shards.open`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Use `Shards.open`."""
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: str | Path, *, allow_incomplete: bool = False) -> "Shards":
        """Open a folder made by `encode_corpus`. Raises RagvecError if it is missing, damaged, or not finished."""
        folder = Path(folder)
        if not folder.is_dir():
            state = "is a file" if folder.exists() else "does not exist"
            raise NotFound(f"{folder} {state}: name a folder made by `ragvec encode`")
        manifest = load_manifest(folder)
        if not (manifest.complete or allow_incomplete):
            raise WrongInput(
                f"{folder} is not finished ({manifest.rows:,} passages so far): run the same `ragvec encode` command again"
            )
        for part in manifest.parts:
            path = folder / part.name
            size = path.stat().st_size if path.is_file() else None
            if size != part.bytes:
                state = "is missing" if size is None else f"has {size:,} bytes instead of {part.bytes:,}"
                raise Damaged(f"{path} {state}: run the same `ragvec encode` command again, it encodes only what is lost")
        return cls(folder, manifest)

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
    folder = Path(folder)
    manifest = load_manifest(folder)
    return [
        f"{folder / part.name} is {'damaged' if (folder / part.name).exists() else 'missing'}"
        for part in manifest.parts
        if not part_is_whole(folder / part.name, part)
    ]
