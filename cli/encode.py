"""`ragvec encode`: a corpus in, Parquet shards out."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from ragvec.cli.choices import (
    AllDevices,
    DocumentInstruction,
    EncoderSource,
    Offline,
    PromptName,
    Revision,
    TruncateDim,
    given,
    prompted,
)
from ragvec.cli.corpus_options import (
    CUT_HINT,
    AcrossPages,
    DropFields,
    Exclude,
    IdField,
    IdPrefix,
    Include,
    MaxValueMb,
    MetadataFields,
    OnError,
    OnErrorChoice,
    Overlap,
    PassageTokens,
    QuarantineFile,
    TextEncoding,
    TextFields,
    TextLines,
    TextSuffixes,
    arguments_of,
    corpus_options,
    quarantine_file,
    report_failed,
    report_quarantined,
    report_unread,
)
from ragvec.cli.encode_options import (
    BatchTokens,
    Compile,
    ComputeDtype,
    Corpus,
    LogJson,
    LongestPrompt,
    Normalize,
    OnRay,
    OutputPlace,
    Overwrite,
    PartRows,
    Processes,
    RankNumber,
    SingleWriter,
    StoredDtype,
    Summary,
    VectorDtype,
    WorldSize,
)
from ragvec.cli.output import Form, report_skipped, wants_json
from ragvec.errors import WrongInput, WrongUsage

if TYPE_CHECKING:
    from ragvec.corpus import Rejected
    from ragvec.corpus.passages import CorpusOptions
    from ragvec.corpus.quarantine import Quarantine
    from ragvec.encoder import Encoder, EncoderSettings
    from ragvec.ingest import EncodeReport, Rank
    from ragvec.ingest.on_ray import RayActors

Log = Callable[[dict[str, Any]], None]
_BYTES_PER_TOKEN = 4  # of a corpus, about; compressed ones hold more than that


PAGE = "encoding.md"
EXAMPLES = (
    "ragvec encode corpus.jsonl -o shards",
    "ragvec encode papers/ -o shards --passage-tokens 128 --encoder my-encoder",
    "ragvec index shards",
)


def run(
    context: typer.Context,
    corpus: Corpus,
    output: OutputPlace,
    encoder: EncoderSource = None,
    revision: Revision = None,
    instruction: DocumentInstruction = None,
    prompt_name: PromptName = None,
    max_length: LongestPrompt = None,
    passage_tokens: PassageTokens = None,
    overlap: Overlap = 0,
    across_pages: AcrossPages = False,
    text_fields: TextFields = None,
    id_field: IdField = None,
    id_prefix: IdPrefix = None,
    metadata_fields: MetadataFields = None,
    drop_fields: DropFields = None,
    text_lines: TextLines = False,
    max_value_mb: MaxValueMb = None,
    encoding: TextEncoding = None,
    include: Include = None,
    exclude: Exclude = None,
    text_suffixes: TextSuffixes = None,
    on_error: OnError = OnErrorChoice.stop,
    quarantine: QuarantineFile = None,
    batch_tokens: BatchTokens = None,
    device: AllDevices = None,
    dtype: ComputeDtype = None,
    offline: Offline = False,
    torch_compile: Compile = None,
    vector_dtype: StoredDtype = VectorDtype.float16,
    truncate_dim: TruncateDim = None,
    normalize: Normalize = True,
    part_rows: PartRows = None,
    processes: Processes = None,
    rank: RankNumber = None,
    world_size: WorldSize = None,
    ray: OnRay = None,
    log_json: LogJson = None,
    overwrite: Overwrite = False,
    single_writer: SingleWriter = False,
    format: Summary = None,
) -> None:
    """Encode a corpus, or say which of its parts are left."""
    reading = corpus_options(**arguments_of(corpus_options, locals()))
    from ragvec.ingest import PART_ROWS, Output, encode_corpus

    Output(output, single_writer=single_writer).check_usable()
    place = _rank(rank, world_size, ray)
    if place.number == 0:
        report_skipped(corpus, reading.files)
    if ray is None and len(devices := _devices(corpus, device, processes, place)) > 1:
        return _encode_in_processes(context.obj, output, devices, format)
    loaded, actors, lasting = _loaded(**arguments_of(_loaded, locals()))
    instruction = _instruction(loaded.settings, prompted(instruction, prompt_name, encoder, revision=revision, offline=offline))
    rejects = _rejects(quarantine, output, corpus, place) if on_error is OnErrorChoice.skip else None
    source = ToEncode(corpus, reading, instruction, id_prefix=id_prefix or "", on_reject=rejects, unread=[])
    encode = partial(encode_corpus, instruction=instruction, encoder_options=lasting, dtype=vector_dtype.value,
        normalize=normalize, part_rows=part_rows or PART_ROWS, overwrite=overwrite, single_writer=single_writer)  # fmt: skip
    how = {"place": place, "log_json": log_json, "actors": actors, "shared": not (overwrite or single_writer)}
    _finish(_encode(source, loaded, output, encode, **how), output, format, source)


def _rank(number: int | None, world: int | None, ray: str | None) -> "Rank":
    """Which process this is. Raises WrongUsage for one of several that would each ask Ray for the whole."""
    from ragvec.ingest import Rank

    if not world or world == 1:
        return Rank()
    if ray is not None:
        raise WrongUsage("Ray shares the work out by itself: leave `rank` and `world_size` out (RANK, WORLD_SIZE), or `ray`")
    return Rank(number or 0, world)


def goes_on(*, overwrite: bool, **_: Any) -> str:
    """What an interruption leaves: finished parts, which the next run takes up unless it replaces them."""
    return "the same command goes on where it stopped" + (", without --overwrite" if overwrite else "")


def _rejects(chosen: Path | None, output: str, corpus: str, place: "Rank") -> "Quarantine":
    """What keeps the rows that can't be read; each rank meets all of them, and the first alone writes them down."""
    from ragvec.corpus.quarantine import Quarantine

    return Quarantine(quarantine_file(chosen, output, [corpus]) if place.number == 0 else None)


