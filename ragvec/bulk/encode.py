"""Encode a corpus of any size into shards: in parts, resumable at any kill, and only what is new."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from ragvec.bulk.folder import locked, set_aside, sweep, take_back
from ragvec.bulk.reuse import OldVectors
from ragvec.corpus.files import InputFile
from ragvec.errors import RagvecError
from ragvec.files import TEMPORARY_SUFFIX
from ragvec.progress import progress_bar
from ragvec.records import Passage
from ragvec.shards import (
    DTYPES,
    MANIFEST,
    Maker,
    Manifest,
    Part,
    PartVectors,
    content_digest,
    load_manifest,
    part_is_whole,
    save_manifest,
    write_part,
)

PART_ROWS = 8192
PART_CHARACTERS = 1 << 26  # a part also ends here, so that long documents don't fill the memory
BLOCK_ROWS = 512  # texts per call of the encoder: full batches, and a progress bar that moves


class Encodes(Protocol):
    """What encode_corpus asks of an encoder; `ragvec.Encoder` has it."""

    dimension: int
    fingerprint: str
    source: str

    def encode_counted(self, texts: Sequence[str], *, instruction: str, normalize: bool = True) -> Any:
        """Vectors (n, d) float32, token_counts (n,) and truncated (n,), as a tuple with these names."""


class EncodeReport(NamedTuple):
    """What a run did. rows, tokens and truncated count the whole corpus; encoded, reused and kept split rows by their origin.

    encoded  went through the encoder now; reused: an earlier run's vector of the same text in a part written anew
    kept     in parts that an earlier run had finished; damaged: parts found broken and written anew
    """

    folder: str
    rows: int
    tokens: int
    truncated: int
    encoded: int
    reused: int
    kept: int
    damaged: int
    parts: int
    bytes: int
    seconds: float


def encode_corpus(
    passages: Iterable[Passage],
    encoder: Encodes,
    folder: str | Path,
    *,
    instruction: str = "",
    dtype: str = "float16",
    normalize: bool = True,
    inputs: Sequence[InputFile] = (),
    part_rows: int = PART_ROWS,
    overwrite: bool = False,
    total: int | None = None,
    show_progress: bool = False,
) -> EncodeReport:
    """Encode passages into a folder of shards; the same call after a kill goes on where it stopped.

    dtype    of the stored vectors, float16 or float32
    inputs   the corpus files to record; may fill up while `passages` is read (`read_documents(…, on_file=inputs.append)`)
    total    about how many passages there are, for the progress bar
    A finished part is kept if the corpus still has the same passages there and its checksum holds; a passage that moved keeps
    its vector, found by content hash. Memory holds one part, and 24 bytes a row of the earlier run once the corpus has changed.
    Raises RagvecError if the folder was made by another encoder or with other settings (`overwrite` starts afresh), holds
    something else, or is being written by another run; for NaN vectors, an empty corpus, a full disk.
    """
    if dtype not in DTYPES:
        raise RagvecError(f"unknown dtype {dtype!r} for stored vectors: choose one of {', '.join(DTYPES)}")
    started = time.monotonic()
    folder = Path(folder)
    maker = Maker(str(encoder.source), encoder.fingerprint, encoder.dimension, instruction, dtype, normalize)
    _starting_manifest(folder, maker, overwrite)
    lists = cut_parts(passages, part_rows)
    first = next(lists, None)  # read before anything is created: a corpus with an error in its first lines leaves no trace
    if first is None:
        raise RagvecError("there is nothing to encode: the corpus holds no passages")
    _make_folder(folder)
    with locked(folder), progress_bar("encode", total=total, unit="passages", show=show_progress) as bar:
        run = _Run(folder, encoder, _starting_manifest(folder, maker, overwrite), bar)
        if overwrite or not (folder / MANIFEST).exists():
            save_manifest(folder, run.manifest)  # before anything is removed or written: from now on the folder is this run's
        sweep(folder, run.manifest)
        run.manifest = set_aside(folder, run.manifest, len(run.manifest.parts))
        run.part(first)
        del first
        for part_passages in lists:
            run.part(part_passages)
        run.finish(tuple(inputs))
    return run.report(time.monotonic() - started)


def cut_parts(passages: Iterable[Passage], part_rows: int, part_characters: int = PART_CHARACTERS) -> Iterator[list[Passage]]:
    """Lists of passages, each one part's: part_rows of them, fewer where the texts are long. Depends on the passages alone."""
    assert part_rows > 0
    gathered: list[Passage] = []
    characters = 0
    for passage in passages:
        gathered.append(passage)
        characters += len(passage.text)
        if len(gathered) == part_rows or characters >= part_characters:
            yield gathered
            gathered, characters = [], 0
    if gathered:
        yield gathered


