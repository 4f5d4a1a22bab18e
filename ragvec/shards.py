"""Encoded passages on disk: Parquet parts that any tool reads, and a manifest that says what made them.

manifest.json         written last, after every part; "complete" once the whole corpus is in
part-00000.parquet    doc_id, passage_id, title, text, metadata (JSON), content_hash, tokens, truncated, embedding
previous/             only while a changed corpus is encoded anew: parts whose vectors may still be of use
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ragvec import __version__
from ragvec.corpus.files import InputFile
from ragvec.errors import RagvecError
from ragvec.files import replacing, sha256_file, write_text
from ragvec.records import Passage

FORMAT = "ragvec-shards"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
DTYPES = ("float16", "float32")
_ROW_GROUP = 8192
_TEXT_COLUMNS = ("doc_id", "passage_id", "title", "text", "metadata", "content_hash")


@dataclass(frozen=True, slots=True)
class Part:
    """A finished Parquet file: its size, what it holds, and how to tell that neither it nor the corpus has changed.

    content_digest   of the passages in it, vectors aside; sha256: of the file
    """

    name: str
    rows: int
    tokens: int
    truncated: int
    bytes: int
    sha256: str
    content_digest: str


@dataclass(frozen=True, slots=True)
class Maker:
    """What made the vectors: two sets of vectors may be searched together if and only if this is equal (source aside)."""

    source: str
    fingerprint: str
    dimension: int
    instruction: str
    dtype: str
    normalized: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record of a shards folder. `previous` lists the parts set aside while a changed corpus is encoded."""

    maker: Maker
    parts: tuple[Part, ...] = ()
    previous: tuple[Part, ...] = ()
    inputs: tuple[InputFile, ...] = ()
    complete: bool = False
    ragvec_version: str = __version__

    @property
    def rows(self) -> int:
        """Passages in all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def tokens(self) -> int:
        """Tokens the encoder read for them."""
        return sum(part.tokens for part in self.parts)

    @property
    def truncated(self) -> int:
        """Passages that were cut at the encoder's maximal length."""
        return sum(part.truncated for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """The encoder's fingerprint."""
        return self.maker.fingerprint

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.maker.dimension

    @property
    def instruction(self) -> str:
        """What was put before every passage; normally nothing."""
        return self.maker.instruction

    @property
    def dtype(self) -> str:
        """float16 or float32, as stored."""
        return self.maker.dtype

    @property
    def normalized(self) -> bool:
        """Whether the vectors have length 1."""
        return self.maker.normalized

    def describe(self) -> dict[str, Any]:
        """The manifest as JSON values, totals included; the same as manifest.json."""
        maker = asdict(self.maker)
        encoder = {name: maker.pop(name) for name in ("source", "fingerprint", "dimension")}
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "ragvec_version": self.ragvec_version,
            "complete": self.complete,
            "encoder": encoder,
            **maker,
            "rows": self.rows,
            "tokens": self.tokens,
            "truncated": self.truncated,
            "inputs": [item._asdict() for item in self.inputs],
            "parts": [asdict(part) for part in self.parts],
            **({"previous": [asdict(part) for part in self.previous]} if self.previous else {}),
        }


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json, whole or not at all."""
    try:
        write_text(folder / MANIFEST, json.dumps(manifest.describe(), indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise _unwritable(folder / MANIFEST, error) from error


def load_manifest(folder: Path) -> Manifest:
    """Read manifest.json. Raises RagvecError if it is missing, damaged, or of a newer format."""
    path = folder / MANIFEST
    try:
        record = json.loads(path.read_bytes())
        if record["format"] != FORMAT:
            raise RagvecError(f"{path} belongs to {record['format']!r}, not to shards made by `ragvec encode`")
        if record["format_version"] > FORMAT_VERSION:
            raise RagvecError(
                f"{path} has format version {record['format_version']}, this ragvec reads up to {FORMAT_VERSION}: upgrade"
            )
        return _parse(record)
    except FileNotFoundError:
        raise RagvecError(
            f"{folder} holds no shards ({MANIFEST} is missing): make them with `ragvec encode CORPUS -o {folder}`"
        ) from None
    except OSError as error:
        raise RagvecError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RagvecError(f"{path} is damaged ({error!r}): encode again with --overwrite") from error


def _parse(record: dict[str, Any]) -> Manifest:
    encoder = record["encoder"]
    return Manifest(
        maker=Maker(
            source=encoder["source"],
            fingerprint=encoder["fingerprint"],
            dimension=int(encoder["dimension"]),
            instruction=record["instruction"],
            dtype=record["dtype"],
            normalized=record["normalized"],
        ),
        parts=tuple(Part(**part) for part in record["parts"]),
        previous=tuple(Part(**part) for part in record.get("previous", ())),
        inputs=tuple(InputFile(**item) for item in record["inputs"]),
        complete=record["complete"],
        ragvec_version=record["ragvec_version"],
    )


class PartVectors(NamedTuple):
    """What the encoder made of a part's passages: vectors (n, d), token counts (n,) int, truncated (n,) bool."""

    vectors: np.ndarray
    token_counts: np.ndarray
    truncated: np.ndarray


def content_digest(passages: Sequence[Passage]) -> str:
    """32 hex digits that change whenever any stored field of any passage does, or their order."""
    digest = hashlib.blake2b(digest_size=16)
    for passage in passages:
        fields = [passage.doc_id, passage.passage_id, passage.title, passage.text, passage.metadata_json]
        digest.update(orjson.dumps(fields))
    return digest.hexdigest()


