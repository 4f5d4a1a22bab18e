"""Encode a corpus of any size into shards: in parts, resumable at any kill, and only what is new."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ragvec.corpus.files import InputFile
from ragvec.encoder.protocol import TextEncoder
from ragvec.errors import WrongInput, WrongUsage
from ragvec.index.encoder import own_if_none
from ragvec.ingest.folder import check_folder, locked, make_folder, set_aside, sweep
from ragvec.ingest.meter import MeasuresWork, Meter
from ragvec.ingest.ranks import OwnParts, Rank, parts_elsewhere, publish, rank_folder, remove_ranks
from ragvec.ingest.run import Run
from ragvec.progress import progress_bar
from ragvec.records import Passage
from ragvec.shards import DTYPES, MANIFEST, Manifest, Provenance, load_manifest, save_manifest

PART_ROWS = 8192
PART_CHARACTERS = 1 << 26  # a part also ends here, so that long documents don't fill the memory


class EncodeReport(NamedTuple):
    """What a run did. rows, tokens and truncated count the whole corpus; encoded, reused and kept split rows by their origin.

    encoded   went through the encoder now; reused: an earlier run's vector of the same text in a part written anew
    kept      in parts that an earlier run had finished; damaged: parts found broken and written anew
    failed    passages that could not be encoded and have no row; their ids are in the manifest
    recall    recall@10 of the vectors as stored against float32, measured on the first part; None = not measured
    complete  false for a rank that others are still to follow: its figures count its own parts only
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
    rank: Rank = Rank(),  # noqa: B008 - a tuple
    total: int | None = None,
    show_progress: bool = False,
    speed: MeasuresWork | None = None,
    log: Callable[[dict[str, Any]], None] | None = None,
) -> EncodeReport:
    """Encode passages into a folder of shards; the same call after a kill goes on where it stopped.

    instruction  read before every passage; None = the encoder's own for documents, which most have not
    dtype    of the stored vectors: float16, float32, int8 (a scale for each vector) or binary (the signs)
    inputs   the corpus files to record; may fill up while `passages` is read (`read_documents(…, on_file=inputs.append)`)
    count_rejected   asked at the end how many rows and files of the corpus could not be read; recorded
    encoder_options  what else `Encoder.load` was given; recorded
    rank     one of several processes with the same passages and the same folder; each encodes its share
    total    about how many passages there are, for the progress bar; speed: for the share of the machine's peak
    log      called with a record of counts and rates every ten seconds, for each failure, and at the end
    A finished part is kept if the corpus still has the same passages there and its checksum holds; a passage that moved keeps
    its vector, found by content hash. A passage that fails is left out, named in the manifest, and tried again by the next run.
    Memory holds four parts, and 24 bytes a row of the earlier run once the corpus has changed.
    Raises RagvecError if the folder was made by another encoder or with other settings (`overwrite` starts afresh), holds
    something else, or is being written by another run; for passages that fail one after another, an empty corpus, a full disk.
    """
    rank.check()
    started = time.monotonic()
    folder = Path(folder)
    target = rank_folder(folder, rank)
    instruction = own_if_none(encoder, instruction)
    provenance = _provenance(encoder, instruction=instruction, dtype=dtype, normalized=normalize, options=encoder_options or {})
    _starting_manifest(folder, provenance, overwrite)
    own = OwnParts(cut_parts(passages, part_rows), rank)
    parts = iter(own)
    first = next(parts, None)  # read before anything is created: a corpus with an error in its first lines leaves no trace
    if not own.digests:
        raise WrongInput("there is nothing to encode: the corpus holds no passages")
    make_folder(target)
    with (
        locked(target),
        progress_bar("encode", total=total, unit="passages", show=show_progress) as bar,
        _opened(
            folder,
            target,
            provenance,
            overwrite=overwrite,
            encoder=encoder,
            meter=Meter(bar, total=total, speed=speed, log=log),
        ) as run,
    ):
        run.encode(chain([first] if first else [], parts))
        run.finish(tuple(inputs), own.corpus_digest if rank.of > 1 else "", count_rejected())
        if rank.of == 1:
            remove_ranks(folder)
        run.meter.finish()
    complete = rank.of == 1 or publish(
        folder, rank.of, provenance, own.digests, inputs=tuple(inputs), rejected=count_rejected()
    )
    return _report(run, folder, complete, time.monotonic() - started)


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


def _opened(folder: Path, target: Path, provenance: Provenance, *, overwrite: bool, encoder: TextEncoder, meter: Meter) -> Run:
    """The run, its folder swept and its earlier parts at hand."""
    manifest = _starting_manifest(target, provenance, overwrite)
    elsewhere = [] if overwrite else parts_elsewhere(folder, target, provenance)
    if overwrite or not (target / MANIFEST).exists():
        save_manifest(target, manifest)  # before anything is removed or written: from now on the folder is this run's
    sweep(target, manifest)
    return Run(target, set_aside(target, manifest, len(manifest.parts)), encoder, meter, elsewhere=elsewhere)


def _report(run: Run, folder: Path, complete: bool, seconds: float) -> EncodeReport:
    manifest, meter = run.manifest, run.meter
    return EncodeReport(
        folder=str(folder),
        rows=manifest.rows,
        tokens=manifest.tokens,
        truncated=manifest.truncated,
        encoded=meter.encoded,
        reused=meter.reused,
        kept=meter.kept,
        damaged=run.damaged,
        failed=len(manifest.failed),
        parts=len(manifest.parts),
        bytes=sum(part.bytes for part in manifest.parts),
        recall=manifest.recall,
        complete=complete,
        seconds=seconds,
    )


def _starting_manifest(folder: Path, provenance: Provenance, overwrite: bool) -> Manifest:
    """The manifest to go on from. Raises RagvecError if the folder's vectors can't be mixed with this run's."""
    check_folder(folder)
    if overwrite or not (folder / MANIFEST).exists():
        return Manifest(provenance)
    manifest = load_manifest(folder)
    for name, there, wanted in _differences(manifest.provenance, provenance):
        raise WrongInput(
            f"{folder} holds vectors made with {name} {there}, this run has {wanted}: "
            "write to another folder, or replace them with `overwrite`"
        )
    return replace(manifest, provenance=provenance)  # the same encoder may have moved


def _differences(there: Provenance, wanted: Provenance) -> Iterator[tuple[str, str, str]]:
    if there.fingerprint != wanted.fingerprint:
        prints = [f"{provenance.source} (fingerprint {provenance.fingerprint[:12]})" for provenance in (there, wanted)]
        yield "encoder", prints[0], prints[1]
    for name in ("dimension", "instruction", "dtype", "normalized"):
        if getattr(there, name) != getattr(wanted, name):
            yield name, repr(getattr(there, name)), repr(getattr(wanted, name))