@dataclass
class _Run:
    """One run over a corpus: the manifest as it is on disk, and what has been counted."""

    folder: Path
    encoder: Encodes
    manifest: Manifest
    bar: tqdm
    done: int = 0
    encoded: int = 0
    reused: int = 0
    kept: int = 0
    damaged: int = 0
    tokens: int = 0
    truncated: int = 0
    started: float = field(default_factory=time.monotonic)
    old: OldVectors | None = None

    def part(self, passages: list[Passage]) -> None:
        """Bring the next part to disk, by the cheapest way that is right."""
        digest = content_digest(passages)
        parts = self.manifest.parts
        recorded = parts[self.done] if self.done < len(parts) else None
        if recorded and recorded.content_digest == digest and part_is_whole(self.folder / recorded.name, recorded):
            self._count(recorded)
            self.kept += recorded.rows
            self.bar.update(recorded.rows)
            return
        if recorded and recorded.content_digest == digest:
            self.damaged += 1
        elif recorded:
            self.manifest = set_aside(self.folder, self.manifest, self.done)
        name = f"part-{self.done:05d}.parquet"
        part = take_back(self.folder, self.manifest.previous, digest, name)
        if part:
            self.reused += part.rows
            self.bar.update(part.rows)
        else:
            part = write_part(self.folder, name, passages, self._vectors(passages), self.manifest.maker)
        self._record(part)

    def finish(self, inputs: tuple[InputFile, ...]) -> None:
        """Declare the folder complete, then remove what the corpus no longer needs."""
        complete = replace(self.manifest, parts=self.manifest.parts[: self.done], previous=(), inputs=inputs, complete=True)
        if complete != self.manifest:
            save_manifest(self.folder, complete)
        self.manifest = complete
        sweep(self.folder, complete)

    def report(self, seconds: float) -> EncodeReport:
        """The run's figures."""
        manifest = self.manifest
        return EncodeReport(
            folder=str(self.folder),
            rows=manifest.rows,
            tokens=manifest.tokens,
            truncated=manifest.truncated,
            encoded=self.encoded,
            reused=self.reused,
            kept=self.kept,
            damaged=self.damaged,
            parts=len(manifest.parts),
            bytes=sum(part.bytes for part in manifest.parts),
            seconds=seconds,
        )

    def _record(self, part: Part) -> None:
        parts = (*self.manifest.parts[: self.done], part, *self.manifest.parts[self.done + 1 :])
        self.manifest = replace(self.manifest, parts=parts, complete=False)
        save_manifest(self.folder, self.manifest)
        self._count(part)

    def _count(self, part: Part) -> None:
        self.done += 1
        self.truncated += part.truncated

    def _vectors(self, passages: list[Passage]) -> PartVectors:
        """Vectors for one part: an earlier run's where the text is the same, the encoder's for the rest."""
        maker = self.manifest.maker
        out = PartVectors(
            np.empty((len(passages), maker.dimension), maker.dtype),
            np.zeros(len(passages), np.int32),
            np.zeros(len(passages), bool),
        )
        missing = list(range(len(passages)))
        if self.manifest.previous:
            if self.old is None or self.old.sources != self.manifest.previous:
                self.old = OldVectors(self.folder, self.manifest.previous)
            missing = self.old.fill(passages, out)
            self.reused += len(passages) - len(missing)
            self.bar.update(len(passages) - len(missing))
        for start in range(0, len(missing), BLOCK_ROWS):
            self._encode_block(passages, missing[start : start + BLOCK_ROWS], out)
        return out

    def _encode_block(self, passages: list[Passage], rows: list[int], out: PartVectors) -> None:
        maker = self.manifest.maker
        texts = [passages[row].encoded_text for row in rows]
        encoded = self.encoder.encode_counted(texts, instruction=maker.instruction, normalize=maker.normalized)
        assert encoded.vectors.shape == (len(rows), maker.dimension), encoded.vectors.shape
        with np.errstate(over="ignore"):  # what does not fit is refused by name just below
            stored = encoded.vectors.astype(maker.dtype)
        _check_finite(encoded.vectors, stored, [passages[row] for row in rows])
        out.vectors[rows] = stored
        out.token_counts[rows] = encoded.token_counts
        out.truncated[rows] = encoded.truncated
        self.encoded += len(rows)
        self.tokens += int(encoded.token_counts.sum())
        rate = self.tokens / max(time.monotonic() - self.started, 1e-9)
        truncated = self.truncated + int(out.truncated.sum())
        self.bar.set_postfix_str(f"{rate:,.0f} tokens/s, {truncated:,} truncated", refresh=False)
        self.bar.update(len(rows))