def write_part(folder: Path, name: str, passages: Sequence[Passage], encoded: PartVectors, maker: Maker) -> Part:
    """Write one part, whole or not at all, and return its record.

    Vectors are stored plain: no dictionary, no compression, no statistics, elements not nullable. For 8,192 x 1024 float16 on
    one core that wrote 0.26 GB/s and read 0.7, against 0.07 and 0.10 at Parquet's defaults (docs/encoding.md).
    Raises RagvecError if it can't be written.
    """
    path = folder / name
    digest = content_digest(passages)
    table = _table(passages, encoded, maker, digest)
    try:
        with replacing(path) as file:
            pq.write_table(
                table,
                file,
                row_group_size=_ROW_GROUP,
                use_dictionary=False,
                write_statistics=["passage_id", "doc_id"],
                compression={column: "zstd" for column in _TEXT_COLUMNS},
            )
    except OSError as error:
        raise _unwritable(path, error) from error
    return Part(
        name=name,
        rows=len(passages),
        tokens=int(encoded.token_counts.sum()),
        truncated=int(encoded.truncated.sum()),
        bytes=path.stat().st_size,
        sha256=sha256_file(path),
        content_digest=digest,
    )


def _unwritable(path: Path, error: OSError) -> RagvecError:
    reason = error.strerror or error
    return RagvecError(f"{path} cannot be written: {reason}. Finished parts are kept: mend this and run the same command again")


def _table(passages: Sequence[Passage], encoded: PartVectors, maker: Maker, digest: str) -> pa.Table:
    number = pa.from_numpy_dtype(np.dtype(maker.dtype))
    embedding = pa.list_(pa.field("element", number, nullable=False), maker.dimension)
    flat = pa.array(np.ascontiguousarray(encoded.vectors, dtype=maker.dtype).reshape(-1))
    columns = {
        "doc_id": pa.array([passage.doc_id for passage in passages], pa.string()),
        "passage_id": pa.array([passage.passage_id for passage in passages], pa.string()),
        "title": pa.array([passage.title for passage in passages], pa.string()),
        "text": pa.array([passage.text for passage in passages], pa.string()),
        "metadata": pa.array([passage.metadata_json for passage in passages], pa.string()),
        "content_hash": pa.array([passage.content_hash for passage in passages], pa.string()),
        "tokens": pa.array(encoded.token_counts, pa.int32()),
        "truncated": pa.array(encoded.truncated, pa.bool_()),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, type=embedding),
    }
    about = orjson.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, "content_digest": digest, **asdict(maker)})
    schema = pa.schema([pa.field(name, array.type, nullable=False) for name, array in columns.items()], {"ragvec": about})
    return pa.table(list(columns.values()), schema=schema)


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
            raise RagvecError(f"{folder} {state}: name a folder made by `ragvec encode`")
        manifest = load_manifest(folder)
        if not (manifest.complete or allow_incomplete):
            raise RagvecError(
                f"{folder} is not finished ({manifest.rows:,} passages so far): run the same `ragvec encode` command again"
            )
        for part in manifest.parts:
            path = folder / part.name
            size = path.stat().st_size if path.exists() else None
            if size != part.bytes:
                state = "is missing" if size is None else f"has {size:,} bytes instead of {part.bytes:,}"
                raise RagvecError(f"{path} {state}: run the same `ragvec encode` command again, it encodes only what is lost")
        return cls(folder, manifest)

    def __len__(self) -> int:
        """Passages in all."""
        return self.manifest.rows

    def blocks(self, batch_rows: int = 1024) -> Iterator[tuple[list[Passage], np.ndarray]]:
        """Passages and their vectors (n, d) as stored, at most batch_rows at a time, in the corpus' order.

        Raises RagvecError for a damaged part.
        """
        for part in self.manifest.parts:
            for batch in read_batches(self.folder / part.name, batch_rows):
                yield _passages(batch), batch_vectors(batch)


def read_batches(path: Path, batch_rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """A part's rows as record batches. Raises RagvecError if it is damaged."""
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_rows, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise RagvecError(f"{path} is damaged ({error}): run the same `ragvec encode` command again") from error


def batch_vectors(batch: pa.RecordBatch) -> np.ndarray:
    """The vectors of a record batch, (n, d) as stored."""
    embedding = batch.column("embedding")
    return embedding.flatten().to_numpy(zero_copy_only=False).reshape(len(batch), embedding.type.list_size)


def _passages(batch: pa.RecordBatch) -> list[Passage]:
    columns = [batch.column(name).to_pylist() for name in ("passage_id", "doc_id", "text", "title", "metadata")]
    return [
        Passage(passage_id, doc_id, text, title, {} if metadata == "{}" else orjson.loads(metadata))
        for passage_id, doc_id, text, title, metadata in zip(*columns, strict=True)
    ]


def part_is_whole(path: Path, part: Part) -> bool:
    """Whether a file is, byte for byte, the one that was written."""
    return path.is_file() and path.stat().st_size == part.bytes and sha256_file(path) == part.sha256


def verify_shards(folder: str | Path) -> list[str]:
    """Read every part against its checksum; one line for each that is damaged or missing, so an empty list is good news."""
    folder = Path(folder)
    manifest = load_manifest(folder)
    return [
        f"{folder / part.name} is {'damaged' if (folder / part.name).exists() else 'missing'}"
        for part in manifest.parts
        if not part_is_whole(folder / part.name, part)
    ]
