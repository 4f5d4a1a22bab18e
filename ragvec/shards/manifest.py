"""The manifest of a shards folder: what made the vectors, what they were made from, every part's rows and checksums."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from ragvec import __version__
from ragvec.artefacts import MANIFEST_NAME as MANIFEST
from ragvec.checked import Mismatch, check_fields, check_range, check_value
from ragvec.corpus.files import InputFile
from ragvec.errors import Damaged, NotFound, RagvecError, Unavailable, WrongInput
from ragvec.files import read_described, replacing
from ragvec.shards.log import LOG, logged_parts
from ragvec.shards.storage import DTYPES

FORMAT = "ragvec-shards"
FORMAT_VERSION = 1
PART_NAME = re.compile(r"part-\d{5,}\.parquet")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Failure(NamedTuple):
    """A passage that could not be encoded, and why."""

    passage_id: str
    doc_id: str
    error: str


@dataclass(frozen=True, slots=True)
class Part:
    """A finished Parquet file: its size, what it holds, and how to tell that neither it nor the corpus has changed.

    content_digest   of the passages of this part of the corpus, vectors aside; sha256: of the file
    failed           passages that belong here and have no row, because encoding them failed
    recall           the recall@10 of the vectors as stored against float32, measured on some of them; None = not measured
    """

    name: str
    rows: int
    tokens: int
    truncated: int
    bytes: int
    sha256: str
    content_digest: str
    failed: tuple[Failure, ...] = ()
    recall: float | None = None

    def describe(self) -> dict[str, Any]:
        """The part as JSON values; what is empty is left out."""
        record = {name: value for name, value in asdict(self).items() if value not in ((), None)}
        return {**record, **({"failed": [failure._asdict() for failure in self.failed]} if self.failed else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What made the vectors: two sets of vectors may be searched together if and only if this is equal.

    source, options   where the encoder lay and what else `Encoder.load` was given; of no account for equality
    """

    source: str = field(compare=False)
    fingerprint: str
    dimension: int
    instruction: str
    dtype: str
    normalized: bool
    options: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record of a shards folder.

    previous       the parts set aside while a changed corpus is encoded
    rejected       rows and files of the corpus that could not be read and were left out
    corpus_digest  of all parts of the corpus, in the folder of a rank, which holds only some of them
    """

    provenance: Provenance
    parts: tuple[Part, ...] = ()
    previous: tuple[Part, ...] = ()
    inputs: tuple[InputFile, ...] = ()
    complete: bool = False
    corpus_digest: str = ""
    ragvec_version: str = __version__
    rejected: int = 0

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
    def failed(self) -> tuple[Failure, ...]:
        """Passages that could not be encoded."""
        return tuple(failure for part in self.parts for failure in part.failed)

    @property
    def recall(self) -> float | None:
        """The recall@10 of the vectors as stored against float32, where it was measured."""
        return next((part.recall for part in self.parts if part.recall is not None), None)

    @property
    def fingerprint(self) -> str:
        """The encoder's fingerprint."""
        return self.provenance.fingerprint

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.provenance.dimension

    @property
    def instruction(self) -> str:
        """What was put before every passage; normally nothing."""
        return self.provenance.instruction

    @property
    def dtype(self) -> str:
        """float16, float32, int8 or binary, as stored."""
        return self.provenance.dtype

    @property
    def normalized(self) -> bool:
        """Whether the vectors have length 1."""
        return self.provenance.normalized

    def describe(self) -> dict[str, Any]:
        """The manifest as JSON values, totals included; the same as manifest.json."""
        provenance = asdict(self.provenance)
        encoder = {name: provenance.pop(name) for name in ("source", "fingerprint", "dimension", "options")}
        if not encoder["options"]:
            del encoder["options"]
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "ragvec_version": self.ragvec_version,
            "complete": self.complete,
            "encoder": encoder,
            **provenance,
            "rows": self.rows,
            "tokens": self.tokens,
            "truncated": self.truncated,
            "inputs": [item.describe() for item in self.inputs],
            "parts": [part.describe() for part in self.parts],
            **({"failed": len(self.failed)} if self.failed else {}),
            **({"rejected": self.rejected} if self.rejected else {}),
            **({"recall": self.recall} if self.recall is not None else {}),
            **({"previous": [part.describe() for part in self.previous]} if self.previous else {}),
            **({"corpus_digest": self.corpus_digest} if self.corpus_digest else {}),
        }


def save_manifest(folder: Path, manifest: Manifest) -> bytes:
    """Write manifest.json, whole or not at all; returns its bytes. A log that added to the one before is void."""
    text = manifest_bytes(manifest)
    try:
        with replacing(folder / MANIFEST) as file:
            file.write(text)
    except OSError as error:
        raise unwritable(folder / MANIFEST, error) from error
    return text


