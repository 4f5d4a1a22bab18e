"""One run over a corpus: each part is kept, taken back, or made anew, while the one before it is being written."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import numpy as np

from ragvec.corpus.files import InputFile
from ragvec.errors import RagvecError
from ragvec.ingest.blocks import BlockEncoder, Encodes
from ragvec.ingest.folder import FinishedPart, set_aside, set_aside_parts, sweep, take_back
from ragvec.ingest.meter import Meter
from ragvec.ingest.reuse import OldVectors
from ragvec.records import Passage
from ragvec.shards import (
    Failure,
    Manifest,
    Part,
    PartVectors,
    part_is_whole,
    recall_of,
    restore,
    save_manifest,
    write_part,
)
from ragvec.shards.storage import empty

_SAMPLE = 2000  # vectors of the first part on which the loss by storing is measured


class Run:
    """Brings parts to disk in order. Use as a context: leaving it waits for what is being written."""

    def __init__(
        self, folder: Path, manifest: Manifest, encoder: Encodes, meter: Meter, elsewhere: Sequence[FinishedPart] = ()
    ) -> None:
        """manifest: as it is on disk. elsewhere: finished parts outside the folder that may be of use."""
        self.folder, self.manifest, self.meter = folder, manifest, meter
        self.done = self.damaged = 0
        self._elsewhere = list(elsewhere)
        self._blocks = BlockEncoder(encoder, manifest.provenance)
        self._old: tuple[tuple[Part, ...], OldVectors] | None = None
        self._writer = ThreadPoolExecutor(1, "write")
        self._writing: Future | None = None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_) -> None:
        if self._writing:
            wait([self._writing])
        self._writer.shutdown()

    def part(self, passages: list[Passage], digest: str) -> None:
        """Bring the next part to disk, by the cheapest way that is right."""
        parts = self.manifest.parts
        recorded = parts[self.done] if self.done < len(parts) else None
        same = recorded is not None and recorded.content_digest == digest and not recorded.failed
        if same and part_is_whole(self.folder / recorded.name, recorded):
            self.meter.count_kept(recorded.rows, recorded.truncated)
            self.done += 1
            return
        if same:
            self.damaged += 1
        elif recorded:
            self._settle()
            self.manifest = set_aside(self.folder, self.manifest, self.done)
        name = f"part-{self.done:05d}.parquet"
        part = take_back(self.folder, self._finished(), digest, name)
        if part:
            self._settle()
            self._record(self.done, part)
            self.meter.count_reused(part.rows, part.truncated)
        else:
            made = self._make(passages)
            self._settle()
            self._writing = self._writer.submit(self._write, self.done, name, digest, *made)
        self.done += 1

    def finish(self, inputs: tuple[InputFile, ...], corpus_digest: str = "", rejected: int = 0) -> None:
        """Declare the folder complete, then remove what the corpus no longer needs."""
        self._settle()
        complete = replace(
            self.manifest,
            parts=self.manifest.parts[: self.done],
            previous=(),
            inputs=inputs,
            complete=True,
            corpus_digest=corpus_digest,
            rejected=rejected,
        )
        if complete != self.manifest:
            save_manifest(self.folder, complete)
        self.manifest = complete
        sweep(self.folder, complete)

    def _settle(self) -> None:
        """Wait until the part before is on disk; its errors are raised here."""
        if self._writing:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, number, name, digest, passages, vectors, failed, recall) -> None:
        part = write_part(
            self.folder, name, passages, vectors, self.manifest.provenance, digest=digest, failed=failed, recall=recall
        )
        self._record(number, part)

    def _record(self, number: int, part: Part) -> None:
        parts = (*self.manifest.parts[:number], part, *self.manifest.parts[number + 1 :])
        self.manifest = replace(self.manifest, parts=parts, complete=False)
        save_manifest(self.folder, self.manifest)

    def _finished(self) -> list[FinishedPart]:
        return [*set_aside_parts(self.folder, self.manifest), *self._elsewhere]

    def _old_vectors(self) -> OldVectors | None:
        if not (self.manifest.previous or self._elsewhere):
            return None
        if self._old is None or self._old[0] != self.manifest.previous:
            self._old = self.manifest.previous, OldVectors(self._finished())
        return self._old[1]

    def _make(self, passages: list[Passage]) -> tuple[list[Passage], PartVectors, list[Failure], float | None]:
        """A part's passages with vectors, an earlier run's where the text is the same; those that failed; the recall."""
        provenance = self.manifest.provenance
        rows = len(passages)
        out = PartVectors(empty(rows, provenance.dtype, provenance.dimension), np.zeros(rows, np.int32), np.zeros(rows, bool))
        old = self._old_vectors()
        missing = old.fill(passages, out) if old else list(range(rows))
        if reused := rows - len(missing):
            self.meter.count_reused(reused, int(out.truncated.sum()))
        failed: dict[int, Failure] = {}
        sample = [] if self.done == 0 and not reused and provenance.dtype != "float32" else None
        for block in self._blocks.encode(passages, missing):
            out.stored.put(block.rows, block.stored)
            out.token_counts[block.rows] = block.token_counts
            out.truncated[block.rows] = block.truncated
            self.meter.count_encoded(block.token_counts, block.truncated)
            for row, failure in block.failed:
                failed[row] = failure
                self.meter.count_failed(failure)
            if sample is not None and sum(map(len, sample)) < _SAMPLE:
                sample.append(block.vectors)
        if failed:
            return self._without(passages, out, failed)
        return passages, out, [], self._recall(out, sample)

    def _without(self, passages, out, failed):
        good = [row for row in range(len(passages)) if row not in failed]
        if not good:
            first = failed[min(failed)]
            raise RagvecError(f"no passage of this part could be encoded; the first, {first.passage_id!r}: {first.error}")
        return [passages[row] for row in good], out.rows(good), [failed[row] for row in sorted(failed)], None

    def _recall(self, out: PartVectors, sample: list[np.ndarray] | None) -> float | None:
        if not sample:
            return None
        provenance = self.manifest.provenance
        exact = np.concatenate(sample)[:_SAMPLE]
        return recall_of(exact, restore(out.stored.rows(range(len(exact))), provenance.dtype, provenance.dimension))
