"""Shards in object storage, where nothing is renamed or locked: every object is named by what it holds, or made once.

parts/PROVENANCE/SHA256.parquet          rows, as in a folder's parts
records/PROVENANCE/CONTENT.json          created once: which part holds the passages of this content digest
manifests/00000001.json                  created once, last: what the shards are; the highest number counts
PROVENANCE is a digest of what made the vectors.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import NamedTuple

import orjson

from ragvec.checked import Mismatch, check_value
from ragvec.errors import Damaged, NotFound, WrongInput
from ragvec.objects import Bucket, ObjectPath
from ragvec.shards.manifest import Manifest, Part, Provenance, manifest_bytes, parse_manifest, parse_part

PARTS, RECORDS, MANIFESTS = "parts/", "records/", "manifests/"
CLAIMS, WRITERS = "claims/", "writers/"  # of runs that go on, see ragvec.ingest.claims
STORED_NAME = re.compile(r"parts/[0-9a-f]{16}/[0-9a-f]{32}\.parquet")
_MANIFEST = re.compile(rf"{MANIFESTS}(\d{{8,15}})\.json", re.ASCII)
_MOST_RECORD = 1 << 24  # bytes; it has some for each passage that failed
_AT_ONCE = 16  # small requests that wait for each other in a distant store


class Version(NamedTuple):
    """A manifest and its number; None and 0 where there is none yet."""

    manifest: Manifest | None
    number: int


def provenance_key(provenance: Provenance) -> str:
    """16 hex digits that are equal for vectors that may be searched together, and only then."""
    compared = {name: value for name, value in asdict(provenance).items() if name not in ("source", "options")}
    return hashlib.blake2b(json.dumps(compared, sort_keys=True).encode(), digest_size=8).hexdigest()


def part_name(provenance: Provenance, sha256: str) -> str:
    """Where a part of these bytes lies."""
    return f"{PARTS}{provenance_key(provenance)}/{sha256[:32]}.parquet"


def record_name(provenance: Provenance, digest: str) -> str:
    """Where the record of a part with these passages lies."""
    return f"{RECORDS}{provenance_key(provenance)}/{digest}.json"


def claim_name(provenance: Provenance, digest: str, number: int | None = None) -> str:
    """Where a claim upon a part with these passages lies; without a number, the folder of all of them."""
    folder = f"{CLAIMS}{provenance_key(provenance)}/{digest}/"
    return folder if number is None else f"{folder}{number:06d}"


def latest_version(bucket: Bucket, *, replaced: bool = False) -> Version:
    """The manifest that counts. Raises Damaged if it is none of ours; replaced: then there is none, but its number is taken."""
    numbers = [int(found[1]) for name in bucket.names(MANIFESTS) if (found := _MANIFEST.fullmatch(name))]
    if not numbers:
        return Version(None, 0)
    name = _manifest_name(max(numbers))
    try:
        return Version(parse_manifest(bucket.read(name), f"{bucket}/{name}", names=STORED_NAME), max(numbers))
    except Damaged:
        if not replaced:
            raise
        return Version(None, max(numbers))


def create_version(bucket: Bucket, number: int, manifest: Manifest) -> bool:
    """Make the manifest of this number; returns whether nobody had."""
    return bucket.create(_manifest_name(number), manifest_bytes(manifest))


def load_stored_manifest(place: ObjectPath) -> Manifest:
    """The manifest of shards in object storage. Raises NotFound if there are none, WrongInput if they are not finished."""
    bucket = Bucket(place)
    manifest = latest_version(bucket).manifest
    if manifest is not None:
        return manifest
    if count := len(bucket.names(RECORDS)):
        raise WrongInput(f"{bucket} is not finished ({count:,} parts so far): run the same `ragvec encode` command again")
    raise NotFound(f"{bucket} holds no shards: make them with `ragvec encode CORPUS -o {bucket}`")


def create_record(bucket: Bucket, provenance: Provenance, part: Part, *, replace: bool = False) -> bool:
    """Note which part holds its passages, unless there is a note already; returns whether there was none."""
    name, data = record_name(provenance, part.content_digest), orjson.dumps(part.describe())
    if replace:
        bucket.put(name, data)
        return True
    return bucket.create(name, data)


def read_record(bucket: Bucket, provenance: Provenance, digest: str) -> Part | None:
    """The part that holds the passages of this digest; None if none does. Raises Damaged for what is no record."""
    name = record_name(provenance, digest)
    try:
        text = bucket.read(name, most=_MOST_RECORD)
    except NotFound:
        return None
    try:
        part = parse_part(check_value("the record", orjson.loads(text), dict[str, object]), STORED_NAME)
        if part.content_digest != digest or part.name != part_name(provenance, part.sha256):
            raise Mismatch("it belongs to another part")
        return part
    except (Mismatch, orjson.JSONDecodeError) as error:
        raise Damaged(f"{bucket}/{name} is damaged ({error}): remove it, and run the same command again") from error


def read_records(bucket: Bucket, provenance: Provenance, digests: Iterable[str]) -> dict[str, Part]:
    """The parts that hold the passages of these digests, by digest, where there are any; many are asked for at once."""
    wanted = list(digests)
    with ThreadPoolExecutor(_AT_ONCE, "records") as threads:
        parts = threads.map(lambda digest: read_record(bucket, provenance, digest), wanted)
        return {digest: part for digest, part in zip(wanted, parts, strict=True) if part is not None}


def recorded_digests(bucket: Bucket, provenance: Provenance) -> list[str]:
    """The content digests of all parts that have a record."""
    folder = record_name(provenance, "")[: -len(".json")]
    return [name[len(folder) : -len(".json")] for name in bucket.names(folder)]


def _manifest_name(number: int) -> str:
    return f"{MANIFESTS}{number:08d}.json"