def manifest_bytes(manifest: Manifest) -> bytes:
    """A manifest as it is stored."""
    return (json.dumps(manifest.describe(), indent=1, ensure_ascii=False) + "\n").encode()


def load_manifest(folder: Path) -> Manifest:
    """Read manifest.json, and what the log of an unfinished run adds to it.

    Raises RagvecError if it is missing, damaged, or of a newer format.
    """
    path = folder / MANIFEST
    try:
        text = read_described(path)
    except FileNotFoundError:
        raise NotFound(
            f"{folder} holds no shards ({MANIFEST} is missing): make them with `ragvec encode CORPUS -o {folder}`"
        ) from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from error
    manifest = parse_manifest(text, str(path))
    if manifest.complete:
        return manifest
    try:
        return _with_logged(manifest, logged_parts(folder, text))
    except OSError as error:
        raise Unavailable(f"{folder / LOG} cannot be read: {error.strerror}") from error
    except Mismatch as error:
        raise Damaged(f"{folder / LOG} is damaged ({error}): encode again with `ragvec encode --overwrite`") from error


def parse_manifest(text: bytes, shown: str, *, names: re.Pattern[str] = PART_NAME) -> Manifest:
    """A manifest out of its bytes; shown: where they lie; names: of its parts.

    Raises RagvecError if it is damaged, or of a newer format."""
    try:
        record = json.loads(text)
        if record["format"] != FORMAT:
            raise WrongInput(f"{shown} belongs to {record['format']!r}, not to shards made by `ragvec encode`")
        if record["format_version"] > FORMAT_VERSION:
            raise WrongInput(
                f"{shown} has format version {record['format_version']}, this ragvec reads up to {FORMAT_VERSION}: upgrade"
            )
        return _parse(record, names)
    except Mismatch as error:
        raise Damaged(f"{shown} is damaged ({error}): encode again with `ragvec encode --overwrite`") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{shown} is damaged ({error!r}): encode again with `ragvec encode --overwrite`") from error


def _with_logged(manifest: Manifest, logged: Iterable[tuple[int, dict[str, Any]]]) -> Manifest:
    parts = list(manifest.parts)
    for number, record in logged:
        check_range("number", number, 0, len(parts))
        parts[number : number + 1] = [parse_part(record)]
    return replace(manifest, parts=tuple(parts))


def _parse(record: dict[str, Any], names: re.Pattern[str]) -> Manifest:
    provenance = Provenance(
        **check_fields(
            {"options": {}, **record["encoder"], **{name: record[name] for name in ("instruction", "dtype", "normalized")}},
            Provenance,
        )
    )
    check_range("dimension", provenance.dimension, 1, 2**20)
    if provenance.dtype not in DTYPES:
        raise Mismatch(f"dtype is {provenance.dtype!r}, none of {', '.join(DTYPES)}")
    listed = {
        name: check_value(name, record.get(name, []), tuple[dict[str, Any], ...]) for name in ("parts", "previous", "inputs")
    }
    others: dict[str, Any] = {
        name: record[name] for name in ("complete", "corpus_digest", "ragvec_version", "rejected") if name in record
    }
    return Manifest(
        provenance=provenance,
        parts=tuple(parse_part(part, names) for part in listed["parts"]),
        previous=tuple(map(parse_part, listed["previous"])),
        inputs=tuple(InputFile(**check_fields(item, InputFile)) for item in listed["inputs"]),
        **check_fields(others, Manifest),
    )


def parse_part(record: dict[str, Any], names: re.Pattern[str] = PART_NAME) -> Part:
    """A part out of its record, called as these names are. Raises Mismatch."""
    try:
        part = Part(**check_fields(record, Part))
    except TypeError as error:
        raise Mismatch(f"a part lacks a field: {error}") from error
    if not names.fullmatch(part.name):
        raise Mismatch(f"a part is called {part.name!r}, not like part-00000.parquet")
    if not _SHA256.fullmatch(part.sha256):
        raise Mismatch(f"sha256 of {part.name} is {part.sha256[:80]!r}, not 64 hex digits")
    for name in ("rows", "tokens", "truncated", "bytes"):
        check_range(f"{name} of {part.name}", getattr(part, name), 0, 2**62)
    return part


def unwritable(path: Path, error: OSError) -> RagvecError:
    """What is said when a file of the folder can't be written."""
    reason = error.strerror or error
    return Unavailable(f"{path} cannot be written: {reason}. Finished parts are kept: mend this and run the same command again")
