"""Shards: are the files whole, and are the vectors in them vectors?"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ragvec.doctor.check import ADVICE, FAILED, OK, Check, judged
from ragvec.errors import RagvecError
from ragvec.shards import Manifest, Shards, manifest_at, verify_shards

AREA = "shards"
MOST_TRUNCATED = 0.05  # share of passages; beyond it the encoder does not see what users search for
_BLOCK = 4096
_UNIT = 0.01  # how far a unit vector's length may be from 1 in float16


class VectorFaults(NamedTuple):
    """How many vectors are not finite, are zero, and are of another length than 1."""

    infinite: int
    zero: int
    other_length: int


def examine_shards(folder: Path) -> Iterator[Check]:
    """Every part against its checksum, every vector, every id."""
    try:
        manifest = manifest_at(folder)
    except RagvecError as error:
        yield Check(AREA, "manifest", FAILED, str(error), remedy="encode the corpus again (`ragvec encode --overwrite`)")
        return
    provenance = f"{manifest.provenance.source} ({manifest.fingerprint[:12]})"
    made = f"{manifest.rows:,} passages (parts: {len(manifest.parts)}), by {provenance}"
    again = "run the same `ragvec encode` command again"
    yield judged(AREA, "complete", manifest.complete, made + ("" if manifest.complete else " so far"), remedy=again)
    damaged = verify_shards(folder)
    found = "; ".join(damaged) or "every part as it was written"
    yield judged(AREA, "checksums", not damaged, found, remedy=f"{again}: it encodes only what is lost")
    yield _truncation(manifest)
    if not damaged:
        yield from _contents(Shards.open(folder, allow_incomplete=True), manifest)


def count_faults(vectors: np.ndarray) -> VectorFaults:
    """The faults among vectors (n, d)."""
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    infinite = ~np.isfinite(lengths)
    zero = lengths == 0
    other = ~infinite & ~zero & (np.abs(lengths - 1) > _UNIT)
    return VectorFaults(int(infinite.sum()), int(zero.sum()), int(other.sum()))


def judge_vectors(area: str, faults: VectorFaults, rows: int, *, normalized: bool, remedy: str) -> Check:
    """The check of all vectors of shards or of an index."""
    wrong = faults.infinite + faults.zero + (faults.other_length if normalized else 0)
    parts = {
        "NaN or infinite": faults.infinite,
        "zero": faults.zero,
        "not of length 1": faults.other_length if normalized else 0,
    }
    found = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count) or "all finite, none zero"
    return judged(area, "vectors", not wrong, f"{found}, of {rows:,}", remedy=remedy)


def _truncation(manifest: Manifest) -> Check:
    share = manifest.truncated / max(manifest.rows, 1)
    remedy = "cut documents into passages, or raise the longest prompt (`ragvec encode --max-length`)"
    return judged(
        AREA, "truncation", share <= MOST_TRUNCATED, f"{share:.1%} of the passages were cut", remedy=remedy, otherwise=ADVICE
    )


def _contents(shards: Shards, manifest: Manifest) -> Iterator[Check]:
    """Ids and texts are kept as 8-byte hashes: a corpus of 50 million passages takes 800 MB."""
    faults = VectorFaults(0, 0, 0)
    ids: Counter[int] = Counter()
    texts: Counter[int] = Counter()
    for passages, vectors in shards.blocks(_BLOCK):
        faults = VectorFaults(*(old + new for old, new in zip(faults, count_faults(vectors), strict=True)))
        ids.update(hash(passage.passage_id) for passage in passages)
        texts.update(hash(passage.encoded_text) for passage in passages)
    remedy = "encode the corpus again (`ragvec encode --overwrite`), in float32 if it happens again"
    yield judge_vectors(AREA, faults, manifest.rows, normalized=manifest.normalized, remedy=remedy)
    twice = manifest.rows - len(ids)
    yield judged(
        AREA, "ids", not twice, f"{twice:,} come twice", remedy="give every document an id of its own, and encode again"
    )
    same = manifest.rows - len(texts)
    found = f"{same:,} passages repeat another's text"
    yield (
        Check(AREA, "duplicates", ADVICE, found, remedy="remove them from the corpus: they crowd each other's results")
        if same
        else Check(AREA, "duplicates", OK, found)
    )
