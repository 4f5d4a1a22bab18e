"""What encoding a corpus will take, predicted from a sample that is really encoded, stored and indexed."""

import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.parquet as pq

from ragvec.corpus.passages import CorpusOptions, cut_for, open_documents, usually_cut
from ragvec.index import Index
from ragvec.index.ann.choice import planned_bytes
from ragvec.index.encoder import own_if_none
from ragvec.ingest import PART_ROWS, encode_corpus
from ragvec.ingest.build import build
from ragvec.ingest.encode import PART_CHARACTERS
from ragvec.ingest.estimate import estimated_on_h100
from ragvec.ingest.run import PARTS_AHEAD
from ragvec.records import Document, Passage

if TYPE_CHECKING:
    from ragvec.encoder import Encoder

SAMPLE = 1000  # documents: their mean length is then within about 6 % of the corpus' in 19 of 20 samples
SAMPLE_SECONDS = 20.0
_FIRST = 32  # passages that are encoded first, to know how many can be in SAMPLE_SECONDS
_PARTS_IN_MEMORY = PARTS_AHEAD + 1  # and the one being read
_PASSAGE_BYTES = 1200  # of a passage's Python objects in memory, besides its characters


class Plan(NamedTuple):
    """A prediction; bytes are on disk but for memory.

    seconds   of encoding on `devices` devices, without loading the encoder; memory_bytes: the most a process takes
    index_bytes   of an index with the default choice of how it is searched
    sampled   passages that were encoded to find out
    estimated what the speed is worked out from, where it could not be measured here
    """

    documents: int
    passages: int
    tokens: int
    truncated: int
    dimension: int
    devices: int
    tokens_per_s: float
    seconds: float
    memory_bytes: int
    gpu_memory_bytes: int | None
    shards_bytes: int
    index_bytes: int
    sampled: int
    estimated: str = ""


def plan_corpus(
    source: str | Path,
    encoder: "Encoder",
    *,
    reading: CorpusOptions | None = None,
    id_prefix: str = "",
    instruction: str | None = None,
    dtype: str = "float16",
    normalize: bool = True,
    devices: int = 1,
    nodes: int = 1,
    gpus: int | None = None,
    sample: int = SAMPLE,
    sample_seconds: float = SAMPLE_SECONDS,
) -> Plan:
    """Read the whole corpus once, which costs little beside encoding it; encode some of it, and scale up.

    id_prefix as in `read_documents`: an id that two files have stops the plan, as it will stop encoding
    encoder   a `ragvec.Encoder`; dtype, normalize, instruction: as for `encode_corpus`
    devices   of this machine that encode
    nodes     machines like this one that share the corpus
    gpus      of each of them, instead; where this one has none, how fast they are is estimated (H100)
    sample    most documents to try; fewer where they would take more than sample_seconds
    Raises RagvecError for a corpus that can't be read, and WrongUsage for an estimate of a small encoder's speed on GPUs.
    """
    devices = nodes * (gpus or devices)
    estimate = None if gpus is None or encoder.device.type == "cuda" else estimated_on_h100(encoder)
    reading = reading or CorpusOptions()
    instruction = own_if_none(encoder, instruction)
    documents, chosen = draw(open_documents(source, reading, id_prefix=id_prefix, on_unread=lambda unread: None), sample)
    reading = usually_cut(reading, [source], encoder, instruction)
    passages = list(cut_for(chosen, reading, encoder, instruction))
    per_document = len(passages) / len(chosen)
    tried = _evenly(passages, _affordable(encoder, passages, instruction, sample_seconds / 2))  # twice
    scale = documents * per_document / len(tried)
    with tempfile.TemporaryDirectory(prefix="ragvec-plan-") as folder:
        shards = Path(folder) / "shards"
        how: dict[str, Any] = {"instruction": instruction, "dtype": dtype, "normalize": normalize}
        report = encode_corpus(tried, encoder, shards, **how)
        steady = encode_corpus(tried, encoder, Path(folder) / "again", **how).seconds  # what only a start costs is over
        data = sum(map(_data_bytes, shards.rglob("*.parquet")))
        memory = peak_memory() + _PARTS_IN_MEMORY * _part_memory(passages, documents * per_document, encoder.dimension)
        with Index.create(Path(folder) / "empty", encoder=encoder):
            pass
        build(shards, Path(folder) / "index")
        empty, filled = (folder_bytes(Path(folder) / name) for name in ("empty", "index"))
    rows = round(documents * per_document)
    rate = report.tokens / steady if estimate is None else estimate.tokens_per_s
    starting = max(report.seconds - steady, 0.0) if estimate is None else 0.0
    return Plan(
        documents=documents,
        passages=rows,
        tokens=round(report.tokens * scale),
        truncated=round(report.truncated * scale),
        dimension=encoder.dimension,
        devices=devices,
        tokens_per_s=rate * devices,
        seconds=starting + report.tokens * scale / (rate * devices),
        memory_bytes=memory,
        gpu_memory_bytes=_gpu_memory(encoder),
        shards_bytes=round(report.bytes + data * (scale - 1)),
        index_bytes=round(empty + (filled - empty) * scale) + planned_bytes(rows, encoder.dimension),
        sampled=len(tried),
        estimated="" if estimate is None else estimate.told,
    )


def draw(documents: Iterable[Document], size: int) -> tuple[int, list[Document]]:
    """How many documents there are, and `size` of them drawn evenly from all, in the corpus' order; the same ones each time."""
    chance = random.Random(0)
    stream = enumerate(documents)
    chosen = list(islice(stream, size))
    count = len(chosen)
    for number, document in stream:
        count = number + 1
        place = chance.randrange(count)
        if place < size:
            chosen[place] = (number, document)
    return count, [document for _, document in sorted(chosen, key=lambda row: row[0])]


def folder_bytes(folder: Path) -> int:
    """The bytes of all files in a folder and below it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _data_bytes(path: Path) -> int:
    """The bytes of a Parquet file that grow with its rows."""
    about = pq.read_metadata(path)
    return sum(about.row_group(group).column(column).total_compressed_size
               for group in range(about.num_row_groups) for column in range(about.num_columns))  # fmt: skip


def peak_memory() -> int:
    """The most bytes that this process has had in memory so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _evenly(passages: list[Passage], count: int) -> list[Passage]:
    """So many passages, from all over the corpus: those of its beginning may be shorter than the others."""
    count = min(count, len(passages))
    return [passages[number * len(passages) // count] for number in range(count)]


def _affordable(encoder: "Encoder", passages: list[Passage], instruction: str, seconds: float) -> int:
    """How many passages can be encoded in so many seconds; encoding some also warms the encoder up."""
    first = [passage.encoded_text for passage in _evenly(passages, _FIRST)]
    encoder.encode_counted(first, instruction=instruction)
    started = time.perf_counter()
    encoder.encode_counted(first, instruction=instruction)
    each = (time.perf_counter() - started) / len(first)
    return max(len(first), int(min(len(passages), seconds / each)))


def _part_memory(passages: list[Passage], rows: float, dimension: int) -> int:
    """Bytes of one part in memory: its passages, and its vectors as computed."""
    characters = sum(len(passage.text) for passage in passages) / len(passages)
    held = min(rows, PART_ROWS, PART_CHARACTERS / max(characters, 1))
    return round(held * (_PASSAGE_BYTES + characters * 1.5 + dimension * 4))


def _gpu_memory(encoder: "Encoder") -> int | None:
    if encoder.device.type != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_reserved(encoder.device)