class ToEncode(NamedTuple):
    """What is encoded: a corpus, how it is read and cut, what stands before passages and ids, what could not be read."""

    corpus: str
    reading: "CorpusOptions"
    instruction: str
    id_prefix: str
    on_reject: "Quarantine | None"
    unread: "list[Rejected]"

    def count_rejected(self) -> int:
        """How many rows and files could not be read so far."""
        return len(self.unread) + (self.on_reject.count if self.on_reject else 0)


def _instruction(settings: "EncoderSettings", asked: str | None) -> str:
    return settings.document_instruction if asked is None else asked


def _encode(
    source: ToEncode,
    encoder: "Encoder",
    output: str,
    encode: "Callable[..., EncodeReport]",
    *,
    place: "Rank",
    log_json: str | None,
    actors: "RayActors | None",
    shared: bool,
) -> "EncodeReport":
    """Encode it as this rank; the passages are counted and the speed is measured where somebody looks.

    shared: in object storage, with other writers, of which one may be lost: the corpus is read again for what it has not made
    """
    from ragvec.corpus.files import InputFile
    from ragvec.corpus.passages import Expected, cut_for, open_documents, usually_cut
    from ragvec.encoder.speed import Speed
    from ragvec.ingest import in_turns
    from ragvec.objects import is_url

    watched = sys.stderr.isatty() or bool(log_json)
    inputs: list[InputFile] = []
    with source.on_reject or nullcontext() as on_reject, actors or nullcontext(), ExitStack() as stack:
        heard: dict[str, Any] = {"on_reject": on_reject, "on_unread": source.unread.append, "on_file": inputs.append}
        unheard = dict.fromkeys(heard, lambda _: None) | ({} if on_reject else {"on_reject": None})
        reading = usually_cut(source.reading, [source.corpus], encoder, source.instruction)
        log = _log(log_json, place.number, stack) if log_json else None

        def turn(rank: "Rank", *, first: bool) -> "EncodeReport":
            expected = Expected([source.corpus], reading, among=rank.of) if watched else None
            documents = open_documents(source.corpus, reading, id_prefix=source.id_prefix, **(heard if first else unheard))
            return encode(
                cut_for(documents, reading, encoder, source.instruction, expected=expected),
                encoder,
                output,
                inputs=inputs,
                count_rejected=source.count_rejected,
                rank=rank,
                total=expected,
                show_progress=place.number == 0,
                speed=Speed(encoder) if watched and actors is None else None,
                elsewhere=actors,
                log=log,
            )

        return in_turns(turn, place) if shared and is_url(output) else turn(place, first=True)


def _encode_in_processes(words: Sequence[str], output: str, devices: Sequence[str], format: Form | None) -> None:
    """Run this command once for each device, and print what all of them did."""
    from ragvec.ingest.processes import encode_in_processes

    _finish(encode_in_processes(words, output, devices), output, format)


def _devices(corpus: str, device: str | None, processes: int | None, place: "Rank") -> list[str]:
    """Where processes run that this one starts, one each; one or none: it encodes by itself.

    Raises RagvecError for standard input, which only one can read.
    """
    from ragvec.corpus.files import STDIN

    place.check()
    devices = [device or "cpu"] * processes if processes else _all_gpus(device) if place.of == 1 else []
    if corpus == STDIN and (place.of > 1 or len(devices) > 1):
        raise WrongUsage("standard input can't be read by several processes: save it to a file, or use --processes 1")
    return _numbered(devices)


def _load(
    source: str | None, options: dict[str, Any], *, compiled: bool | None, corpus: str, reading: "CorpusOptions", place: "Rank"
) -> "Encoder":
    """The encoder, its layers compiled where that was asked for or repays itself, its loss told where its weights are int8."""
    from ragvec.encoder import Encoder  # only once the paths are right: loading takes seconds

    loaded = Encoder.load(source, torch_compile=bool(compiled), **options)
    if compiled is None and _repays_compiling(loaded, corpus, reading, place.of):
        loaded.compile()
    if loaded.int8_measured and place.number == 0:
        line = "int8 weights: cosine {:.4f} to the vectors without them, {:.4f} at least; largest layer {:.1f} times as fast"
        print(line.format(*loaded.int8_measured), file=sys.stderr)
    return loaded


