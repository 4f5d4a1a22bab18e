"""Encoded passages on disk: Parquet parts that any tool reads, and a manifest that says what made them.

manifest.json         written last, after every part; "complete" once the whole corpus is in
parts.log             only while it is not complete: a line for each part that the manifest does not name yet
part-00000.parquet    doc_id, passage_id, title, text, metadata (JSON), content_hash, tokens, truncated, embedding
previous/             only while a changed corpus is encoded anew: parts whose vectors may still be of use
ranks/                only while several processes encode: a shards folder for each

In object storage they are laid out otherwise: see `ragvec.shards.stored`.
"""

from ragvec.artefacts import MANIFEST_NAME as MANIFEST
from ragvec.shards.manifest import Failure, Manifest, Part, Provenance, load_manifest, save_manifest
from ragvec.shards.parts import PartVectors, batch_stored, content_digest, part_bytes, write_part
from ragvec.shards.place import manifest_at, open_part, part_is_whole
from ragvec.shards.reader import Shards, verify_shards
from ragvec.shards.storage import DTYPES, Stored, recall_of, restore, store

__all__ = [
    "DTYPES",
    "MANIFEST",
    "Failure",
    "Provenance",
    "Manifest",
    "Part",
    "PartVectors",
    "Shards",
    "Stored",
    "batch_stored",
    "content_digest",
    "load_manifest",
    "manifest_at",
    "open_part",
    "part_bytes",
    "part_is_whole",
    "recall_of",
    "restore",
    "save_manifest",
    "store",
    "verify_shards",
    "write_part",
]