def _check_finite(vectors: np.ndarray, stored: np.ndarray, passages: Sequence[Passage]) -> None:
    bad = np.flatnonzero(~np.isfinite(stored).all(axis=1))
    if not len(bad):
        return
    passage_id = passages[bad[0]].passage_id
    if np.isfinite(vectors[bad]).all():
        raise RagvecError(
            f"the vector of passage {passage_id!r} is too large for {stored.dtype}: store float32 vectors or normalise"
        )
    raise RagvecError(
        f"the encoder gave NaN or infinity for passage {passage_id!r} and {len(bad) - 1} others near it, and this part was not "
        "written: compute in float32 (--dtype float32), or check the encoder with a short text"
    )


def check_folder(folder: Path) -> None:
    """Raises RagvecError unless shards may be written there: nothing yet, an empty folder, or shards."""
    if folder.exists() and not folder.is_dir():
        raise RagvecError(f"{folder} is a file: name a folder for the shards")
    if folder.exists() and not (folder / MANIFEST).exists():
        strange = [path.name for path in folder.iterdir() if not path.name.startswith(".") and path.suffix != TEMPORARY_SUFFIX]
        if strange:
            raise RagvecError(f"{folder} holds {sorted(strange)[0]!r} and no shards: name another folder, or empty this one")


def _starting_manifest(folder: Path, maker: Maker, overwrite: bool) -> Manifest:
    """The manifest to go on from. Raises RagvecError if the folder's vectors can't be mixed with this run's."""
    check_folder(folder)
    if overwrite or not (folder / MANIFEST).exists():
        return Manifest(maker)
    found = load_manifest(folder)
    for name, there, wanted in _differences(found.maker, maker):
        raise RagvecError(
            f"{folder} holds vectors made with {name} {there}, this run has {wanted}: "
            "write to another folder, or replace them with --overwrite"
        )
    return replace(found, maker=replace(found.maker, source=maker.source))  # the same encoder may have moved


def _differences(there: Maker, wanted: Maker) -> Iterator[tuple[str, str, str]]:
    if there.fingerprint != wanted.fingerprint:
        prints = [f"{maker.source} (fingerprint {maker.fingerprint[:12]})" for maker in (there, wanted)]
        yield "encoder", prints[0], prints[1]
    for name in ("dimension", "instruction", "dtype", "normalized"):
        if getattr(there, name) != getattr(wanted, name):
            yield name, repr(getattr(there, name)), repr(getattr(wanted, name))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RagvecError(f"{folder} cannot be made: {error.strerror}") from error