def _loaded(
    *,
    encoder: str | None,
    revision: str | None,
    max_length: int | None,
    truncate_dim: int | None,
    device: str | None,
    dtype: str | None,
    offline: bool,
    batch_tokens: int | None,
    torch_compile: bool | None,
    corpus: str,
    reading: "CorpusOptions",
    place: "Rank",
    ray: str | None,
    processes: int | None,
) -> "tuple[Encoder, RayActors | None, dict[str, Any]]":
    """The encoder, the actors that compute in its stead on Ray, and the options that change vectors, which are recorded.

    With actors it is loaded on this machine's CPU, where it cuts passages and says what the others' must be.
    """
    lasting = given(revision=revision, max_length=max_length, truncate_dim=truncate_dim)
    chosen: dict[str, Any] = {"device": device or _own_gpu(place.of), "dtype": dtype, "offline": offline}
    chosen["batch_tokens"] = batch_tokens
    about: dict[str, Any] = {"corpus": corpus, "reading": reading, "place": place}
    if ray is None:
        return _load(encoder, {**lasting, **chosen}, compiled=torch_compile, **about), None, lasting
    loaded = _load(encoder, {**lasting, "device": "cpu", "offline": offline}, compiled=False, **about)
    from ragvec.encoder import Encoder
    from ragvec.ingest.on_ray import RayActors

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of what runs here
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of parts that a run which stopped did not wait for
    load = partial(Encoder.load, encoder, torch_compile=bool(torch_compile), **lasting, **chosen)
    return loaded, RayActors(load, loaded.fingerprint, address=ray, actors=processes), lasting


def _all_gpus(device: str | None) -> list[str]:
    """A device for each of several GPUs; nothing where one process is enough."""
    if device is not None:
        return []
    import torch

    count = torch.cuda.device_count()
    return [f"cuda:{number}" for number in range(count)] if count > 1 else []


def _numbered(devices: list[str]) -> list[str]:
    """cuda, cuda … become cuda:0, cuda:1 …"""
    return [f"cuda:{number}" if device == "cuda" else device for number, device in enumerate(devices)]


def _own_gpu(world: int) -> str | None:
    """The GPU that torchrun or SLURM means this process to use."""
    if world == 1:
        return None
    import torch

    count = torch.cuda.device_count()
    local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0"
    return f"cuda:{int(local) % count}" if count else None


def _repays_compiling(encoder: "Encoder", corpus: str, reading: "CorpusOptions", world: int) -> bool:
    """Whether this process' share of the corpus is large enough to compile for it; unknown for standard input."""
    from ragvec.corpus.files import STDIN, corpus_files, file_size
    from ragvec.encoder.speed import compiling_repays

    if encoder.device.type != "cuda" or corpus == STDIN:
        return False
    size = sum(map(file_size, corpus_files(corpus, reading.files).paths))
    return compiling_repays(encoder, size / _BYTES_PER_TOKEN / world)


def _log(path: str, rank: int, stack: ExitStack) -> Log:
    """Writes records as lines, with the rank's number."""
    try:
        file = sys.stderr if path == "-" else stack.enter_context(open(path, "a", encoding="utf-8"))  # noqa: SIM115
    except OSError as error:
        raise WrongInput(f"{path} cannot be written: {error.strerror}") from error

    def write(record: dict[str, Any]) -> None:
        file.write(json.dumps({"rank": rank, **record}, ensure_ascii=False) + "\n")
        file.flush()

    return write


def _finish(report: "EncodeReport", output: str, format: Form | None, source: ToEncode | None = None) -> None:
    """Print what was done, and name what was not; source: None = other processes read it, and have said that."""
    from ragvec.shards import manifest_at

    as_json = wants_json(format)
    print(json.dumps(report._asdict(), ensure_ascii=False) if as_json else _sentence(report))
    if source is not None:
        report_unread(source.unread)
        if source.on_reject is not None:
            report_quarantined(source.on_reject.count, source.on_reject.path)
    report_failed(manifest_at(output).failed if report.complete else (), report.failed)


def _sentence(report: "EncodeReport") -> str:
    origins = {"already there": report.kept, "with vectors of an earlier run": report.reused}
    notes = [f"{count:,} {origin}" for origin, count in origins.items() if count]
    if report.damaged:
        notes.append(f"{report.damaged:,} damaged files made anew")
    loss = f"; recall@10 {report.recall:.3f} of float32's" if report.recall is not None else ""
    hint = f" ({CUT_HINT})" if report.truncated else ""
    waiting = "" if report.complete else "; the folder is complete once the other ranks are"
    return (
        f"{report.folder}: {report.rows:,} passages, {report.tokens:,} tokens, {report.truncated:,} truncated{hint}, "
        f"in {report.seconds:.1f} s" + (f" ({', '.join(notes)})" if notes else "") + loss + waiting
    )
