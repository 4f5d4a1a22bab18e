"""Encode a corpus of any size into shards: in parts, resumable at any kill, and only what is new."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ragvec.corpus.files import InputFile
from ragvec.encoder.protocol import TextEncoder
from ragvec.errors import WrongInput, WrongUsage
from ragvec.index.encoder import own_if_none
from ragvec.ingest.blocks import Computes
from ragvec.ingest.bucket_shelf import bucket_shelf, check_bucket_for
from ragvec.ingest.folder import check_folder
from ragvec.ingest.folder_shelf import check_folder_for, folder_shelf
from ragvec.ingest.meter import MeasuresWork, Meter, Total
from ragvec.ingest.ranks import OwnParts, Rank
from ragvec.ingest.run import Run
from ragvec.ingest.shelf import Finished, Shelf
from ragvec.objects import Bucket, ObjectPath, as_path
from ragvec.progress import progress_bar
from ragvec.records import Passage
from ragvec.shards import DTYPES, Manifest, Provenance, manifest_at
from ragvec.shards.stored import latest_version

PART_ROWS = 8192
PART_CHARACTERS = 1 << 26  # a part also ends here, so that long documents don't fill the memory


class EncodeReport(NamedTuple):
    """What a run did. rows, tokens and truncated count the whole corpus; encoded, reused and kept split rows by their origin.

    encoded   went through the encoder now; reused: an earlier run's vector of the same text in a part written anew
    kept      in parts that an earlier run, or another writer, had finished; damaged: parts found broken and written anew
    failed    passages that could not be encoded and have no row; their ids are in the manifest
    recall    recall@10 of the vectors as stored against float32, measured on the first part; None = not measured
    complete  false for a rank that others are still to follow: its figures count its own parts only; in object storage, also
              where another writer was lost: call again, see `in_turns`
    """

    folder: str
    rows: int
    tokens: int
    truncated: int
    encoded: int
    reused: int
    kept: int
    damaged: int
    failed: int
    parts: int
    bytes: int
    recall: float | None
    complete: bool
    seconds: float


def encode_corpus(
    passages: Iterable[Passage],
    encoder: TextEncoder,
    folder: str | Path,
    *,
    instruction: str | None = None,
    dtype: str = "float16",
    normalize: bool = True,
    inputs: Sequence[InputFile] = (),
    count_rejected: Callable[[], int] = lambda: 0,
    encoder_options: dict[str, Any] | None = None,
    part_rows: int = PART_ROWS,
    overwrite: bool = False,
    single_writer: bool = False,
    rank: Rank = Rank(),  # noqa: B008 - a tuple
    total: Total = None,
    show_progress: bool = False,
    speed: MeasuresWork | None = None,
    log: Callable[[dict[str, Any]], None] | None = None,
    elsewhere: Computes | None = None,
) -> EncodeReport:
    """Encode passages into a folder of shards, here or in object storage; the same call after a kill goes on where it stopped.

    folder   a path, or a URL: s3://bucket/path, gs://…, az://…
    instruction  read before every passage; None = the encoder's own for documents, which most have not
    dtype    of the stored vectors: float16, float32, int8 (a scale for each vector) or binary (the signs)
    inputs   the corpus files to record; may fill up while `passages` is read (`read_documents(…, on_file=inputs.append)`)
    count_rejected   asked at the end how many rows and files of the corpus could not be read; recorded
    encoder_options  what else `Encoder.load` was given; recorded
    single_writer    nobody else writes to this URL: for a store that can't tell two writers apart
    rank     one of several processes with the same passages and the same folder; each encodes its share
    total    about how many passages there are, for the progress bar; speed: for the share of the machine's peak
    log      called with a record of counts and rates every ten seconds, for each failure, and at the end
    elsewhere  where parts are computed, such as `ragvec.ingest.on_ray.RayActors`; None = by the encoder, here
    A finished part is kept if the corpus still has the same passages there and its checksum holds; a passage that moved keeps
    its vector, found by content hash. A passage that fails is left out, named in the manifest, and tried again by the next run.
    Memory holds four parts, and 24 bytes a row of the earlier run once the corpus has changed.
    Raises RagvecError if the folder was made by another encoder or with other settings (`overwrite` starts afresh), holds
    something else, or is being written by another run; for passages that fail one after another, an empty corpus, a full disk.
    """
    rank.check()
    started = time.monotonic()
    place = Output(folder, single_writer=single_writer)
    instruction = own_if_none(encoder, instruction)
    provenance = _provenance(encoder, instruction=instruction, dtype=dtype, normalized=normalize, options=encoder_options or {})
    place.check(provenance, overwrite=overwrite)
    own = OwnParts(cut_parts(passages, part_rows), rank)
    parts = iter(own)
    first = next(parts, None)  # read before anything is created: a corpus with an error in its first lines leaves no trace
    if not own.digests:
        raise WrongInput("there is nothing to encode: the corpus holds no passages")
    with (
        place.shelf(provenance, rank=rank, overwrite=overwrite) as shelf,
        progress_bar("encode", total=None, unit="passages", show=show_progress) as bar,
        Run(shelf, encoder, Meter(bar, total=total, speed=speed, log=log), elsewhere) as run,
    ):
        run.encode(chain([first] if first else [], parts))
        finished = shelf.finish(own.digests, inputs=tuple(inputs), rejected=count_rejected())
        run.meter.finish()
    return _report(run, finished, place.shown, time.monotonic() - started)


def in_turns(turn: Callable[..., EncodeReport], rank: Rank) -> EncodeReport:
    """Encode with other writers into object storage until all is there, whoever of them is lost.

    turn(rank, first=…)   reads the corpus, and calls `encode_corpus` with `rank`. After a rank's own share come the parts that
                          nobody else has begun, or that were begun by a writer of whom nothing is heard any more
    """
    reports = [turn(rank, first=True)]
    while not reports[-1].complete:
        reports.append(turn(Rank(), first=False))
    made = {name: sum(getattr(report, name) for report in reports) for name in ("encoded", "reused", "damaged", "seconds")}
    last = reports[-1]._replace(**made)
    if len(reports) == 1 and rank.of > 1:  # it counts its own parts, and what it found; a turn of all counts the whole
        return of_all(last)
    return last._replace(kept=last.rows - last.encoded - last.reused)


def of_all(report: EncodeReport) -> EncodeReport:
    """A report of one writer among several, with figures of the whole corpus, which must be there."""
    manifest = manifest_at(report.folder)
    return report._replace(
        **_figures(manifest), kept=manifest.rows - report.encoded - report.reused, complete=manifest.complete
    )


class Output:
    """Where a run writes to: a folder, or a URL of object storage."""

    def __init__(self, folder: str | Path, *, single_writer: bool = False) -> None:
        """single_writer: as for `encode_corpus`. Raises WrongInput for a URL that is none."""
        path = as_path(folder)
        self._where = Bucket(path, single_writer=single_writer) if isinstance(path, ObjectPath) else path
        self.shown = str(path)

    def check_usable(self) -> None:
        """Raises RagvecError where shards can't be written, whatever their vectors: said before an encoder is loaded."""
        if isinstance(self._where, Bucket):
            latest_version(self._where)
        else:
            check_folder(self._where)

    def check(self, provenance: Provenance, *, overwrite: bool) -> None:
        """Raises RagvecError, before anything is read or written, if what is there can't be gone on with."""
        if isinstance(self._where, Bucket):
            check_bucket_for(self._where, provenance, overwrite=overwrite)
        else:
            check_folder_for(self._where, provenance, overwrite=overwrite)

    def shelf(self, provenance: Provenance, *, rank: Rank, overwrite: bool) -> AbstractContextManager[Shelf]:
        """Where the parts come to stand."""
        if isinstance(self._where, Bucket):
            return bucket_shelf(self._where, provenance, rank=rank, overwrite=overwrite)
        return folder_shelf(self._where, provenance, rank=rank, overwrite=overwrite)


def _provenance(encoder: TextEncoder, *, instruction: str, dtype: str, normalized: bool, options: dict[str, Any]) -> Provenance:
    if dtype not in DTYPES:
        raise WrongUsage(f"unknown dtype {dtype!r} for stored vectors: choose one of {', '.join(DTYPES)}")
    return Provenance(
        source=str(encoder.source),
        fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
        instruction=instruction,
        dtype=dtype,
        normalized=normalized,
        options=options,
    )


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


def _report(run: Run, finished: Finished, folder: str, seconds: float) -> EncodeReport:
    manifest, meter = finished.manifest, run.meter
    return EncodeReport(
        folder=folder,
        encoded=meter.encoded,
        reused=meter.reused,
        kept=meter.kept,
        damaged=run.shelf.damaged,
        complete=finished.complete,
        seconds=seconds,
        **_figures(manifest),
    )


def _figures(manifest: Manifest) -> dict[str, Any]:
    return {
        "rows": manifest.rows,
        "tokens": manifest.tokens,
        "truncated": manifest.truncated,
        "failed": len(manifest.failed),
        "parts": len(manifest.parts),
        "bytes": sum(part.bytes for part in manifest.parts),
        "recall": manifest.recall,
    }
