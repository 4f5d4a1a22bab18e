"""An index: are its files whole and its own, does its database agree with them, and is its encoder still the same?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ragvec.doctor.check import ADVICE, FAILED, OK, Check, judged
from ragvec.doctor.encoder import examine_loaded
from ragvec.doctor.shards import VectorFaults, count_faults, judge_vectors
from ragvec.errors import RagvecError
from ragvec.files import sha256_file
from ragvec.index import Index, View, store
from ragvec.index.ann.choice import EXACT_KEY
from ragvec.index.encoder import NO_ENCODER, load_encoder
from ragvec.index.layout import ENCODING_NAME, SEGMENTS_NAME, WORDS_NAME
from ragvec.index.segment import Segment
from ragvec.records import Passage

AREA = "index"
MOST_DELETED = 0.25  # share of a segment's rows; beyond it searches spend time on what is gone
_BLOCK = 65_536


def examine_index(folder: Path, **loading: Any) -> Iterator[Check]:
    """Every file against its checksum, every vector, the database, the measured recall, and the encoder it was built with.

    loading  arguments of `Encoder.load` that change no vector: device, dtype, offline
    """
    again = f"restore it, or remove the folder and run `ragvec index CORPUS -o {folder}`"
    try:
        with Index.open(folder) as index:
            with index.reading() as view:
                segments, passages = view.segments, len(view)
                named = f"{passages:,} passages in {len(segments)} segments, searched by {index.settings.faiss_key}"
                yield Check(AREA, "opens", OK, named)
                yield _database(view, segments, again)
                yield _texts(view, again)
                yield _words(view, passages, again)
                yield _checksums(folder, view, again)
                yield _vectors(segments, index.settings.normalized, again)
                yield from _recalls(segments, index.settings.recall_target)
                yield _deleted(view, folder)
                yield _orphans(folder, segments)
            yield from _encoder(index, loading)
    except RagvecError as error:
        yield Check(AREA, "opens", FAILED, str(error))  # which says what to do


def _database(view: View, segments: list[Segment], again: str) -> Check:
    said = store.quick_check(view.connection)
    if said != "ok":
        return Check(AREA, "database", FAILED, said, remedy=again)
    ids = np.concatenate([np.asarray(segment.ids) for segment in segments]) if segments else np.empty(0, np.int64)
    live = np.setdiff1d(ids, store.read_tombstones(view.connection))
    stored = store.id_array((number,) for number, _ in store.read_listing(view.connection))
    without = np.setdiff1d(stored, live)
    empty = sum(passage.is_empty for start in range(0, len(without), _BLOCK) for passage in _passages(view, without, start))
    lost = len(np.setdiff1d(live, stored)) + len(without) - empty
    but = f", but for {empty:,} without any text" if empty else ""
    sound = f"sound; every passage has its vector{but}"
    found = f"{lost:,} passages without a vector or vectors without a passage" if lost else sound
    return judged(AREA, "database", not lost, found, remedy=again)


def _passages(view: View, ids: np.ndarray, start: int) -> list[Passage]:
    return view.passages(ids[start : start + _BLOCK].tolist())


def _texts(view: View, again: str) -> Check:
    changed = list(store.altered_passages(view.connection))
    shown = f"{len(changed):,} passages differ from what was added, such as {changed[0]!r}" if changed else "as they were added"
    return judged(AREA, "texts", not changed, shown, remedy=again)


def _words(view: View, passages: int, again: str) -> Check:
    searched = len(view.words)
    return judged(
        AREA, "words", searched == passages, f"{searched:,} of {passages:,} passages can be searched by words", remedy=again
    )


def _checksums(folder: Path, view: View, again: str) -> Check:
    files = [(each.folder / name, file["sha256"]) for each in view.segments for name, file in each.record.files.items()]
    files += [(folder / WORDS_NAME / name, file.sha256) for name, file in view.words.record.files.items()]
    damaged = [str(path) for path, digest in files if sha256_file(path) != digest]
    return judged(
        AREA,
        "checksums",
        not damaged,
        f"damaged: {', '.join(damaged)}" if damaged else f"{len(files)} files as written",
        remedy=again,
    )


def _vectors(segments: list[Segment], normalized: bool, again: str) -> Check:
    faults, rows = VectorFaults(0, 0, 0), 0
    for segment in segments:
        rows += segment.record.rows
        for start in range(0, segment.record.rows, _BLOCK):
            new = count_faults(segment.vectors[start : start + _BLOCK])
            faults = VectorFaults(*(old + more for old, more in zip(faults, new, strict=True)))
    return judge_vectors(AREA, faults, rows, normalized=normalized, remedy=again)


def _recalls(segments: list[Segment], target: float) -> Iterator[Check]:
    for segment in segments:
        record = segment.record
        if record.faiss_key != EXACT_KEY and record.recall is not None:
            reached = f"{record.recall:.1%} of the true 10 nearest are found, {target:.0%} asked for"
            found = f"segment {record.number}, {record.faiss_key}: {reached}"
            remedy = "run `ragvec compact --index-key auto`, or choose a key with more bits a vector"
            yield judged(AREA, "recall", record.recall >= target, found, remedy=remedy)
    if all(segment.record.faiss_key == EXACT_KEY for segment in segments):
        yield Check(AREA, "recall", OK, "search is exact")


def _deleted(view: View, folder: Path) -> Check:
    rows = sum(segment.record.rows for segment in view.segments)
    share = sum(int(np.count_nonzero(~mask)) for mask in view.live if mask is not None) / max(rows, 1)
    remedy = f"run `ragvec compact -i {folder}`"
    return judged(AREA, "deleted rows", share <= MOST_DELETED, f"{share:.0%} of the vectors", remedy=remedy, otherwise=ADVICE)


def _orphans(folder: Path, segments: list[Segment]) -> Check:
    known = {segment.folder.name for segment in segments}
    there = (folder / SEGMENTS_NAME).iterdir() if (folder / SEGMENTS_NAME).is_dir() else ()
    orphans = sorted(f"{SEGMENTS_NAME}/{path.name}" for path in there if path.name not in known)
    if (folder / ENCODING_NAME).exists():
        orphans.append(ENCODING_NAME)
    remedy = "an interrupted or running build left them: the next `ragvec index` takes them up or removes them"
    return judged(AREA, "orphans", not orphans, ", ".join(orphans) or "none", remedy=remedy, otherwise=ADVICE)


def _encoder(index: Index, loading: dict[str, Any]) -> Iterator[Check]:
    if index.settings.encoder_source == NO_ENCODER:
        yield Check(AREA, "fingerprint", OK, "no encoder: its vectors were brought along")
        return
    try:
        encoder = load_encoder(index.settings, **loading)
    except RagvecError as error:
        yield Check(
            AREA, "fingerprint", FAILED, str(error), remedy="bring the encoder back, or build the index again with another"
        )
        return
    yield Check(AREA, "fingerprint", OK, f"{index.settings.encoder_source} is the encoder it was built with")
    yield from examine_loaded(encoder)
